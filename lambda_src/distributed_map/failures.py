"""Why items failed: the reason of each, and the same reasons together. Pure."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from alert.failure import classify, quotable, read_cause
from alert.reading import as_text, shortened, text_at

Side = Literal["Step Functions", "Lambda", "ECS", "application"]

LONGEST_MESSAGE = 1_000
LONGEST_LABEL = 100
MOST_SAMPLES = 3

MOST_MESSAGES = 50
"""How many messages of one error are told apart."""

MOST_GROUPS = 1_000

OTHER_MESSAGES = "other messages"
OTHER_ERRORS = "other errors"

_NUMBERS = re.compile(r"[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*|\d{5,}")
"""What is another one for each item: ids, and long numbers. Short ones may be exit codes."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why an item failed.

    Args:
        side: Where it failed.
        error: The error's name.
        message: What was said about it, at most 1,000 characters, and nothing that may be secret.
    """

    side: Side
    error: str
    message: str


def reason_of_child(status: str, error: str, cause: str) -> Reason:
    """Why a child failed, by what Step Functions says."""
    if not error and status == "TIMED_OUT":
        error = "States.Timeout"
    document = read_cause(cause)
    if "errorMessage" in document:
        name = text_at(document, "errorType") or error
        return Reason(side="Lambda", error=name, message=text_at(document, "errorMessage", LONGEST_MESSAGE))
    if error.startswith(("ECS.", "AmazonECS.")) or "Containers" in document or "StoppedReason" in document:
        return Reason(side="ECS", error=error, message=classify(error, cause, ()).summary)
    words = shortened(" ".join(quotable(cause).split()), LONGEST_MESSAGE)
    if error.startswith("Lambda."):
        return Reason(side="Lambda", error=error, message=words)
    if error.startswith("States."):
        return Reason(side="Step Functions", error=error, message=words)
    return Reason(side="application", error=shortened(error, 200) or "no error name", message=words)


def reason_of_answer(error: str, cause: str) -> Reason:
    """Why an item failed, by what its processor says."""
    message = shortened(" ".join(cause.split()), LONGEST_MESSAGE)
    return Reason(side="application", error=shortened(error, 200), message=message)


def label_of(item: str) -> str:
    """How people call an item: by its key, or by its beginning."""
    try:
        value = json.loads(item)
    except (ValueError, RecursionError):
        value = item
    if isinstance(value, dict):
        named = next((value[name] for name in ("Key", "key", "id", "name") if as_text(value.get(name))), None)
        value = value if named is None else named
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shortened(" ".join(text.split()), LONGEST_LABEL)


@dataclass(kw_only=True)
class Group:
    """Failures with one reason.

    Args:
        reason: That of the first one.
        count: Items.
        samples: The first items.
        execution: The ARN of the first child.
    """

    reason: Reason
    count: int = 0
    samples: list[str] = field(default_factory=list)
    execution: str | None = None

    def to_dict(self, *, link: str | None) -> dict[str, Any]:
        return {
            "side": self.reason.side,
            "error": self.reason.error,
            "message": self.reason.message,
            "count": self.count,
            "samples": self.samples,
            "link": link,
        }


class Groups:
    """Failures by their reason. Of however many there are, so much is kept and no more."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str], Group] = {}
        self._messages: dict[tuple[str, str], int] = {}

    def add(self, reason: Reason, label: str, execution: str | None) -> None:
        group = self._group(reason, label)
        group.count += 1
        if len(group.samples) < MOST_SAMPLES and label not in group.samples:
            group.samples.append(label)
        group.execution = group.execution or execution

    def most_first(self) -> list[Group]:
        return sorted(self._groups.values(), key=lambda group: -group.count)

    def _group(self, reason: Reason, label: str) -> Group:
        kind = (reason.side, reason.error)
        key = (*kind, _same_for_all_items(reason.message, label))
        if key not in self._groups:
            if len(self._groups) >= MOST_GROUPS:
                reason = Reason(side=reason.side, error=OTHER_ERRORS, message="")
            elif self._messages.get(kind, 0) >= MOST_MESSAGES:
                reason = Reason(side=reason.side, error=reason.error, message=OTHER_MESSAGES)
            else:
                self._messages[kind] = self._messages.get(kind, 0) + 1
                return self._groups.setdefault(key, Group(reason=reason))
            key = (reason.side, reason.error, reason.message)
        return self._groups.setdefault(key, Group(reason=reason))


def _same_for_all_items(message: str, label: str) -> str:
    if len(label) >= 3:
        message = message.replace(label, "…")
    return _NUMBERS.sub("#", message)


def in_words(groups: Iterable[Group], *, longest: int = 300) -> str:
    """One sentence for each group."""
    sentences = []
    for group in groups:
        reason = group.reason
        message = f": {shortened(reason.message, longest).rstrip('.')}" if reason.message else ""
        examples = f", for example {', '.join(group.samples)}" if group.samples else ""
        sentences.append(f"{group.count:,} \N{MULTIPLICATION SIGN} {reason.side} {reason.error}{message}{examples}.")
    return " ".join(sentences)

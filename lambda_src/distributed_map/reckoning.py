"""What became of the items of a run, and whether that is good enough. Pure.

Of the items themselves nothing is kept: those that are to run again, and a line about each failure and each notice, go
to files as they come.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alert.reading import shortened
from distributed_map.answers import DONE, Answer, UnreadableAnswerError, answer_of, answers_of
from distributed_map.failures import Groups, Reason, label_of, reason_of_answer, reason_of_child
from distributed_map.results import Child, UnreadableError
from json_text import one_line

MOST_NOTICES = 10
LONGEST_NOTICE = 200

_WORDS_OF_ONE = ('"error"', '"notice"')
"""An output of one item without these words says nothing but its result."""

STOPPED = Reason(side="Step Functions", error="Stopped", message="The run ended while the item was under way")


@dataclass(kw_only=True)
class Counts:
    """Items.

    Args:
        total: All of them.
        succeeded: Done.
        failed: Tried, and failed.
        not_run: Not done and not failed: never started, or stopped.
        stopped: Those of them that were under way when the run ended.
        unknown: Nobody can tell what became of these.
        notices: Notices, not items.
    """

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    not_run: int = 0
    stopped: int = 0
    unknown: int = 0
    notices: int = 0

    def to_dict(self) -> dict[str, int]:
        return {
            "total": self.total,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "notRun": self.not_run,
            "stopped": self.stopped,
            "unknown": self.unknown,
            "notices": self.notices,
        }


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How many items may fail.

    Args:
        kind: `none` and `collect` allow none, `count` so many, `percentage` so many in a hundred.
        value: How many.
    """

    kind: Literal["none", "count", "percentage", "collect"] = "none"
    value: float = 0

    def allows(self, counts: Counts) -> bool:
        """Whether what is not done is little enough. What was never tried is not done either."""
        missing = counts.failed + counts.not_run + counts.unknown
        if self.kind == "percentage":
            return missing * 100 <= self.value * counts.total
        return missing <= (self.value if self.kind == "count" else 0)

    def __str__(self) -> str:
        value = f"{self.value:g}"
        return {"count": value, "percentage": f"{value} %"}.get(self.kind, "0")


class Reckoner:
    """Adds up the children of a run.

    Args:
        again: Takes each item that is to run again, as JSON.
        failure: Takes a line about each item that failed or was stopped.
        notice: Takes a line about each notice.
    """

    def __init__(
        self, *, again: Callable[[str], None], failure: Callable[[bytes], None], notice: Callable[[bytes], None]
    ) -> None:
        self._again, self._failure, self._notice = again, failure, notice
        self.counts = Counts()
        self.groups = Groups()
        self.notices: list[dict[str, str]] = []
        self.answered_failures = 0
        """Items that failed in children that succeeded: a redrive does not run these again."""

    def add(self, child: Child) -> None:
        """Adds a child. One whose input is not readable is not counted, so its items are unknown."""
        try:
            if child.status == "SUCCEEDED":
                self._succeeded(child)
            elif child.status in ("FAILED", "TIMED_OUT"):
                self._failed(child)
            else:
                self._not_run(child)
        except UnreadableError:
            pass

    def _succeeded(self, child: Child) -> None:
        if not child.is_batch:
            if not any(word in child.output for word in _WORDS_OF_ONE):
                self.counts.succeeded += 1
                return
            self._answered(child, child.items, [answer_of(_value(child.output))], DONE)
            return
        items = child.items
        try:
            answers, whole = answers_of(_value(child.output), len(items))
        except UnreadableAnswerError as problem:
            unreadable = Answer(error="UnreadableAnswer", cause=str(problem))
            answers, whole = [unreadable] * len(items), DONE
        self._answered(child, items, answers, whole)

    def _answered(self, child: Child, items: Sequence[str], answers: Sequence[Answer], whole: Answer) -> None:
        for notice in whole.notices:
            self._notify(child, None, notice)
        for item, answer in zip(items, answers, strict=True):
            for notice in answer.notices:
                self._notify(child, item, notice)
            if answer.error is None:
                self.counts.succeeded += 1
            else:
                self.answered_failures += 1
                self._fail(child, item, reason_of_answer(answer.error, answer.cause))

    def _failed(self, child: Child) -> None:
        reason = reason_of_child(child.status, child.error, child.cause)
        for item in child.items:
            self._fail(child, item, reason)

    def _fail(self, child: Child, item: str, reason: Reason) -> None:
        self.counts.failed += 1
        self._again(item)
        self._tell(child, item, reason)
        self.groups.add(reason, label_of(item), child.execution)

    def _not_run(self, child: Child) -> None:
        for item in child.items:
            self.counts.not_run += 1
            self._again(item)
            if child.status == "ABORTED":
                self.counts.stopped += 1
                self._tell(child, item, STOPPED)

    def _tell(self, child: Child, item: str, reason: Reason) -> None:
        facts = {
            "side": reason.side,
            "error": reason.error,
            "cause": reason.message,
            "execution": child.execution,
        }
        self._failure(_line(item, facts))

    def _notify(self, child: Child, item: str | None, notice: object) -> None:
        self.counts.notices += 1
        self._notice(_line(item, {"notice": notice, "execution": child.execution}))
        if len(self.notices) < MOST_NOTICES:
            said = notice if isinstance(notice, str) else json.dumps(notice, ensure_ascii=False)
            label = "" if item is None else label_of(item)
            self.notices.append({"item": label, "notice": shortened(said, LONGEST_NOTICE)})


def _value(output: str) -> object:
    try:
        value: object = json.loads(output)
    except (ValueError, RecursionError):
        return output
    return value


def _line(item: str | None, facts: Mapping[str, Any]) -> bytes:
    """The item stands in it as it was written."""
    written = "null" if item is None else one_line(item)
    return f'{{"item": {written}, {json.dumps(facts)[1:]}\n'.encode()

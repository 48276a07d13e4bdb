"""What is to be done with the messages of a spool. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from spool.envelope import Envelope, UnreadableError, read
from spool.requests import Selection

Way = Literal["restart", "redrive", "drop"]
WAYS: tuple[Way, ...] = ("restart", "redrive", "drop")
"""What is done with a failure for good."""

NOT_LET_IN = ("Semaphore.Busy", "Semaphore.Paused", "Semaphore.WaitTimeout")
"""Errors of those that a semaphore did not let in: they were not tried, and say nothing of what is behind it."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message that nobody else sees for a while.

    Args:
        id: The same however often it is delivered.
        body: What it says.
        handle: By which this delivery is deleted or given back.
        sent_at: Seconds since the epoch.
        receives: How often it was delivered.
        attributes: As SQS has them.
    """

    id: str
    body: str
    handle: str
    sent_at: float = 0
    receives: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failure, with all messages that tell of it: one, but for the odd duplicate.

    Args:
        envelope: What failed.
        messages: All are deleted together.
    """

    envelope: Envelope
    messages: Sequence[Message]

    @property
    def id(self) -> str:
        return self.envelope.id

    @property
    def attempt(self) -> int:
        return self.envelope.attempt


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What lies in a queue.

    Args:
        failures: The oldest first.
        unreadable: Messages that are not ours, or not yet, and why.
    """

    failures: Sequence[Failure]
    unreadable: Sequence[tuple[Message, str]]


def sort_out(messages: Iterable[Message], *, key_path: str) -> Contents:
    """Reads messages, and puts the failures in order. Raises nothing, whatever they say."""
    unreadable: list[tuple[Message, str]] = []
    found: dict[tuple[str, int], Failure] = {}
    for message in messages:
        try:
            envelope = read(message.body, key_path=key_path)
        except UnreadableError as problem:
            unreadable.append((message, str(problem)))
            continue
        except Exception as problem:
            unreadable.append((message, f"the body cannot be read: {type(problem).__name__}: {problem}"))
            continue
        known = found.get((envelope.id, envelope.attempt))
        if known is None:
            found[envelope.id, envelope.attempt] = Failure(envelope=envelope, messages=[message])
        else:
            # The one that may be redriven says more.
            better = envelope if known.envelope.caught and not envelope.caught else known.envelope
            found[envelope.id, envelope.attempt] = Failure(envelope=better, messages=[*known.messages, message])
    return Contents(failures=sorted(found.values(), key=_order), unreadable=unreadable)


def _order(failure: Failure) -> tuple[float, str]:
    return (failed_at(failure.envelope), failure.envelope.execution)


def failed_at(envelope: Envelope) -> float:
    """Seconds since the epoch; 0, which is very old, where the text is no time."""
    try:
        time = datetime.fromisoformat(envelope.failed_at)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def matching(failures: Iterable[Failure], selection: Selection, *, now: float) -> list[Failure]:
    """Which failures are meant, the oldest first. `most` is not applied yet."""
    return [
        each for each in failures if selection.filters.match(each.envelope, max(0.0, now - failed_at(each.envelope)))
    ]


def way_for(envelope: Envelope, *, mode: str) -> Way:
    """How a failure is to be run again, if nobody settled it before."""
    return "redrive" if mode == "redrive" and not envelope.caught else "restart"


def is_target(envelope: Envelope, targets: Collection[str]) -> bool:
    """Whether its state machine may be started."""
    return envelope.state_machine in targets


def is_exhausted(attempt: int, *, pardoned: int, most_attempts: int, not_let_in: int = 0) -> bool:
    """Whether a failure was tried often enough: of those attempts that count, all have failed.

    Args:
        attempt: Which attempt has failed.
        pardoned: Up to which one they do not count.
        most_attempts: How many are enough.
        not_let_in: How many of those after that were none, as a semaphore did not let them in.
    """
    return attempt - min(pardoned, attempt) - not_let_in >= most_attempts


LONGEST_SAMPLE = 500
MOST_GROUPS, MOST_IDS = 100, 20


def by_error(failures: Iterable[Failure]) -> list[dict[str, Any]]:
    """What people want to know of failures: how many there are of each error, the most frequent first."""
    groups: dict[str, list[Failure]] = {}
    for failure in failures:
        groups.setdefault(failure.envelope.error, []).append(failure)
    told = [_group(error, group) for error, group in groups.items()]
    return sorted(told, key=lambda group: (-group["count"], group["oldest"]))[:MOST_GROUPS]


def _group(error: str, group: Sequence[Failure]) -> dict[str, Any]:
    oldest, newest = group[0].envelope, group[-1].envelope
    return {
        "error": error[:LONGEST_SAMPLE],
        "status": oldest.status,
        "count": len(group),
        "oldest": oldest.failed_at,
        "newest": newest.failed_at,
        "sample": {
            "id": newest.id,
            "cause": newest.cause[:LONGEST_SAMPLE],
            "execution": newest.execution,
            "failedState": newest.failed_state[:LONGEST_SAMPLE],
            "attempt": newest.attempt,
            "key": newest.key[:LONGEST_SAMPLE],
        },
        "ids": [each.id for each in group[:MOST_IDS]],
    }

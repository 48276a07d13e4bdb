"""What people, schedules and the widget ask the reprocessor for: events become values, or are refused. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from spool.envelope import Envelope

MOST = 10_000
"""How many failures a run deals with at most; those that are left come with the next one."""

_FILTERS = ("error", "stateMachine", "olderThanSeconds", "key")


class InvalidRequestError(ValueError):
    """The event is not one that this function understands."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which failures are meant; all of these have to fit, None fits all.

    Args:
        error: The error's name.
        state_machine: The ARN of the state machine.
        older_than: Seconds since the failure, at least.
        key: The business key.
    """

    error: str | None = None
    state_machine: str | None = None
    older_than: float | None = None
    key: str | None = None

    def match(self, envelope: Envelope, age: float) -> bool:
        """Whether a failure of an age in seconds is meant."""
        return (
            self.error in (None, envelope.error)
            and self.state_machine in (None, envelope.state_machine)
            and self.key in (None, envelope.key)
            and (self.older_than is None or age >= self.older_than)
        )


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The failures of a `reprocess` or a `park`.

    Args:
        most: How many of them.
        filters: Which ones.
        dry_run: Whether they are only told.
    """

    most: int
    filters: Filters
    dry_run: bool = False


def reprocess_of(event: Mapping[str, Any], *, most: int) -> Selection:
    """Reads {max, error, stateMachine, olderThanSeconds, key, dryRun}; `most` is the default of `max`."""
    _only(event, ("max", *_FILTERS, "dryRun"))
    dry_run = event.get("dryRun", False)
    if type(dry_run) is not bool:
        refuse("dryRun must be true or false", dry_run)
    return Selection(most=_most(event, most), filters=_filters(event), dry_run=dry_run)


def park_of(event: Mapping[str, Any]) -> Selection:
    """Reads {max, error, stateMachine, olderThanSeconds, key}, at least one of them: to park all, say max "all"."""
    _only(event, ("max", *_FILTERS))
    if not set(event) & {"max", *_FILTERS}:
        refuse('park needs a filter, or max "all"', event)
    return Selection(most=_most(event, MOST), filters=_filters(event))


def release_of(event: Mapping[str, Any]) -> str | None:
    """Reads {id} or {all: true}; None is all."""
    _only(event, ("id", "all"))
    if event.get("all", False) is True and "id" not in event:
        return None
    if "all" in event:
        refuse("release needs an id, or all: true", event)
    return _id(event)


def drop_of(event: Mapping[str, Any]) -> str:
    """Reads {id, confirm: true}."""
    _only(event, ("id", "confirm"))
    if event.get("confirm") is not True:
        refuse("drop needs confirm: true, as nobody gets back what is dropped", event)
    return _id(event)


def _only(event: Mapping[str, Any], names: Sequence[str]) -> None:
    if unknown := sorted(set(event) - {"action", *names}):
        refuse(f"{event.get('action')} takes {', '.join(names)}", unknown)


def _most(event: Mapping[str, Any], default: int) -> int:
    value = event.get("max", default)
    if value == "all":
        return MOST
    if type(value) is not int or not 1 <= value <= MOST:
        refuse(f'max must be a whole number from 1 to {MOST}, or "all"', value)
    return value


def _filters(event: Mapping[str, Any]) -> Filters:
    for name in ("error", "stateMachine", "key"):
        if not isinstance(event.get(name, ""), str):
            refuse(f"{name} must be text", event[name])
    older_than = event.get("olderThanSeconds")
    if older_than is not None and (type(older_than) not in (int, float) or older_than < 0):
        refuse("olderThanSeconds must be a number of at least 0", older_than)
    return Filters(
        error=event.get("error"),
        state_machine=event.get("stateMachine"),
        older_than=older_than,
        key=event.get("key"),
    )


def _id(event: Mapping[str, Any]) -> str:
    value = event.get("id")
    return value if isinstance(value, str) and value else refuse("id must be text", value)


def refuse(rule: str, value: object) -> NoReturn:
    raise InvalidRequestError(f"{rule}, got {json.dumps(value, default=str)[:500]}")

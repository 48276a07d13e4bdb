"""What an execution is asked for: its input becomes values, or is refused. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NoReturn

from distributed_map.dates import day_from

_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]|\['([^']+)'\]")


class BadInput(ValueError):  # noqa: N818 - the name is what people see as the error of their execution
    """The execution's input makes no sense. Says what to write."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for.

    Args:
        day: The day that was given, None for that of the execution's start.
        dry_run: Whether the items are only counted.
        rerun: The ARN of the execution whose failed items are processed again, None for all items.
    """

    day: date | None = None
    dry_run: bool = False
    rerun: str | None = None


def request_of(given: object) -> Request:
    """Reads {runDate, dryRun, rerun: {execution}}, all of them optional.

    Everything else is ignored: any event may start an execution.

    Raises:
        BadInput: one of them makes no sense.
    """
    if not isinstance(given, dict):
        return Request()
    return Request(day=_day(given), dry_run=_dry_run(given), rerun=_rerun(given))


def array_at(path: str, given: object) -> list[Any]:
    """The array at a path of the input, such as `$.order.lines`.

    Raises:
        BadInput: there is none.
    """
    value = given
    for name, index, quoted in _STEP.findall(path):
        try:
            value = value[int(index)] if index else value[name or quoted]  # type: ignore[index]
        except (LookupError, TypeError):
            value = None
            break
    if not isinstance(value, list):
        _refuse(f"The input needs an array of items at {path}", value)
    return value


def _day(given: Mapping[str, Any]) -> date | None:
    value = given.get("runDate")
    if value is None:
        return None
    try:
        if not isinstance(value, str):
            raise ValueError("it must be text")
        return day_from(value)
    except ValueError:
        return _refuse('runDate must be a day such as "2026-11-21"', value)


def _dry_run(given: Mapping[str, Any]) -> bool:
    value = given.get("dryRun")
    if value is not None and type(value) is not bool:
        _refuse("dryRun must be true or false", value)
    return bool(value)


def _rerun(given: Mapping[str, Any]) -> str | None:
    value = given.get("rerun")
    if value is None:
        return None
    execution = value.get("execution") if isinstance(value, dict) else None
    if not isinstance(execution, str) or ":execution:" not in execution:
        _refuse('rerun must be {"execution": "<the ARN of a run of this state machine>"}', value)
    return execution


def _refuse(rule: str, value: object) -> NoReturn:
    got = "nothing" if value is None else json.dumps(value, default=str)[:200]
    raise BadInput(f"{rule}, got {got}")

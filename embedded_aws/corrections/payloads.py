"""The size of what states and tasks take and give."""

import json
from typing import Any

from ministack.services import stepfunctions as sfn

LARGEST = 262_144
"""Bytes; Step Functions Developer Guide, "Step Functions service quotas"."""


def check_input(resource: str, value: Any) -> None:
    """Raises `States.DataLimitExceeded` where the input of a task is too large."""
    _check(value, f"The state/task '{resource}' was given an input")


def check_result(name: str, value: Any) -> None:
    """Raises `States.DataLimitExceeded` where the result of a task or the output of a state is too large."""
    _check(value, f"The state/task '{name}' returned a result")


def size(value: Any) -> int:
    """Bytes of a value as JSON in UTF-8."""
    return len(json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":")).encode())


def _check(value: Any, what: str) -> None:
    if size(value) > LARGEST:
        raise sfn._ExecutionError(
            "States.DataLimitExceeded",
            f"{what} with a size exceeding the maximum number of bytes service limit.",
        )

"""Closes the way from the buffer to the starter while too many executions wait, so that the rest waits in the queue."""

import json
import os
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from pipeline.metrics import report

KEY = "default"
"""The semaphore's key under which the pipeline's executions wait."""


class StatusError(Exception):
    """The semaphore's function did not say how many wait."""


@cache
def lambda_() -> Any:
    return boto3.client("lambda", config=Config(retries={"mode": "standard", "total_max_attempts": 3}))


def decide(*, is_open: bool, waiting: int, most: int, paused: bool) -> bool:
    """Whether the valve is to be open. Between half of the most and the most it stays as it is.

    Args:
        is_open: Whether it is open now.
        waiting: How many executions wait for a permit.
        most: At how many it closes.
        paused: Keeps it closed, however few wait.
    """
    if paused or waiting >= most:
        return False
    return is_open or waiting < most / 2


def handle(_event: object, _context: object) -> dict[str, Any]:
    """Opens or closes the event source mapping, and says which.

    Environment: `EVENT_SOURCE_MAPPING`, its UUID; `SEMAPHORE_FUNCTION`; `MOST_WAITING`; `PAUSED`, `true` or empty;
    `PIPELINE`, the name in metrics. What AWS refuses is raised, and the mapping stays as it is.
    """
    mapping, paused = os.environ["EVENT_SOURCE_MAPPING"], os.environ["PAUSED"] == "true"
    state = lambda_().get_event_source_mapping(UUID=mapping)["State"]
    if state not in ("Enabled", "Disabled"):
        # It is still changing, and takes no other change until it is done.
        return {"state": state}
    is_open = state == "Enabled"
    # A pause must not fail because the semaphore does.
    waiting = 0 if paused else _waiting(os.environ["SEMAPHORE_FUNCTION"])
    opens = decide(is_open=is_open, waiting=waiting, most=int(os.environ["MOST_WAITING"]), paused=paused)
    if opens != is_open:
        lambda_().update_event_source_mapping(UUID=mapping, Enabled=opens)
    report({"ValveOpen": int(opens)})
    return {"state": state, "open": opens, "waiting": waiting}


def _waiting(function: str) -> int:
    reply = lambda_().invoke(FunctionName=function, Payload=json.dumps({"action": "status", "key": KEY}))
    answer = reply["Payload"].read().decode(errors="replace")
    if "FunctionError" in reply:
        raise StatusError(f"the semaphore's function failed: {answer[:500]}")
    try:
        return int(json.loads(answer)["keys"][KEY]["waiting"])
    except (ValueError, KeyError, TypeError) as problem:
        raise StatusError(f"the semaphore's function must say how many wait, got {answer[:500]}") from problem

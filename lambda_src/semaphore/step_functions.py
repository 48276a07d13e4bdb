"""What Step Functions is told and asked: who has a permit, who still waits, and what became of an execution."""

import json
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from semaphore.protocol import Holder, Permit, Told, Waiter

NOBODY_WAITS = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")
SKEW = 300
"""Seconds by which the clocks of AWS never differ."""


@cache
def stepfunctions() -> Any:
    return boto3.client("stepfunctions", config=Config(retries={"mode": "standard", "total_max_attempts": 5}))


@cache
def messenger() -> Any:
    """Tells holders. Never twice by itself: after a lost answer the second call would say that nobody waits."""
    return boto3.client("stepfunctions", config=Config(retries={"total_max_attempts": 1}))


def make_clients() -> None:
    """Before threads use them: what boto3 makes them with is not for several threads at once."""
    stepfunctions()
    messenger()


# --- telling --------------------------------------------------------------------------------------------------------


def tell(holders: Sequence[Holder]) -> list[Told]:
    """Tells holders that they have their permits, side by side."""
    if len(holders) == 1:
        return [_tell(holders[0])]
    make_clients()
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(_tell, holders))


def _tell(holder: Holder) -> Told:
    permit = holder.permit
    # Told also where starts are not paced: a definition that still waits for its turn must find it.
    start = datetime.fromtimestamp(holder.start_at or holder.granted_at, UTC).replace(tzinfo=None)
    output: dict[str, Any] = {
        "granted": True,
        "permit": {"key": permit.key, "id": permit.id, "weight": permit.weight},
        "startAt": f"{start.isoformat(timespec='milliseconds')}Z",
    }
    for attempt in range(5):
        try:
            messenger().send_task_success(taskToken=holder.waiter.token, output=json.dumps(output))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in NOBODY_WAITS:
                return Told.NOBODY
            if code != "ThrottlingException":
                return _unknown(holder, error)
            time.sleep(random.uniform(0, 0.1 * 2**attempt))
        except BotoCoreError as error:
            return _unknown(holder, error)
        else:
            return Told.YES
    return Told.UNKNOWN


def _unknown(holder: Holder, error: Exception) -> Told:
    print(
        json.dumps(
            {
                "level": "WARN",
                "message": "a holder may not have been told",
                "permit": holder.permit.id,
                "execution": holder.waiter.execution,
                "error": str(error),
            }
        )
    )
    return Told.UNKNOWN


def refuse(token: str) -> None:
    """Says that no permit is free, to somebody who goes on without one."""
    _answer("send_task_success", taskToken=token, output=json.dumps({"granted": False}))


def fail(token: str, error: str, cause: str) -> None:
    """Has the state of the token fail."""
    _answer("send_task_failure", taskToken=token, error=error, cause=cause)


def _answer(operation: str, **request: str) -> None:
    """Answers where no permit is at stake. Nobody to answer is fine."""
    try:
        getattr(stepfunctions(), operation)(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] not in NOBODY_WAITS:
            raise


# --- asking ---------------------------------------------------------------------------------------------------------


def is_waiting(waiter: Waiter) -> bool:
    """Whether somebody still waits for the waiter's token.

    A heartbeat costs nothing, changes nothing where no heartbeat is asked for, and leaves no event behind.
    """
    try:
        stepfunctions().send_task_heartbeat(taskToken=waiter.token)
    except ClientError as error:
        if error.response["Error"]["Code"] in NOBODY_WAITS:
            return False
        raise
    return True


def end_of(execution: str) -> float | None:
    """When it ended, in seconds since the epoch; None while it runs."""
    try:
        found = stepfunctions().describe_execution(executionArn=execution)
    except stepfunctions().exceptions.ExecutionDoesNotExist:
        return 0  # Long ago: its state machine was deleted, or it is kept no longer.
    if found["status"] == "RUNNING":
        return None
    stopped: datetime | None = found.get("stopDate")
    return stopped.timestamp() if stopped else 0


def is_inside(holder: Holder) -> bool:
    """Whether it was told of the permit and has not begun to give it back.

    Newest event first: giving back comes after being told, and either after the permit was granted.
    """
    pages = (
        stepfunctions()
        .get_paginator("get_execution_history")
        .paginate(executionArn=holder.waiter.execution, reverseOrder=True, includeExecutionData=True)
    )
    try:
        for page in pages:
            for event in page["events"]:
                if event["timestamp"].timestamp() < holder.granted_at - SKEW or _gives_back(event, holder.permit):
                    return False
                if _tells_of(event, holder.permit):
                    return True
    except stepfunctions().exceptions.ExecutionDoesNotExist:
        pass
    return False


def _tells_of(event: Mapping[str, Any], permit: Permit) -> bool:
    return (
        event["type"] == "TaskSucceeded" and _permit_in(event["taskSucceededEventDetails"].get("output")) == permit.id
    )


def _gives_back(event: Mapping[str, Any], permit: Permit) -> bool:
    if event["type"] != "TaskScheduled":
        return False
    parameters = _json(event["taskScheduledEventDetails"].get("parameters"))
    payload = parameters.get("Payload")
    return (
        isinstance(payload, dict)
        and payload.get("action") == "release"
        and _permit_in(json.dumps(payload)) == permit.id
    )


def _permit_in(text: str | None) -> object:
    permit = _json(text).get("permit")
    return permit.get("id") if isinstance(permit, dict) else None


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

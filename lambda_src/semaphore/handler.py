"""The edge of the semaphore: reads events, runs the protocol's operations, and reports what happened."""

import json
import os
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any, NoReturn, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from semaphore import protocol
from semaphore.protocol import (
    Commit,
    Committed,
    Effect,
    EndOf,
    Enqueue,
    FindByExecution,
    Forget,
    Holder,
    IsInside,
    IsWaiting,
    ListKeys,
    MarkTold,
    Permit,
    ReadAll,
    ReadLine,
    Refuse,
    ReleaseLater,
    SetCounter,
    SetDefaults,
    Settings,
    Tell,
    Told,
    Waiter,
    Withdraw,
)
from semaphore.table import Table, Usage

NAMESPACE = "ConstructsLib/Semaphore"
MOST_LOOKS = 30
"""How often an operation looks again because others were faster. Whoever gives up raises, and is called again."""
LONGEST_KEY = 1024
"""Bytes; a partition key of DynamoDB may have 2,048."""
NOBODY_WAITS = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")
SKEW = 300
"""Seconds by which the clocks of AWS never differ."""

Reply = TypeVar("Reply")


class InvalidRequestError(ValueError):
    """The event is not one that this function understands."""


class ContendedError(Exception):
    """Others were faster, again and again."""


class SweepError(Exception):
    """Part of a sweep failed; the rest of it was done."""


# --- clients and environment ----------------------------------------------------------------------------------------


@cache
def dynamodb() -> Any:
    return boto3.client("dynamodb", config=Config(retries={"mode": "standard", "total_max_attempts": 5}))


@cache
def stepfunctions() -> Any:
    return boto3.client("stepfunctions", config=Config(retries={"mode": "standard", "total_max_attempts": 5}))


@cache
def messenger() -> Any:
    """Tells holders. Never twice by itself: after a lost answer the second call would say that nobody waits."""
    return boto3.client("stepfunctions", config=Config(retries={"total_max_attempts": 1}))


def settings() -> Settings:
    """Reads the environment: LIMIT, STARTS_PER_SECOND (may be empty), GRACE_SECONDS and PATIENCE_SECONDS."""
    starts = os.environ.get("STARTS_PER_SECOND")
    return Settings(
        limit=int(os.environ["LIMIT"]),
        starts_per_second=float(starts) if starts else None,
        grace=float(os.environ["GRACE_SECONDS"]),
        patience=float(os.environ["PATIENCE_SECONDS"]),
    )


# --- events ---------------------------------------------------------------------------------------------------------


def handle(event: object, _context: object) -> dict[str, Any]:
    """Does what an event asks for.

    Environment: `TABLE_NAME`, `SEMAPHORE` (its name in metrics), and what `settings` reads. Raises
    `InvalidRequestError` where the event makes no sense; what AWS refuses is raised, so that the caller tries again.
    """
    action = event.get("action") if isinstance(event, dict) else None
    if not isinstance(event, dict) or not isinstance(action, str) or action not in ACTIONS:
        refuse(f"the event needs an action, one of {', '.join(ACTIONS)}", event)
    edge = Edge(Table(dynamodb(), os.environ["TABLE_NAME"]))
    try:
        return ACTIONS[action](edge, event, settings())
    finally:
        edge.report()


def acquire(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    token = event.get("token")
    if not isinstance(token, str) or not token:
        refuse("acquire needs the task's token", event)
    try:
        waiter = waiter_of(event, edge.now())
        on_busy = event.get("onBusy", "wait")
        if on_busy not in ("wait", "skip", "fail"):
            refuse("onBusy must be wait, skip or fail", on_busy)
    except InvalidRequestError as problem:
        edge.fail(token, "Semaphore.InvalidRequest", str(problem))
        return {}
    if waiter.permit.weight > config.limit:
        cause = f"weight must be at most the limit, {config.limit}, got {waiter.permit.weight}"
        edge.fail(token, "Semaphore.WeightAboveLimit", cause)
    elif on_busy == "wait":
        edge.run(protocol.acquire(waiter, config))
    else:
        edge.run(protocol.acquire_now(waiter, config, fail=on_busy == "fail"))
    return {}


def release(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    edge.run(protocol.release(permit_of(event.get("permit")), config))
    return {"released": edge.released}


def ended(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    execution = event.get("execution")
    if not isinstance(execution, str) or not execution:
        refuse("ended needs the ARN of an execution", event)
    edge.run(protocol.release_execution(execution, config))
    return {"released": edge.released}


def sweep(edge: "Edge", _event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    usage = edge.table.usage()
    edge.gauge(usage)
    problems: list[str] = []
    for key in usage:
        repairs: list[protocol.Repair] = []
        # Whatever goes wrong with one of them is told at the end, and keeps no other from its permit.
        try:
            repairs = edge.run(protocol.sweep(key, config))
        except Exception as problem:
            problems.append(f"{key}: {problem}")
        for repair in repairs:
            try:
                edge.recovered += edge.run(repair)
            except Exception as problem:
                problems.append(f"{key}: {problem}")
    # The sweeper is the last who could tell them. If it may not either, somebody has to know.
    problems += [f"{permit}: its holder cannot be told" for permit in edge.untold]
    if problems:
        raise SweepError(f"failed {len(problems)} times, all else was done: {'; '.join(problems[:10])}")
    return {"keys": len(usage), "recovered": edge.recovered}


def set_limit(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    limit = event.get("limit")
    if type(limit) is not int or limit < 1:
        refuse("limit must be a whole number of at least 1 (to let nobody in, pause)", limit)
    return configure(edge, event, config, limit=limit)


def pause(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    return configure(edge, event, config, paused=True)


def resume(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    return configure(edge, event, config, paused=False)


def configure(
    edge: "Edge", event: Mapping[str, Any], config: Settings, *, limit: int | None = None, paused: bool | None = None
) -> dict[str, Any]:
    if "key" in event:
        edge.run(protocol.configure(key_of(event), config, limit=limit, paused=paused))
    else:
        for operation in edge.run(protocol.configure_all(config, limit=limit, paused=paused)):
            edge.run(operation)
    return status(edge, event, config)


def status(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    """What is going on: under one key, or under each that has a counter or somebody in line."""
    usage = edge.table.usage()
    if "key" in event:
        key = key_of(event)
        usage = {key: usage.get(key, Usage())}
    new = protocol.fresh(config, edge.table.defaults())
    return {
        "limitInCode": config.limit,
        "newKeys": {"limit": new.limit, "paused": new.paused},
        "keys": {
            key: {
                "inUse": found.in_use,
                "waiting": found.waiting,
                "limit": (found.counter or new).limit,
                "paused": (found.counter or new).paused,
                "oldestWaiterSeconds": 0 if found.oldest is None else round(max(0.0, edge.now() - found.oldest), 3),
            }
            for key, found in sorted(usage.items())
        },
    }


ACTIONS: dict[str, Callable[["Edge", Mapping[str, Any], Settings], dict[str, Any]]] = {
    "acquire": acquire,
    "release": release,
    "ended": ended,
    "sweep": sweep,
    "set-limit": set_limit,
    "pause": pause,
    "resume": resume,
    "status": status,
}


# --- what is in an event --------------------------------------------------------------------------------------------


def refuse(rule: str, value: object) -> NoReturn:
    raise InvalidRequestError(f"{rule}, got {json.dumps(value, default=str)[:500]}")


def waiter_of(event: Mapping[str, Any], now: float) -> Waiter:
    execution = event.get("execution")
    if not isinstance(execution, str) or not execution:
        refuse("execution must be the ARN of the execution", execution)
    return Waiter(
        permit=Permit(key=key_of(event), id=permit_id(event["token"]), weight=weight_of(event)),
        order=order_of(event),
        execution=execution,
        token=event["token"],
        asked_at=now,
    )


def key_of(event: Mapping[str, Any]) -> str:
    key = event.get("key")
    if not isinstance(key, str) or not key or len(key.encode(errors="replace")) > LONGEST_KEY:
        refuse(f"key must be text of 1 to {LONGEST_KEY} bytes", key)
    return key


def weight_of(event: Mapping[str, Any]) -> int:
    weight = event.get("weight", 1)
    if type(weight) is not int or weight < 1:
        refuse("weight must be a whole number of at least 1", weight)
    return weight


def order_of(event: Mapping[str, Any]) -> str:
    """The start of the execution, always with as many digits: a whole second may come without a fraction."""
    try:
        started = datetime.fromisoformat(event["order"])
        return started.astimezone(UTC).isoformat(timespec="microseconds")
    except (KeyError, TypeError, ValueError):
        refuse("order must be the start time of the execution", event.get("order"))


def permit_of(permit: object) -> Permit:
    if not isinstance(permit, dict) or not isinstance(permit.get("id"), str):
        refuse("permit must be what acquire returned", permit)
    if permit["id"][: len(_tag())] != _tag():
        refuse("permit must be one of this semaphore", permit)
    return Permit(key=key_of(permit), id=permit["id"], weight=weight_of(permit))


def permit_id(token: str) -> str:
    """The same for the same token. Begins with what tells this semaphore from others."""
    return f"{_tag()}{sha256(token.encode()).hexdigest()[:24]}"


def _tag() -> str:
    return sha256(os.environ["TABLE_NAME"].encode()).hexdigest()[:8]


# --- running an operation -------------------------------------------------------------------------------------------


@dataclass
class Edge:
    """Carries out what operations ask for, and counts what happens.

    Args:
        table: The semaphore's table.
    """

    table: Table
    granted: list[float] = field(default_factory=list)
    """How long each who was let in has waited, in seconds."""
    released: bool = False
    skipped: int = 0
    recovered: int = 0
    untold: list[str] = field(default_factory=list)
    usage: dict[str, Usage] | None = None

    @staticmethod
    def now() -> float:
        return time.time()

    def run(self, operation: Generator[Effect, Any, Reply]) -> Reply:
        """Runs an operation to its end. Where others were faster it looks again, after a random pause that grows."""
        looks = 0
        try:
            effect = next(operation)
            while True:
                outcome = self._perform(effect)
                if outcome is Committed.CHANGED or (isinstance(effect, SetCounter) and not outcome):
                    looks += 1
                    if looks > MOST_LOOKS:
                        raise ContendedError(f"others were faster {looks} times")
                    time.sleep(random.uniform(0, min(0.5, 0.02 * 2**looks)))
                effect = operation.send(outcome)
        except StopIteration as end:
            value: Reply = end.value
            return value

    def _perform(self, effect: Effect) -> object:
        match effect:
            case ReadLine(key):
                return self.table.read_line(key)
            case Commit():
                return self._commit(effect)
            case Tell(holders):
                return self._tell(holders)
            case IsWaiting(waiter):
                return _is_waiting(waiter)
            case IsInside(holder):
                return _is_inside(holder)
            case EndOf(execution):
                return _end_of(execution)
            case FindByExecution(execution):
                return self.table.find_by_execution(execution)
            case ReadAll(key):
                return self.table.read_all(key)
            case ListKeys():
                return list(self.table.usage())
            case SetCounter():
                return self.table.set_counter(effect)
            case Enqueue(waiter):
                self.table.enqueue(waiter)
            case Withdraw(waiter):
                self.table.withdraw(waiter)
            case Refuse(waiter, fail):
                self._refuse(waiter, fail)
            case ReleaseLater():
                self.table.release_later(effect)
            case MarkTold(holder):
                self.table.mark_told(holder)
            case Forget():
                self.table.forget(effect)
            case SetDefaults():
                self.table.set_defaults(effect)
        return None

    def _commit(self, commit: Commit) -> object:
        outcome = self.table.commit(commit)
        if outcome is Committed.YES:
            self.granted += [max(0.0, self.now() - holder.waiter.asked_at) for holder in commit.granted]
            self.released = self.released or commit.released is not None
        return outcome

    # --- Step Functions ---------------------------------------------------------------------------------------------

    def _tell(self, holders: Sequence[Holder]) -> list[Told]:
        if len(holders) == 1:
            answers = [_tell(holders[0])]
        else:
            with ThreadPoolExecutor(max_workers=8) as pool:
                answers = list(pool.map(_tell, holders))
        unclear = (holder for holder, answer in zip(holders, answers, strict=True) if answer is Told.UNKNOWN)
        self.untold += [holder.permit.id for holder in unclear]
        return answers

    def _refuse(self, waiter: Waiter, fail: bool) -> None:
        if fail:
            self.fail(waiter.token, "Semaphore.Busy", f"no permit is free for {waiter.permit.key}")
        else:
            self.skipped += 1
            _answer("send_task_success", taskToken=waiter.token, output=json.dumps({"granted": False}))

    def fail(self, token: str, error: str, cause: str) -> None:
        _answer("send_task_failure", taskToken=token, error=error, cause=cause)

    # --- metrics ----------------------------------------------------------------------------------------------------

    def gauge(self, usage: dict[str, Usage]) -> None:
        self.usage = usage

    def report(self) -> None:
        """Prints metrics in the embedded metric format, from which CloudWatch takes them without a call:
        https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
        """
        metrics: dict[str, tuple[str, float | list[float]]] = {}
        if self.granted:
            metrics["Granted"] = ("Count", len(self.granted))
            metrics["WaitSeconds"] = ("Seconds", [round(seconds, 3) for seconds in self.granted[:100]])
        if self.skipped:
            metrics["Skipped"] = ("Count", self.skipped)
        if self.usage is not None:
            oldest = min((found.oldest for found in self.usage.values() if found.oldest is not None), default=None)
            metrics["InUse"] = ("Count", sum(found.in_use for found in self.usage.values()))
            metrics["Waiting"] = ("Count", sum(found.waiting for found in self.usage.values()))
            metrics["OldestWaiterSeconds"] = ("Seconds", 0 if oldest is None else max(0.0, self.now() - oldest))
            metrics["Recovered"] = ("Count", self.recovered)
        if not metrics:
            return
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [["Semaphore"]],
            "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in metrics.items()],
        }
        record = {
            "_aws": {"Timestamp": round(self.now() * 1000), "CloudWatchMetrics": [directive]},
            "Semaphore": os.environ["SEMAPHORE"],
            **{name: value for name, (_, value) in metrics.items()},
        }
        print(json.dumps(record))


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


def _answer(operation: str, **request: str) -> None:
    """Answers where no permit is at stake. Nobody to answer is fine."""
    try:
        getattr(stepfunctions(), operation)(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] not in NOBODY_WAITS:
            raise


def _is_waiting(waiter: Waiter) -> bool:
    """A heartbeat costs nothing, changes nothing where no heartbeat is asked for, and leaves no event behind."""
    try:
        stepfunctions().send_task_heartbeat(taskToken=waiter.token)
    except ClientError as error:
        if error.response["Error"]["Code"] in NOBODY_WAITS:
            return False
        raise
    return True


def _end_of(execution: str) -> float | None:
    try:
        found = stepfunctions().describe_execution(executionArn=execution)
    except stepfunctions().exceptions.ExecutionDoesNotExist:
        return 0  # Long ago: its state machine was deleted, or it is kept no longer.
    if found["status"] == "RUNNING":
        return None
    stopped: datetime | None = found.get("stopDate")
    return stopped.timestamp() if stopped else 0


def _is_inside(holder: Holder) -> bool:
    """Newest event first: giving back comes after being told, and either after the permit was granted."""
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

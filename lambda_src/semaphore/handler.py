"""The edge of the semaphore: reads events, runs the protocol's operations, and reports what happened."""

import json
import math
import os
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from semaphore import protocol, step_functions
from semaphore.metrics import Measurements
from semaphore.protocol import (
    Commit,
    Committed,
    Counter,
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
    ReadAll,
    ReadLine,
    Refusal,
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
from semaphore.requests import InvalidRequestError, key_of, permit_of, refuse, waiter_of
from semaphore.table import Table, Usage

MOST_LOOKS = 30
"""How often an operation looks again because others were faster. Whoever gives up raises, and is called again."""
SWEEPERS = 8
"""How many keys and holders are looked after at once."""
MOST_CHECKS = 600
"""How many holders one sweep asks after, of those that are known to have been told: of all together, Step Functions
answers 15 calls per second for long (DescribeExecution): https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

Reply = TypeVar("Reply")


class ContendedError(Exception):
    """Others were faster, again and again."""


class SweepError(Exception):
    """Part of a sweep failed; the rest of it was done."""


# --- client and environment -----------------------------------------------------------------------------------------


@cache
def dynamodb() -> Any:
    return boto3.client("dynamodb", config=Config(retries={"mode": "standard", "total_max_attempts": 5}))


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
        step_functions.fail(token, "Semaphore.InvalidRequest", str(problem))
        return {}
    if waiter.permit.weight > config.limit:
        cause = f"weight must be at most the limit, {config.limit}, got {waiter.permit.weight}"
        step_functions.fail(token, "Semaphore.WeightAboveLimit", cause)
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
    edge.measured.usage = usage
    turns = max(1, math.ceil(sum(found.in_use for found in usage.values()) / MOST_CHECKS))
    problems: list[str] = []

    def attempt(key: str, operation: Generator[Effect, Any, Reply]) -> Reply | None:
        # Whatever goes wrong with one of them is told at the end, and keeps no other from its permit.
        try:
            return edge.run(operation)
        except Exception as problem:
            problems.append(f"{key}: {problem}")
            return None

    step_functions.make_clients()
    # Most of a sweep is waiting for answers.
    with ThreadPoolExecutor(max_workers=SWEEPERS) as pool:
        found = list(pool.map(lambda key: (key, attempt(key, protocol.sweep(key, config, turns=turns))), usage))
        repairs = [(key, repair) for key, each in found for repair in each or []]
        edge.measured.recovered += sum(map(bool, pool.map(lambda repair: attempt(*repair), repairs)))
    # The sweeper is the last who could tell them. If it may not either, somebody has to know.
    problems += [f"{permit}: its holder cannot be told" for permit in edge.untold]
    if problems:
        raise SweepError(f"failed {len(problems)} times, all else was done: {'; '.join(problems[:10])}")
    return {"keys": len(usage), "recovered": edge.measured.recovered}


def set_limit(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    limit = event.get("limit")
    if type(limit) is not int or limit < 1:
        refuse("limit must be a whole number of at least 1 (to let nobody in, pause)", limit)
    return configure(edge, event, config, limit=limit)


def pause(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    new_work = event.get("newWork", "wait")
    if new_work not in ("wait", "fail"):
        refuse("newWork must be wait or fail", new_work)
    return configure(edge, event, config, paused=True, refuses=new_work == "fail")


def resume(edge: "Edge", event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    return configure(edge, event, config, paused=False)


def configure(
    edge: "Edge",
    event: Mapping[str, Any],
    config: Settings,
    *,
    limit: int | None = None,
    paused: bool | None = None,
    refuses: bool = False,
) -> dict[str, Any]:
    if "key" in event:
        edge.run(protocol.configure(key_of(event), config, limit=limit, paused=paused, refuses=refuses))
    else:
        for operation in edge.run(protocol.configure_all(config, limit=limit, paused=paused, refuses=refuses)):
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
        "newKeys": {"limit": new.limit, "paused": new.paused, "newWork": _new_work(new)},
        "keys": {
            key: {
                "inUse": found.in_use,
                "waiting": found.waiting,
                "limit": (found.counter or new).limit,
                "paused": (found.counter or new).paused,
                "newWork": _new_work(found.counter or new),
                "oldestWaiterSeconds": 0 if found.oldest is None else round(max(0.0, edge.now() - found.oldest), 3),
            }
            for key, found in sorted(usage.items())
        },
    }


def _new_work(counter: Counter) -> str:
    """What becomes of those who ask and are not let in."""
    return "fail" if counter.refuses else "wait"


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


# --- running an operation -------------------------------------------------------------------------------------------


@dataclass
class Edge:
    """Carries out what operations ask for, and counts what happens.

    Args:
        table: The semaphore's table.
    """

    table: Table
    measured: Measurements = field(default_factory=Measurements)
    released: bool = False
    untold: list[str] = field(default_factory=list)
    """The permits whose holders could not be told, and may still wait."""

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
                return step_functions.is_waiting(waiter)
            case IsInside(holder):
                return step_functions.is_inside(holder)
            case EndOf(execution):
                return step_functions.end_of(execution)
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
            case Refuse(waiter, why):
                self._refuse(waiter, why)
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
            self.measured.granted += [max(0.0, self.now() - holder.waiter.asked_at) for holder in commit.granted]
            self.released = self.released or commit.released is not None
        return outcome

    def _tell(self, holders: Sequence[Holder]) -> list[Told]:
        answers = step_functions.tell(holders)
        unclear = (holder for holder, answer in zip(holders, answers, strict=True) if answer is Told.UNKNOWN)
        self.untold += [holder.permit.id for holder in unclear]
        return answers

    def _refuse(self, waiter: Waiter, why: Refusal) -> None:
        match why:
            case Refusal.SKIP:
                self.measured.skipped += 1
                step_functions.refuse(waiter.token)
            case Refusal.BUSY:
                step_functions.fail(waiter.token, "Semaphore.Busy", f"no permit is free for {waiter.permit.key}")
            case Refusal.PAUSED:
                step_functions.fail(waiter.token, "Semaphore.Paused", f"nobody is let in for {waiter.permit.key}")

    def report(self) -> None:
        """Prints what was measured, if anything was."""
        record = self.measured.record(os.environ["SEMAPHORE"], self.now())
        if record is not None:
            print(json.dumps(record))

"""Holds new work while a neighbour is down: after some failures in a row the gate closes, and a probe opens it.

Closed, half-open and open are the breaker's states, as in an electric circuit: *closed* lets everything through,
*open* nothing, *half-open* one at a time until the first one has ended. The gate is a semaphore's pause.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

import boto3

from embedded_metrics import metrics_record
from pipeline.patience import ONE_REQUEST, Patience
from spool.decide import NOT_LET_IN
from spool.ledger import dynamodb
from spool.metrics import log
from spool.requests import refuse

State = Literal["closed", "open", "half-open"]
STATES: tuple[State, ...] = ("closed", "open", "half-open")
FAILURES = ("FAILED", "TIMED_OUT")
MOST_SEEN = 50
"""How many of the last endings are remembered: the same event may come twice."""

MOST_LOOKS = 20
KEY = "breaker"
NAMESPACE = "ConstructsLib/Hold"


class ContendedError(Exception):
    """Others were faster, again and again."""


class GateError(Exception):
    """The semaphore's function failed."""


# --- deciding: pure -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """What the breaker knows.

    Args:
        state: What it lets through.
        failures: How many there were in a row.
        seen: The last endings that were counted.
        applied: Whether the gate was set as the state says. Who writes a state sets the gate after it, and may die.
        version: Another one after each change.
    """

    state: State = "closed"
    failures: int = 0
    seen: tuple[str, ...] = ()
    applied: bool = True
    version: int = 0


def after_ending(breaker: Breaker, ending: str, *, failed: bool, most: int) -> Breaker:
    """What follows from the end of an execution.

    Args:
        ending: Tells it from every other.
        failed: Whether it failed.
        most: After how many failures in a row the breaker opens.
    """
    if ending in breaker.seen or (not failed and breaker.state == "closed" and not breaker.failures):
        # All is well, and stays so: where nothing is written, nobody is in anybody's way.
        return breaker
    breaker = replace(breaker, seen=(*breaker.seen, ending)[-MOST_SEEN:])
    if not failed:
        # What ends well while the breaker is open began before: it says little of now, so a probe decides.
        return _to(breaker, "closed" if breaker.state == "half-open" else breaker.state, failures=0)
    failures = breaker.failures + 1
    opens = breaker.state == "half-open" or failures >= most
    return _to(breaker, "open" if opens else breaker.state, failures=failures)


def after_probe(breaker: Breaker) -> Breaker:
    """What follows when some time has passed: an open breaker lets one through.

    A half-open one sets the gate again: a pause that was on its way for long may have closed it, and then nothing ends.
    """
    match breaker.state:
        case "open":
            return _to(breaker, "half-open", failures=breaker.failures)
        case "half-open":
            return replace(breaker, applied=False)
        case "closed":
            return breaker


def _to(breaker: Breaker, state: State, *, failures: int) -> Breaker:
    applied = breaker.applied and state == breaker.state
    return replace(breaker, state=state, failures=failures, applied=applied)


# --- the edge -------------------------------------------------------------------------------------------------------


@cache
def lambda_() -> Any:
    return boto3.client("lambda", config=ONE_REQUEST)


def handle(event: object, context: Any) -> dict[str, Any]:
    """Counts the end of an execution, unless the gate kept it out, or probes, and sets the gate.

    The event: a "Step Functions Execution Status Change" as it is, or {"action": "probe"}. Environment:
    `SEMAPHORE_FUNCTION`; `TABLE_NAME`; `FAILURES`, after how many in a row it opens; `NEW_WORK`, what becomes of what
    arrives while it is open, `wait` or `fail`; `REPROCESSOR_FUNCTION`, which is told to reprocess when it closes, may
    be empty; `HOLD`, the name in metrics. What AWS refuses is raised, so that the event comes again; the gate
    that was not set then is set by the next call.
    """
    request = event if isinstance(event, dict) else refuse("the event must be an object", event)
    edge = _Edge(Patience.of(context))
    detail = request.get("detail")
    if request.get("action") == "probe":
        breaker = edge.change(after_probe)
    elif isinstance(detail, dict) and detail.get("status") in (*FAILURES, "SUCCEEDED"):
        ending = f"{detail.get('executionArn')}#{detail.get('redriveCount', 0)}"
        failed, most = detail["status"] in FAILURES, int(os.environ["FAILURES"])
        if detail.get("error") in NOT_LET_IN:
            breaker = edge.read()
        else:
            breaker = edge.change(lambda breaker: after_ending(breaker, ending, failed=failed, most=most))
    else:
        refuse("the event must be a status change of an execution, or a probe", event)
    breaker = edge.apply(breaker)
    return {"state": breaker.state, "failures": breaker.failures}


def _tell(breaker: Breaker) -> None:
    level = "WARN" if breaker.state == "open" else "INFO"
    log(level, f"the breaker is {breaker.state}", failures=breaker.failures)
    if breaker.state == "open":
        record = metrics_record(
            namespace=NAMESPACE,
            dimensions={"Hold": os.environ["HOLD"]},
            metrics={"Opened": ("Count", 1)},
            now=time.time(),
        )
        print(json.dumps(record))


class _Edge:
    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    def change(self, decide: Callable[[Breaker], Breaker]) -> Breaker:
        """The breaker after the decision, which is made again where others were faster."""
        for attempt in range(MOST_LOOKS):
            before = self.read()
            after = decide(before)
            if after == before:
                return before
            after = replace(after, version=before.version + 1)
            if self.write(after):
                return after
            self._patience.pause(attempt)
        raise ContendedError(f"others were faster {MOST_LOOKS} times")

    def apply(self, breaker: Breaker) -> Breaker:
        """Sets the gate as the breaker says. Where it has changed meanwhile, once more: the last one counts."""
        is_set = breaker.applied
        for attempt in range(MOST_LOOKS):
            if breaker.applied:
                return breaker
            self.set_gate(breaker.state)
            if not is_set:
                _tell(breaker)
                if breaker.state == "closed":
                    self.drain()
            applied = replace(breaker, applied=True, version=breaker.version + 1)
            if self.write(applied):
                return applied
            self._patience.pause(attempt)
            breaker = self.read()
            # Where others were done with it, that is told already; only the gate may have been set too late by this.
            is_set = breaker.applied
            breaker = replace(breaker, applied=False)
        raise ContendedError(f"others were faster {MOST_LOOKS} times")

    def read(self) -> Breaker:
        reply = self._patience.ask(
            lambda: dynamodb().get_item(TableName=os.environ["TABLE_NAME"], Key={"id": {"S": KEY}}, ConsistentRead=True)
        )
        if "Item" not in reply:
            return Breaker()
        values = json.loads(reply["Item"]["breaker"]["S"])
        return Breaker(**{**values, "seen": tuple(values["seen"]), "version": int(reply["Item"]["version"]["N"])})

    def write(self, breaker: Breaker) -> bool:
        """Whether it was written; not if it has changed since it was read."""
        text = json.dumps({name: value for name, value in asdict(breaker).items() if name != "version"})
        try:
            self._patience.ask(
                lambda: dynamodb().put_item(
                    TableName=os.environ["TABLE_NAME"],
                    Item={"id": {"S": KEY}, "breaker": {"S": text}, "version": {"N": str(breaker.version)}},
                    ConditionExpression="attribute_not_exists(#id) OR #version = :before",
                    ExpressionAttributeNames={"#id": "id", "#version": "version"},
                    ExpressionAttributeValues={":before": {"N": str(breaker.version - 1)}},
                )
            )
        except dynamodb().exceptions.ConditionalCheckFailedException:
            return False
        return True

    def set_gate(self, state: State) -> None:
        """Sets the semaphore as the state says. Each request may be made twice."""
        function = os.environ["SEMAPHORE_FUNCTION"]
        if state == "open":
            self._invoke(function, {"action": "pause", "newWork": os.environ["NEW_WORK"]})
        elif state == "half-open":
            self._invoke(function, {"action": "set-limit", "limit": 1})
            self._invoke(function, {"action": "resume"})
        else:
            limit = self._invoke(function, {"action": "status"}).get("limitInCode")
            self._invoke(function, {"action": "set-limit", "limit": limit})
            self._invoke(function, {"action": "resume"})

    def drain(self) -> None:
        """Has the reprocessor run again what failed meanwhile, if there is one."""
        if reprocessor := os.environ["REPROCESSOR_FUNCTION"]:
            self._patience.ask(
                lambda: lambda_().invoke(
                    FunctionName=reprocessor, InvocationType="Event", Payload=json.dumps({"action": "reprocess"})
                )
            )

    def _invoke(self, function: str, request: Mapping[str, Any]) -> dict[str, Any]:
        reply = self._patience.ask(lambda: lambda_().invoke(FunctionName=function, Payload=json.dumps(request)))
        answer = reply["Payload"].read().decode(errors="replace")
        if "FunctionError" in reply:
            raise GateError(f"the semaphore's function failed: {answer[:500]}")
        try:
            found = json.loads(answer)
        except ValueError as problem:
            raise GateError(f"the semaphore's function must answer with JSON, got {answer[:500]}") from problem
        return found if isinstance(found, dict) else {}

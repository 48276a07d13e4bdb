"""Executions of a state machine: started, waited for, and read from their history."""

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from embedded_aws import EmbeddedAws

_POLL = 0.2  # seconds
_OURS = "demo-"
_OWN = ("Release ", "Plan", "Go on planning", "Account for all items")
"""What the names of states begin with whose function tells nobody: it does what the state machine itself needs."""

_NEVER_STARTED = '"StopCode":"TaskFailedToStart"'


@dataclass(frozen=True)
class Step:
    """A stretch of an execution that is worth drawing. Times are in seconds since the execution's start."""

    kind: Literal["task", "refused", "pause", "waited", "told"]
    """`"task"` if a container or a function was at work, `"refused"` if the launch came to nothing, `"waited"` for a
    permit."""
    start: float
    end: float
    ok: bool
    text: str


@dataclass(frozen=True)
class Run:
    """One execution that has ended."""

    arn: str
    label: str
    status: str
    error: str
    input: str
    output: Mapping[str, Any]
    started: float
    """Seconds since the epoch."""
    seconds: float
    steps: Sequence[Step]
    visits: Mapping[str, int]
    """How often each state was entered."""


class StateMachine:
    """A deployed state machine.

    Args:
        aws: Where it is.
        arn: Its ARN.
        work: The states whose function does the work; of those of other states it is taken that they tell somebody.
    """

    def __init__(self, aws: EmbeddedAws, arn: str, *, work: Collection[str] = ()) -> None:
        self._states: Any = aws.client("stepfunctions")
        self.arn = arn
        self._work = work

    @property
    def definition(self) -> dict[str, Any]:
        """What is deployed, as ASL."""
        definition = self._states.describe_state_machine(stateMachineArn=self.arn)["definition"]
        return dict(json.loads(definition))

    def start(self, label: str, input: Mapping[str, Any]) -> str:
        """Starts an execution and returns its ARN."""
        name = f"{_OURS}{re.sub(r'[^A-Za-z0-9]+', '-', label)}-{uuid.uuid4().hex[:8]}"
        answer = self._states.start_execution(stateMachineArn=self.arn, name=name, input=json.dumps(input))
        return str(answer["executionArn"])

    def executions(self) -> list[str]:
        """The ARNs of all executions, newest first."""
        return list(self.statuses())

    def statuses(self) -> dict[str, str]:
        """The status of each execution by its ARN, newest first."""
        pages = self._states.get_paginator("list_executions").paginate(stateMachineArn=self.arn)
        return {str(each["executionArn"]): str(each["status"]) for page in pages for each in page["executions"]}

    def finish(self, arn: str, label: str, *, within: float = 90) -> Run:
        """Waits for the end of an execution.

        Raises:
            TimeoutError: it did not end `within` so many seconds.
        """
        deadline = time.monotonic() + within
        while (execution := self._states.describe_execution(executionArn=arn))["status"] == "RUNNING":
            if time.monotonic() > deadline:
                raise TimeoutError(f"the execution still ran after {within:.0f} s")
            time.sleep(_POLL)
        pages = self._states.get_paginator("get_execution_history").paginate(executionArn=arn)
        events = [event for page in pages for event in page["events"]]
        return Run(
            arn=arn,
            label=label,
            status=execution["status"],
            error=execution.get("error", "none"),
            input=execution.get("input", "{}"),
            output=json.loads(execution.get("output") or "{}"),
            started=events[0]["timestamp"].timestamp(),
            seconds=(events[-1]["timestamp"] - events[0]["timestamp"]).total_seconds(),
            steps=steps(events, work=self._work),
            visits=visits(events),
        )


def is_ours(execution: str) -> bool:
    """Whether the demo started this execution, or something else did. Takes an ARN."""
    return execution.rsplit(":", 1)[-1].startswith(_OURS)


def visits(events: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
    """How often each state was entered."""
    return Counter(event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event)


def steps(events: Sequence[Mapping[str, Any]], *, work: Collection[str] = ()) -> list[Step]:
    """The launches, pauses, waits for a permit and calls of handlers in a history, in the order in which they ended.

    Args:
        events: The history.
        work: The states whose function does the work.
    """
    found = []
    entered, name, resource, action, submitted, failure = 0.0, "", "", "", False, ""
    for event in events:
        at = (event["timestamp"] - events[0]["timestamp"]).total_seconds()
        match event["type"]:
            case "TaskStateEntered" | "WaitStateEntered":
                entered, resource, action, submitted, failure = at, "", "", False, ""
                name = event["stateEnteredEventDetails"]["name"]
            case "ExecutionRedriven":
                # The state that failed goes on, and is not entered again.
                entered, failure = at, ""
            case "TaskScheduled":
                resource = event["taskScheduledEventDetails"]["resourceType"]
                action = event["taskScheduledEventDetails"].get("resource", "")
            case "TaskSubmitted":
                submitted = True
            case "TaskFailed":
                details = event["taskFailedEventDetails"]
                failure = details.get("error", "failed")
                submitted = submitted and _NEVER_STARTED not in details.get("cause", "")
            case "TaskTimedOut":
                failure = event["taskTimedOutEventDetails"].get("error", "States.Timeout")
            case "MapRunStarted":
                entered = at
            case "MapRunSucceeded" | "MapRunFailed":
                found.append(Step("task", entered, at, event["type"] == "MapRunSucceeded", "map run"))
            case "WaitStateExited":
                found.append(Step("pause", entered, at, True, "pause"))
            case "TaskStateExited" if name in work:
                found.append(Step("task", entered, at, not failure, failure or "done"))
            case "ExecutionFailed" if name in work and failure and resource:
                found.append(Step("task", entered, at, False, failure))
            case "TaskStateExited" if resource == "ecs" and (submitted or not failure):
                found.append(Step("task", entered, at, not failure, failure or "exit code 0"))
            case "TaskStateExited" if resource == "ecs":
                found.append(Step("refused", entered, at, False, failure))
            case "TaskStateExited" if action == "invoke.waitForTaskToken":
                found.append(Step("waited", entered, at, not failure, failure or "permit"))
            case "ExecutionAborted" if action == "invoke.waitForTaskToken":
                found.append(Step("waited", entered, at, False, "aborted"))
            case "TaskStateExited" if resource != "dynamodb" and not name.startswith(_OWN):
                found.append(Step("told", entered, at, not failure, name))
    return found

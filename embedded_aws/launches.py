"""Faults for the launches of Fargate tasks, and the record of what was launched."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Shape = Literal["api_error", "no_capacity", "stopped", "raw"]


@dataclass(frozen=True)
class LaunchFault:
    """What goes wrong with one attempt of a state machine to run a task. Made by the methods below.

    They are the ways in which a failure of ECS reaches Step Functions; see "Handle errors in Step Functions" and
    "Stopped task error codes" in the AWS documentation.
    """

    shape: Shape
    error: str = ""
    cause: str = ""
    stop_code: str = ""
    stopped_reason: str = ""
    exit_codes: Mapping[str, int | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0

    @classmethod
    def api_error(cls, error: str, cause: str) -> "LaunchFault":
        """RunTask answers with an error, such as `"ECS.InvalidParameterException"` and `"Rate exceeded"`."""
        return cls("api_error", error=error, cause=cause)

    @classmethod
    def no_capacity(
        cls,
        reason: str = "Capacity is unavailable at this time. Please try again later or in a different "
        "availability zone",
    ) -> "LaunchFault":
        """RunTask answers 200 with a list of failures: Step Functions raises `AmazonECS.Unknown`."""
        return cls("no_capacity", error="AmazonECS.Unknown", cause=reason)

    @classmethod
    def never_started(cls, reason: str) -> "LaunchFault":
        """The task stops before its containers ran: `TaskFailedToStart`, and no exit code anywhere.

        `reason` is the `StoppedReason`, such as `"CannotPullContainerError: ..."`.
        """
        return cls.stopped("TaskFailedToStart", reason)

    @classmethod
    def stopped(
        cls,
        stop_code: str,
        reason: str,
        *,
        exit_codes: Mapping[str, int | None] | None = None,
        reasons: Mapping[str, str] | None = None,
        after: float = 0.0,
    ) -> "LaunchFault":
        """The task stops by itself: the state fails with `States.TaskFailed` and the task as its cause.

        `stop_code` is `"SpotInterruption"`, `"UserInitiated"`, `"EssentialContainerExited"` or another of ECS's.
        `exit_codes` and `reasons` go by container name; a container that is not named has none. The task is
        RUNNING for `after` seconds first. Nothing is run.
        """
        return cls(
            "stopped",
            error="States.TaskFailed",
            stop_code=stop_code,
            stopped_reason=reason,
            exit_codes=dict(exit_codes or {}),
            reasons=dict(reasons or {}),
            after=after,
        )

    @classmethod
    def raw(cls, error: str, cause: str) -> "LaunchFault":
        """The state fails with exactly this error and cause, for instance with JSON that was cut off."""
        return cls("raw", error=error, cause=cause)


@dataclass(frozen=True)
class Launch:
    """One attempt of a state machine to run a task."""

    family: str
    at: float
    """When, in seconds since 1970."""
    request: Mapping[str, Any]
    """What RunTask was asked, in the spelling of its API (camelCase)."""
    execution: str
    """ARN of the execution."""
    fault: LaunchFault | None
    """The fault that was injected; None where the attempt was left alone."""
    task: str | None = None
    """ARN of the task; None where RunTask was refused."""
    error: str | None = None
    """Error name with which RunTask was refused; None where there is a task."""


class LaunchBook:
    """The faults to come and the launches so far, by task definition family. Kept by the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: defaultdict[str, deque[LaunchFault | None]] = defaultdict(deque)
        self._launches: list[Launch] = []

    def refuse(self, family: str, faults: Sequence[LaunchFault | None]) -> None:
        """Sets the faults of the next attempts, in order; None lets one run. Replaces what was set before."""
        with self._lock:
            self._faults[family] = deque(faults)

    def next_fault(self, family: str) -> LaunchFault | None:
        with self._lock:
            return self._faults[family].popleft() if self._faults[family] else None

    def record(
        self,
        family: str,
        request: Mapping[str, Any],
        execution: str,
        fault: LaunchFault | None,
        *,
        task: str | None = None,
        error: str | None = None,
    ) -> None:
        with self._lock:
            self._launches.append(Launch(family, time.time(), request, execution, fault, task, error))

    def launches(self, family: str) -> list[Launch]:
        with self._lock:
            return [launch for launch in self._launches if launch.family == family]

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self._launches.clear()


def to_json(value: LaunchFault | Launch | None) -> Any:
    return None if value is None else asdict(value)


def fault_from_json(value: Any) -> LaunchFault | None:
    return None if value is None else LaunchFault(**value)


def launch_from_json(value: Any) -> Launch:
    return Launch(**{**value, "fault": fault_from_json(value["fault"])})

"""What the histories of one run of the semaphore's benchmark say. Pure: no clock, no AWS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from statistics import mean
from typing import Any

JOB = "Job"
"""The name of the state that is limited, in every design."""

Event = Mapping[str, Any]
"""An event as GetExecutionHistory returns it."""
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, order=True)
class Visit:
    """One execution, in seconds since the epoch.

    Args:
        arrived: When the execution started.
        began: When its job began.
        left: When its job ended.
        ended: When the execution ended.
    """

    arrived: float
    began: float
    left: float
    ended: float


def figures(histories: Sequence[Sequence[Event]], *, limit: int, job_seconds: float) -> Row:
    """The figures of one run, from the histories of the executions that succeeded; there must be one.

    Args:
        histories: All events of each execution, in order.
        limit: How many jobs may run at once.
        job_seconds: How long a job takes.
    """
    visits = sorted(map(visit, histories))
    costs = [billed(events) for events in histories]
    order = [each.began for each in visits]
    idle = gaps(visits, limit)
    ideal = -(-len(visits) // limit) * job_seconds
    makespan = max(each.ended for each in visits) - visits[0].arrived
    return {
        "peak": peak(visits),
        "billed_mean": round(mean(costs), 2),
        "billed_max": max(costs),
        "events_max": max(map(len, histories)),
        "makespan_ratio": round(makespan / ideal, 3),
        "gap_mean_s": round(mean(idle), 3) if idle else 0.0,
        "kendall": round(kendall(order), 4),
        "overtaken_max": overtaken(order),
    }


def visit(events: Sequence[Event]) -> Visit:
    """Raises `ValueError` if the job or the execution did not end."""
    return Visit(
        arrived=_time(events, "ExecutionStarted"),
        began=_time(events, "StateEntered", JOB),
        left=_time(events, "StateExited", JOB),
        ended=_time(events, "ExecutionSucceeded"),
    )


def billed(events: Sequence[Event]) -> int:
    """State transitions that AWS bills: each state that is entered, and each retry.

    https://aws.amazon.com/step-functions/pricing/. A task is scheduled once each time it is entered, and once more for
    each retry.
    """
    types: list[str] = [event["type"] for event in events]
    entered = sum(type_.endswith("StateEntered") for type_ in types)
    attempts = types.count("TaskScheduled") + types.count("LambdaFunctionScheduled")
    return entered + max(0, attempts - types.count("TaskStateEntered"))


def database_calls(events: Sequence[Event]) -> int:
    """Calls of DynamoDB by the state machine itself, retries included."""
    scheduled = (event["taskScheduledEventDetails"] for event in events if event["type"] == "TaskScheduled")
    return sum(details["resourceType"] == "dynamodb" for details in scheduled)


def peak(visits: Sequence[Visit]) -> int:
    """How many jobs ran at once at most. One that begins in the millisecond in which another ends follows it."""
    return max(sum(other.began <= each.began < other.left for other in visits) for each in visits)


def gaps(visits: Sequence[Visit], limit: int) -> list[float]:
    """For each permit that was handed over while somebody waited: for how long nobody had it, in seconds."""
    freed = sorted(each.left for each in visits)
    arrived = sorted(each.arrived for each in visits)[limit:]
    taken = sorted(each.began for each in visits)[limit:]
    # Before the one who takes it arrived, nobody waited. A design that lets in too many is not credited for it.
    return [max(0.0, begin - max(free, arrival)) for free, begin, arrival in zip(freed, taken, arrived, strict=False)]


def kendall(order: Sequence[float]) -> float:
    """Kendall's rank correlation of the order of arrival with that of the jobs: 1 is first come, first served.

    Args:
        order: When the jobs began, in the order in which their executions arrived. Equal times count as in order.
    """
    pairs = [one <= other for one, other in combinations(order, 2)]
    return 2 * sum(pairs) / len(pairs) - 1 if pairs else 1.0


def overtaken(order: Sequence[float]) -> int:
    """By how many who arrived later the most unlucky one was overtaken. Takes the same as `kendall`."""
    return max(sum(later < one for later in order[place + 1 :]) for place, one in enumerate(order))


def _time(events: Sequence[Event], kind: str, state: str | None = None) -> float:
    for event in events:
        if event["type"].endswith(kind) and (state is None or _state(event) == state):
            at: datetime = event["timestamp"]
            return at.timestamp()
    raise ValueError(f"the history has no {kind}{f' of {state}' if state else ''}")


def _state(event: Event) -> str | None:
    details = event.get("stateEnteredEventDetails") or event.get("stateExitedEventDetails") or {}
    name: str | None = details.get("name")
    return name

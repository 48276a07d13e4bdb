"""What emptying a spool took, from what was counted. Pure: no clock, no AWS."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

OURS, LOOP = "ours", "loop"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was counted of one design that emptied a spool once.

    Args:
        size: How many messages there were, numbered from 0.
        started: The number of the message of each execution that was started.
        requests: Requests of the function, by name; each attempt counts.
        seconds: How long the function worked.
    """

    size: int
    started: Sequence[int]
    requests: Mapping[str, int]
    seconds: float


def figures(run: Run) -> Row:
    """The figures of one run."""
    starts = Counter(run.started)
    return {
        "seconds": round(run.seconds, 2),
        "messages_per_second": round(len(starts) / run.seconds, 2),
        "calls_per_message": round(sum(run.requests.values()) / run.size, 3),
        "calls": dict(sorted(run.requests.items())),
        "started": len(run.started),
        "lost": sum(not starts[number] for number in range(run.size)),
        "doubled": sum(count > 1 for count in starts.values()),
    }


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with `ratio`: how many times as many messages per second as the loop, at its size and latency."""
    speeds = {(row["n"], row["latency_ms"]): row["messages_per_second"] for row in rows if row["design"] == LOOP}
    return [{**row, "ratio": _ratio(row, speeds[row["n"], row["latency_ms"]])} for row in rows]


def _ratio(row: Row, speed: float) -> float | None:
    """None beside a loop that started nothing."""
    return round(row["messages_per_second"] / speed, 2) if speed else None

"""What a permit costs and how fast it changes hands: bursts of executions at one limit, ours beside two that poll.

The designs are in semaphore_designs.py. They run one after the other, each on an embedded AWS of its own: side by side
they would take the processors from each other, and what one leaves behind would slow down the next. It takes 12
minutes, and 22 with 300 for every design. Every burst has a lock that was never used before. A small burst that does
not count comes first, so that functions are warm.

Counts (transitions, events, calls) are those that AWS would bill, as far as the embedded AWS is right. Times are those
of this machine: only the ratios say something, and only on a machine that does nothing else.
"""

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.semaphore_designs import DESIGNS, JOB_SECONDS, LIMIT, STACK
from benchmarks.semaphore_figures import Event, Row, database_calls, figures
from benchmarks.tables import markdown
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "build" / "bench" / "semaphore.json"
SIZES: Mapping[str, Sequence[int]] = {
    "ours": (20, 100, 300),
    # At 300 it takes ten minutes, in most of which permits are free.
    "state-machine-semaphore": (20, 100),
    "polling": (20, 100, 300),
}
"""How many executions start at once, unless it is said otherwise."""
WARM_UP = LIMIT * 2
PATIENCE = 900
"""Seconds after which what has not ended counts as lost."""

CORRECT: Mapping[str, float] = {"lost": 0, "peak": LIMIT}
"""What must never be more in ours, at any size. These are bugs, not performance."""
BARS: Mapping[str, float] = {
    "billed_max": 3,
    "events_max": 15,
    "makespan_ratio": 1.10,
    "gap_mean_s": 0.15,
    "functions_per_item": 2,
    "database_calls_per_item": 5,
}
"""The most that ours should need at the largest size."""
KENDALL = 0.99
"""The least order that ours should keep at the largest size."""


def run(sizes: Sequence[int] = ()) -> bool:
    """Measures, prints, and writes a row for each design and size to build/bench/semaphore.json.

    Args:
        sizes: How many executions start at once, each more than `WARM_UP`, in every design. Default: `SIZES`.

    Returns whether ours is correct; how fast it is does not matter here.
    """
    if any(size <= WARM_UP for size in sizes):
        raise SystemExit(f"sizes must be more than {WARM_UP}, got {sizes}")
    print(f"semaphore: bursts at limit {LIMIT} with a job of {JOB_SECONDS} s, {_machine()} before", flush=True)
    rows: list[Row] = []
    for design in DESIGNS:
        rows += _measure_design(design, sizes or SIZES[design])
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    print("\n".join(table(rows)))
    print("\n".join(["bars of ours", *bars(rows)]))
    print(f"  {_machine()} after, written to {RESULTS.relative_to(ROOT)}")
    return all(row[name] <= most for row in rows if row["design"] == "ours" for name, most in CORRECT.items())


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure_design(design: str, sizes: Sequence[int]) -> list[Row]:
    with EmbeddedAws() as aws, tempfile.TemporaryDirectory() as folder:
        DESIGNS[design](Path(folder), [WARM_UP, *sizes])
        outputs = deploy(aws, Path(folder), STACK)
        stop_the_clock(aws)
        _measure(aws, design, outputs, WARM_UP)
        return [_measure(aws, design, outputs, size) for size in sizes]


def stop_the_clock(aws: EmbeddedAws) -> list[Mapping[str, Any]]:
    """Ours sweeps every minute, however many items there are: that would not be a cost per item.

    Returns what is no longer called by the clock, with its input.
    """
    events = aws.client("events")
    stopped: list[Mapping[str, Any]] = []
    for rule in events.list_rules()["Rules"]:
        if "ScheduleExpression" in rule:
            events.disable_rule(Name=rule["Name"])
            stopped += events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    return stopped


def _measure(aws: EmbeddedAws, design: str, outputs: Mapping[str, str], size: int) -> Row:
    states = aws.client("stepfunctions")
    machine, input_ = outputs[f"Size{size}"], json.dumps({"lock": f"size-{size}"})
    invoked, asked = _invocations(aws, outputs), _database_requests(aws)
    print(f"  {design}, {size} executions", flush=True)
    executions = [states.start_execution(stateMachineArn=machine, input=input_)["executionArn"] for _ in range(size)]
    lost = _wait_for_all(states, executions)
    # What is written to the log arrives a moment later.
    time.sleep(0.5)
    invoked, asked = _invocations(aws, outputs) - invoked, _database_requests(aws) - asked
    histories = [history(states, execution) for execution in executions if execution not in lost]
    # What a function calls comes as a request, what a state machine calls is in its history.
    calls = asked + sum(map(database_calls, histories))
    return {
        "design": design,
        "n": size,
        "limit": LIMIT,
        "job_seconds": JOB_SECONDS,
        **figures(histories, limit=LIMIT, job_seconds=JOB_SECONDS),
        "lost": len(lost),
        "functions_per_item": round(invoked / size, 2),
        "database_calls_per_item": round(calls / size, 2),
    }


def _wait_for_all(states: Any, executions: Sequence[str]) -> set[str]:
    """Returns those that did not succeed."""
    deadline = time.monotonic() + PATIENCE
    open_ = list(executions)
    while open_ and time.monotonic() < deadline:
        time.sleep(0.5)
        # Who started last ends late: most of the others are asked about once.
        while open_ and states.describe_execution(executionArn=open_[-1])["status"] != "RUNNING":
            open_.pop()
    return {one for one in executions if states.describe_execution(executionArn=one)["status"] != "SUCCEEDED"}


def history(states: Any, execution: str) -> list[Event]:
    pages = states.get_paginator("get_execution_history").paginate(executionArn=execution)
    return [event for page in pages for event in page["events"]]


def _invocations(aws: EmbeddedAws, outputs: Mapping[str, str]) -> int:
    if "Log" not in outputs:
        return 0
    pages = aws.client("logs").get_paginator("filter_log_events").paginate(logGroupName=outputs["Log"])
    return sum(event["message"].startswith("START ") for page in pages for event in page["events"])


def _database_requests(aws: EmbeddedAws) -> int:
    return sum(count for name, count in aws.requests().items() if name.startswith("dynamodb:"))


# --- telling --------------------------------------------------------------------------------------------------------

_COLUMNS = {
    "design": "design",
    "n": "N",
    "peak": "peak",
    "billed_mean": "billed",
    "billed_max": "most",
    "events_max": "events",
    "makespan_ratio": "makespan",
    "gap_mean_s": "gap s",
    "kendall": "kendall",
    "overtaken_max": "overtaken",
    "lost": "lost",
    "functions_per_item": "functions",
    "database_calls_per_item": "db calls",
}
_COMPARED = ("billed_mean", "billed_max", "events_max", "makespan_ratio", "gap_mean_s", "database_calls_per_item")
"""Where more is worse, and how many times as much as ours is what one wants to know."""


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table in Markdown, by size, with each figure's ratio to that of ours."""
    base = {row["n"]: row for row in rows if row["design"] == "ours"}
    # Stable: within a size, the designs keep their order.
    cells = [
        [_cell(row, name, base.get(row["n"])) for name in _COLUMNS] for row in sorted(rows, key=lambda row: row["n"])
    ]
    return markdown(_COLUMNS.values(), cells)


def _cell(row: Row, name: str, ours: Row | None) -> str:
    value = row[name]
    if name not in _COMPARED or ours is None or row is ours or not ours[name]:
        return str(value)
    return f"{value} (x{value / ours[name]:.1f})"


def bars(rows: Sequence[Row]) -> list[str]:
    """Says of each bar whether ours holds it."""
    ours = [row for row in rows if row["design"] == "ours"]
    largest = max(ours, key=lambda row: row["n"])
    at = f"at N={largest['n']}"
    worst = {name: max(row[name] for row in ours) for name in CORRECT}
    checks = [
        *(
            (f"{name} {worst[name]} at every size, at most {most}", worst[name] <= most)
            for name, most in CORRECT.items()
        ),
        *((f"{name} {largest[name]} {at}, at most {most}", largest[name] <= most) for name, most in BARS.items()),
        (f"kendall {largest['kendall']} {at}, at least {KENDALL}", largest["kendall"] >= KENDALL),
    ]
    return [f"  {'holds' if holds else 'FAILS'}  {check}" for check, holds in checks]


def _machine() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"

"""What an object costs on its way through a pipeline, and whether that grows with the burst: ours beside two others.

The designs are in pipeline_designs.py. Each gets its objects by real puts into a bucket, on an embedded AWS of its own.
The other two are measured up to 300 objects: what one of them needs grows with those that wait, and the other one loses
what it cannot launch. The limit alone makes it take 8 minutes, a busy machine several times that.

Counts are those that AWS would bill, as far as the embedded AWS is right; US$ are estimates made of them, see
pipeline_figures.py. The clock stands still: the valve and the semaphore's sweep, which run every minute however many
objects there are, are measured apart. Times say nothing.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.pipeline_designs import DESIGNS, JOB_SECONDS, LIMIT, STACK
from benchmarks.pipeline_figures import Run, clock_usd_per_month, figures, flat
from benchmarks.semaphore import history, stop_the_clock
from benchmarks.semaphore_figures import Row
from benchmarks.tables import markdown
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "build" / "bench" / "pipeline.json"
SIZES = (100, 300, 1000, 3000)
"""How many objects are put at once, unless it is said otherwise."""
MOST_OF_OTHERS = 300
"""The largest burst that the other designs get."""
THREADS = 8
POLL = 5
"""Seconds between two looks at the executions."""
MOST_EVENTS = 10_000
"""Events of a log that one request gets, on AWS as on the embedded one, which has no second page."""
LOG_SLICE = 20_000
"""Milliseconds of a log that are asked for at once."""
PATIENCE = 120
"""Seconds without any execution that ends, after which what has not ended counts as lost."""

CORRECT: Mapping[str, int] = {"lost": 0, "doubled": 0, "peak": LIMIT}
"""What must never be more in ours, at any size. These are bugs, not cost."""
FLAT = 1.10
"""How many times as much as in the smallest burst an object may cost in the largest."""
ALSO_FLAT = ("transitions", "functions", "database_calls", "queue_calls")
"""What must be flat besides the US$."""


def run(sizes: Sequence[int] = ()) -> bool:
    """Measures, prints, and writes a row for each design and size to build/bench/pipeline.json.

    Args:
        sizes: How many objects are put at once. Default: `SIZES`.

    Returns whether ours is correct: nothing lost, nothing done twice, never more at once than the limit.
    """
    sizes = sorted(sizes or SIZES)
    print(f"pipeline: bursts of objects at limit {LIMIT} with a job of {JOB_SECONDS} s", flush=True)
    rows: list[Row] = []
    clock: Row = {}
    for design in DESIGNS:
        most = MOST_OF_OTHERS if design != "ours" else max(sizes)
        measured, minute = _measure_design(design, [size for size in sizes if size <= most])
        rows += measured
        clock = clock or minute
        # After each design: if a later one breaks off, what was measured is there.
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    print("\n".join([*table(rows), *bars(rows)]))
    print(f"  the clock: US$ {clock['usd_per_month']} per month and pipeline, with nothing to do: {clock['functions']}")
    print(f"  estimates: list prices of us-east-1; without the job, logs and traces. Written to {RESULTS.name}")
    return all(row[name] <= most for row in rows if row["design"] == "ours" for name, most in CORRECT.items())


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure_design(design: str, sizes: Sequence[int]) -> tuple[list[Row], Row]:
    """A row for each size, and what a minute of the clock calls; nothing where there is no clock."""
    with EmbeddedAws() as aws, tempfile.TemporaryDirectory() as folder:
        DESIGNS[design](Path(folder))
        outputs = deploy(aws, Path(folder), STACK)
        minute = stop_the_clock(aws)
        rows = [_measure(aws, design, outputs, size) for size in sizes]
        if not minute:
            return rows, {}
        clock = _measure_a_minute(aws, outputs, minute)
        return [{**row, "clock_usd_per_month": clock["usd_per_month"]} for row in rows], clock


def _measure(aws: EmbeddedAws, design: str, outputs: Mapping[str, str], size: int) -> Row:
    print(f"  {design}, {size} objects", flush=True)
    states, machine = aws.client("stepfunctions"), outputs["Machine"]
    earlier = set(_executions(states, machine))
    asked, began, since = aws.requests(), time.monotonic(), time.time()
    keys = [f"{size}/{number:05}.csv" for number in range(size)]
    put(aws, outputs["Bucket"], keys)
    ended = _wait_for_all(states, machine, len(earlier) + size)
    # What is written to the log, and who was about to be told, arrives a moment later.
    time.sleep(1)
    asked = aws.requests() - asked - Counter({"s3:PUT": size})
    executions = [one for one in _executions(states, machine) if one not in earlier]
    counted = Run(
        keys=keys,
        histories=[history(states, execution) for execution in executions],
        functions=calls(aws, outputs, since),
        requests=asked,
        seconds=ended - began,
    )
    return {"design": design, "n": size, "limit": LIMIT, "job_seconds": JOB_SECONDS, **figures(counted)}


def _measure_a_minute(aws: EmbeddedAws, outputs: Mapping[str, str], minute: Sequence[Mapping[str, Any]]) -> Row:
    """Calls by hand what the clock would have called."""
    asked, since = aws.requests(), time.time()
    for target in minute:
        aws.client("lambda").invoke(FunctionName=target["Arn"], Payload=target.get("Input", "{}"))
    time.sleep(1)
    functions, requests = calls(aws, outputs, since), aws.requests() - asked
    return {
        "functions": functions,
        "requests": dict(requests),
        "usd_per_month": round(clock_usd_per_month(sum(functions.values()), requests), 2),
    }


def put(aws: EmbeddedAws, bucket: str, keys: Sequence[str]) -> None:
    storage = aws.client("s3")
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda key: storage.put_object(Bucket=bucket, Key=key, Body=b"0"), keys):
            pass


def _wait_for_all(states: Any, machine: str, count: int) -> float:
    """Returns when the last one ended, or when nothing went on any more."""
    ended, since = 0, time.monotonic()
    while ended < count and time.monotonic() - since < PATIENCE:
        # To list thousands is work for the embedded AWS, too.
        time.sleep(POLL)
        now = sum(status != "RUNNING" for status in _executions(states, machine).values())
        if now != ended:
            ended, since = now, time.monotonic()
    return since


def _executions(states: Any, machine: str) -> dict[str, str]:
    """The status of each."""
    pages: Iterator[Any] = states.get_paginator("list_executions").paginate(stateMachineArn=machine)
    return {one["executionArn"]: one["status"] for page in pages for one in page["executions"]}


def calls(aws: EmbeddedAws, outputs: Mapping[str, str], since: float) -> dict[str, int]:
    """How often each function was called since a time, by the name of its output."""
    logs = {name.removesuffix("Log"): group for name, group in outputs.items() if name.endswith("Log")}
    return {name: _starts(aws, group, since) for name, group in logs.items()}


def _starts(aws: EmbeddedAws, log_group: str, since: float) -> int:
    """How often a function was started, slice by slice of the log."""
    slices = range(int(since * 1000), int(time.time() * 1000) + 1, LOG_SLICE)
    return sum(_starts_within(aws, log_group, begin, begin + LOG_SLICE - 1) for begin in slices)


def _starts_within(aws: EmbeddedAws, log_group: str, begin: int, end: int) -> int:
    events = aws.client("logs").filter_log_events(
        logGroupName=log_group, startTime=begin, endTime=end, filterPattern='"START RequestId"', limit=MOST_EVENTS
    )["events"]
    if len(events) == MOST_EVENTS:
        raise RuntimeError(f"{log_group} has too many events from {begin} to {end}: make LOG_SLICE smaller")
    return len(events)


# --- telling --------------------------------------------------------------------------------------------------------

_COLUMNS = {
    "design": "design",
    "n": "N",
    "transitions_per_object": "transitions",
    "events_max": "events",
    "functions_per_object": "functions",
    "database_calls_per_object": "db calls",
    "queue_calls_per_object": "queue calls",
    "s3_calls_per_object": "S3 calls",
    "usd_per_million": "US$/million",
    "peak": "peak",
    "lost": "lost",
    "doubled": "doubled",
    "seconds": "s",
}


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table in Markdown. Transitions, functions and calls are per object."""
    return markdown(_COLUMNS.values(), ([str(row[name]) for name in _COLUMNS] for row in rows))


def bars(rows: Sequence[Row]) -> list[str]:
    """Says of each bar whether ours holds it."""
    ours = [row for row in rows if row["design"] == "ours"]
    sizes = [row["n"] for row in ours]
    checks = []
    for name, most in CORRECT.items():
        worst = max(row[name] for row in ours)
        checks.append((f"{name} {worst} at every size, at most {most}", worst <= most))
    for name in ("usd_per_million", *(f"{each}_per_object" for each in ALSO_FLAT)):
        ratio = flat(rows, name)
        checks.append((f"{name} N={max(sizes)} / N={min(sizes)}: {ratio}, at most {FLAT}", ratio <= FLAT))
    return ["bars of ours", *(f"  {'holds' if holds else 'FAILS'}  {check}" for check, holds in checks)]

"""What an item costs in a distributed Map, one by one and in batches, and whether the account of all is right.

The designs are in map_designs.py. Each gets its items by real puts into a bucket, on an embedded AWS of its own. Those
of the library run twice over the same objects: on a good day, which is what is counted, and on a bad one, on which some
items fail and one batch crashes; the account of both is compared with what is known to be true.

Counts are those that AWS would bill, as far as the embedded AWS is right: transitions by the histories of the
execution and of all its children, calls of functions by their logs. Calls and requests of the functions that plan and
account are in them. US$ are estimates made of them, see map_figures.py. Times say nothing.
"""

import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.map_designs import BAD_DAY, BATCH, DESIGNS, GOOD_DAY, STACK
from benchmarks.map_figures import (
    EXPRESS,
    ITEM_BY_ITEM,
    OURS,
    PAGE,
    Account,
    Run,
    failing,
    fewer_calls,
    figures,
    keys_of,
    untruths,
)
from benchmarks.pipeline import THREADS, calls, put
from benchmarks.semaphore import history
from benchmarks.semaphore_figures import Event, Row
from benchmarks.tables import markdown
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "build" / "bench" / "map.json"
SIZE = 10_000
"""How many items there are, unless it is said otherwise."""
POLL = 2
"""Seconds between two looks at an execution."""
PATIENCE = 1_200
"""Seconds after which an execution counts as stuck."""

CORRECT = ("lost", "doubled", "untruths")
"""What must be 0 in ours. These are bugs, not cost."""
FEWER_CALLS = 50.0
"""How many times as many calls of functions item by item should need at least, beside batches of `BATCH`."""


def run(sizes: Sequence[int] = ()) -> bool:
    """Measures, prints, and writes a row for each design and size to build/bench/map.json.

    Args:
        sizes: How many items there are. Default: `SIZE`.

    Returns whether ours is correct: no item lost, none in two batches, and nothing untrue in any account.
    """
    sizes = sorted(sizes or [SIZE])
    if sizes[0] < BATCH:
        raise SystemExit(f"sizes must be at least {BATCH}, got {sizes[0]}")
    print(f"map: items of a bucket, one by one and in batches of {BATCH}", flush=True)
    rows: list[Row] = []
    for size in sizes:
        of_size = [_measure(design, size) for design in DESIGNS]
        rows += [{**row, "fewer_calls": fewer_calls(of_size, row["design"])} for row in of_size]
        # After each size: if a later one breaks off, what was measured is there.
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    print("\n".join([*table(rows), *bars(rows)]))
    for row in rows:
        for untruth in row["untruths"]:
            print(f"  {row['design']}, N={row['n']}, {untruth}")
    print("  estimates: list prices of us-east-1; without logs, traces and what the work on an item asks of AWS")
    print(f"  written to {RESULTS.name}")
    return not any(_faults(row, name) for row in rows if row["design"] in OURS for name in CORRECT)


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure(design: str, size: int) -> Row:
    print(f"  {design}, {size} items", flush=True)
    with EmbeddedAws() as aws, tempfile.TemporaryDirectory() as folder:
        DESIGNS[design](Path(folder))
        outputs = deploy(aws, Path(folder), STACK)
        objects = [f"{number:07}.csv" for number in range(size)]
        put(aws, outputs["Bucket"], objects)
        execution, counted = _run(aws, outputs, design, objects)
        row = {"design": design, "n": size, "batch": BATCH if design in OURS else 1, **figures(counted)}
        if design not in OURS:
            return {**row, "account": None, "untruths": []}
        good = untruths(_account(aws, outputs, execution), objects, {})
        return {**row, **_measure_a_bad_day(aws, outputs, objects, good)}


def _measure_a_bad_day(
    aws: EmbeddedAws, outputs: Mapping[str, str], objects: Sequence[str], untruths_before: Sequence[str]
) -> Row:
    """Runs once more over the same objects, of which some fail now."""
    execution = _execute(aws, outputs, {"runDate": BAD_DAY})
    batches = [keys_of(events) for events in _children(aws, execution)]
    account = _account(aws, outputs, execution)
    found = untruths(account, objects, failing(batches))
    twice = Counter(key for batch in batches for key in batch) - Counter(objects)
    return {
        "account": {**account.counts, "groups": dict(account.groups)},
        "untruths": [
            *(f"on a good day, {each}" for each in untruths_before),
            *(f"on a bad day, {each}" for each in found),
            *(f"on a bad day, {key} was in two batches" for key in twice),
        ],
    }


def _run(aws: EmbeddedAws, outputs: Mapping[str, str], design: str, objects: Sequence[str]) -> tuple[str, Run]:
    """An execution in which nothing is to fail, and what was counted of it."""
    asked, began, since = aws.requests(), time.monotonic(), time.time()
    execution = _execute(aws, outputs, {"runDate": GOOD_DAY})
    ended = time.monotonic()
    # What is written to the log, and who was about to be told, arrives a moment later.
    time.sleep(1)
    asked = aws.requests() - asked
    states = aws.client("stepfunctions")
    return execution, Run(
        keys=objects,
        parent=history(states, execution),
        children=_children(aws, execution),
        express=design == EXPRESS,
        functions=calls(aws, outputs, since),
        requests=asked,
        # Ours lists the objects with a function, and the Map reads one file.
        reads=math.ceil(len(objects) / PAGE) if design == ITEM_BY_ITEM else 1,
        writes=0 if design == ITEM_BY_ITEM else len(_results(aws, outputs, execution)),
        seconds=ended - began,
    )


def _execute(aws: EmbeddedAws, outputs: Mapping[str, str], input_: Mapping[str, Any]) -> str:
    """Returns the ARN of the execution when it has ended."""
    states = aws.client("stepfunctions")
    started = states.start_execution(stateMachineArn=outputs["Machine"], input=json.dumps(input_))
    execution: str = started["executionArn"]
    deadline = time.monotonic() + PATIENCE
    while states.describe_execution(executionArn=execution)["status"] == "RUNNING":
        if time.monotonic() > deadline:
            raise RuntimeError(f"{execution} did not end within {PATIENCE} s")
        time.sleep(POLL)
    return execution


def _children(aws: EmbeddedAws, execution: str) -> list[list[Event]]:
    """All events of each child."""
    states = aws.client("stepfunctions")
    found = states.list_map_runs(executionArn=execution)["mapRuns"]
    if not found:
        said = states.describe_execution(executionArn=execution)
        raise RuntimeError(f"{execution} has no map run: {said.get('error')} {said.get('cause')}")
    pages = states.get_paginator("list_executions").paginate(
        mapRunArn=found[0]["mapRunArn"], PaginationConfig={"PageSize": 1000}
    )
    children = [child["executionArn"] for page in pages for child in page["executions"]]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda child: history(states, child), children))


def _results(aws: EmbeddedAws, outputs: Mapping[str, str], execution: str) -> list[str]:
    """The files that the Map itself has written."""
    found = aws.client("s3").list_objects_v2(Bucket=outputs["Results"], Prefix=f"{_folder(execution)}map/")
    return [each["Key"] for each in found["Contents"]]


def _account(aws: EmbeddedAws, outputs: Mapping[str, str], execution: str) -> Account:
    storage = aws.client("s3")

    def lines(name: str) -> list[Any]:
        found = storage.get_object(Bucket=outputs["Results"], Key=f"{_folder(execution)}{name}")
        return [json.loads(line) for line in found["Body"].read().decode().splitlines()]

    body = storage.get_object(Bucket=outputs["Results"], Key=f"{_folder(execution)}summary.json")["Body"].read()
    summary = json.loads(body)
    groups: Counter[str] = Counter()
    for group in summary["groups"]:
        groups[group["error"]] += group["count"]
    return Account(
        status=aws.client("stepfunctions").describe_execution(executionArn=execution)["status"],
        counts=summary["counts"],
        groups=groups,
        again=[item["Key"] for item in lines("failed.jsonl")],
        failures=[(failure["item"]["Key"], failure["error"]) for failure in lines("failures.jsonl")],
    )


def _folder(execution: str) -> str:
    """Where all is that belongs to an execution."""
    return f"runs/{execution.rpartition(':')[2]}/"


# --- telling --------------------------------------------------------------------------------------------------------

_COLUMNS = {
    "design": "design",
    "n": "N",
    "functions_per_1000": "calls",
    "children_per_1000": "children",
    "transitions_per_1000": "transitions",
    "s3_calls_per_1000": "S3 calls",
    "usd_per_million": "US$/million",
    "fewer_calls": "x fewer calls",
    "lost": "lost",
    "doubled": "doubled",
    "untruths": "untruths",
    "seconds": "s",
}


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table in Markdown. Calls, children, transitions and S3 calls are per 1,000 items."""
    return markdown(_COLUMNS.values(), ([_cell(row, name) for name in _COLUMNS] for row in rows))


def _cell(row: Row, name: str) -> str:
    if name != "untruths":
        return str(row[name])
    return "no account" if row["account"] is None else str(len(row[name]))


def bars(rows: Sequence[Row]) -> list[str]:
    """Says of each bar whether ours holds it."""
    ours = [row for row in rows if row["design"] in OURS]
    checks = []
    for name in CORRECT:
        worst = max(_faults(row, name) for row in ours)
        checks.append((f"{name} {worst} at every size, at most 0", worst == 0))
    for row in ours:
        fewer = row["fewer_calls"]
        check = f"fewer_calls {row['design']} N={row['n']}: {fewer}, at least {FEWER_CALLS:g}"
        checks.append((check, fewer >= FEWER_CALLS))
    return ["bars of ours", *(f"  {'holds' if holds else 'FAILS'}  {check}" for check, holds in checks)]


def _faults(row: Row, name: str) -> int:
    return len(row[name]) if name == "untruths" else int(row[name])

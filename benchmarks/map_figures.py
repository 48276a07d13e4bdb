"""What a run over many items cost, and whether its account is right, from what was counted. Pure: no clock, no AWS.

Prices are those of prices.py; durations, and what Step Functions asks of S3, are assumptions, named below. So every
figure in US$ is an estimate. Logs, traces, and what the items themselves are read, written and kept for is not in it.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.pipeline_figures import has_succeeded, named
from benchmarks.prices import LAMBDA_GB, MILLION, priced
from benchmarks.semaphore_figures import Event, Row, billed

ITEM_BY_ITEM, BATCHED, EXPRESS = "item by item", "batched", "batched, Express"
OURS = (BATCHED, EXPRESS)

REFUSALS: Mapping[str, int] = {"Refused": 97, "Unreadable": 501}
"""Errors that are answered on a bad day, each for every so manieth item; the first one counts."""
CRASH = 42
"""The item whose batch fails as a whole on a bad day."""
CRASHED = "RuntimeError"
"""With this error."""

PAGE = 1_000
"""Objects in an answer of ListObjectsV2: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""

ITEM_SECONDS = 0.05
"""Of the work on an item: a few requests in the same region. Those of a batch follow each other."""
CALL_SECONDS = 0.02
"""Of a call beside that."""
OWN_SECONDS = 0.0005
"""Of the functions that plan and account, for each item together."""
OWN_GB = 1.0
"""Their memory."""
PROCESS = "Process"
"""The function that does the work."""
EXPRESS_STEP = 0.1
"""Seconds: an Express workflow is billed in such steps, https://aws.amazon.com/step-functions/pricing/."""
EXPRESS_GB = 64 / 1024
"""What one is billed for: 50 MB, its definition and its data, in steps of 64 MB. A batch has at most 256 KiB."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was counted of one run.

    Args:
        keys: The objects that were put.
        parent: All events of the execution, in order.
        children: The same of each of its children.
        express: Whether they are Express workflows.
        functions: Calls of each function of the design.
        requests: Requests to services by anybody but the benchmark, by name.
        reads: Requests to S3 by the Map itself for its items.
        writes: Requests to S3 by the Map itself for its results.
        seconds: From the start of the execution to its end.
    """

    keys: Sequence[str]
    parent: Sequence[Event]
    children: Sequence[Sequence[Event]]
    express: bool
    functions: Mapping[str, int]
    requests: Mapping[str, int]
    reads: int
    writes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Account:
    """What the library says about a run.

    Args:
        status: How the execution ended.
        counts: The counts of the summary.
        groups: How many items failed with each error, by the summary.
        again: The keys in the file that can be fed back.
        failures: The error of each key in the list of failures.
    """

    status: str
    counts: Mapping[str, int]
    groups: Mapping[str, int]
    again: Sequence[str]
    failures: Sequence[tuple[str, str]]


def figures(run: Run) -> Row:
    """The figures of one run in which nothing was to fail."""
    items = len(run.keys)
    worked = Counter(key for events in run.children for key in keys_of(events))
    done = {key for events in run.children if has_succeeded(events) for key in keys_of(events)}
    usd = costs(run)
    counts = {
        "functions": sum(run.functions.values()),
        "children": len(run.children),
        "transitions": transitions(run),
        "s3_calls": s3_calls(run),
    }
    return {
        **{f"{name}_per_1000": round(count / items * 1000, 2) for name, count in counts.items()},
        "functions_by_name": dict(run.functions),
        "events_max": max(map(len, [run.parent, *run.children])),
        "usd_per_million": round(sum(usd.values()) / items * MILLION, 2),
        "usd_by_service": {service: round(each / items * MILLION, 3) for service, each in usd.items()},
        "lost": len(set(run.keys) - done),
        "doubled": sum(count > 1 for count in worked.values()),
        "seconds": round(run.seconds, 1),
    }


# --- the children ----------------------------------------------------------------------------------------------------


def keys_of(events: Sequence[Event]) -> list[str]:
    """The objects of a child: one, or those of a batch."""
    given: Any = json.loads(events[0]["executionStartedEventDetails"]["input"])
    return [item["Key"] for item in given.get("Items", [given])]


# --- cost ------------------------------------------------------------------------------------------------------------


def costs(run: Run) -> dict[str, float]:
    """What AWS would bill for a run, in US$, by service."""
    used: Mapping[str, Mapping[str, float]] = {
        "Step Functions": {
            "transition": transitions(run),
            "Express request": len(run.children) if run.express else 0,
            "Express GB-second": express_seconds(run) * EXPRESS_GB,
        },
        "Lambda": {"Lambda request": sum(run.functions.values()), "Lambda GB-second": lambda_gb_seconds(run)},
        # To read is cheaper than to list, and to delete is free: too much rather than too little.
        "S3": {"LIST or PUT": s3_calls(run)},
    }
    return {service: priced(units) for service, units in used.items()}


def transitions(run: Run) -> int:
    """Those of the execution, one for each child that it starts, and those of the children unless they are Express.

    https://docs.aws.amazon.com/step-functions/latest/dg/concepts-transitions.html, "Transitions in Distributed Map
    state".
    """
    return billed(run.parent) + len(run.children) + (0 if run.express else sum(map(billed, run.children)))


def express_seconds(run: Run) -> float:
    """For how long the children would be billed on AWS: an assumption, as this machine's times say nothing."""
    if not run.express:
        return 0
    took = (CALL_SECONDS + len(keys_of(events)) * ITEM_SECONDS for events in run.children)
    # Rounded first: 0.1 has no exact value.
    return sum(math.ceil(round(seconds / EXPRESS_STEP, 6)) * EXPRESS_STEP for seconds in took)


def lambda_gb_seconds(run: Run) -> float:
    """How much the functions would take on AWS: an assumption, too."""
    items = len(run.keys)
    calls = run.functions[PROCESS]
    others = sum(run.functions.values()) - calls
    own = others * CALL_SECONDS + (items * OWN_SECONDS if others else 0)
    return (calls * CALL_SECONDS + items * ITEM_SECONDS) * LAMBDA_GB + own * OWN_GB


def s3_calls(run: Run) -> int:
    """Requests of the functions, which are seen, and of the Map itself, which are not."""
    return sum(named(run.requests, "s3:").values()) + run.reads + run.writes


def fewer_calls(rows: Sequence[Row], design: str) -> float:
    """How many times as many calls of functions item by item needs for as many items."""
    calls = {row["design"]: float(row["functions_per_1000"]) for row in rows}
    return round(calls[ITEM_BY_ITEM] / calls[design], 1)


# --- the account -----------------------------------------------------------------------------------------------------


def failing(batches: Sequence[Sequence[str]]) -> dict[str, str]:
    """The error of each key that fails on a bad day."""
    errors: dict[str, str] = {}
    for batch in batches:
        numbers = {key: int(key.partition(".")[0]) for key in batch}
        if CRASH in numbers.values():
            errors |= dict.fromkeys(batch, CRASHED)
            continue
        for key, number in numbers.items():
            error = next((error for error, nth in REFUSALS.items() if number % nth == 0), None)
            if error is not None:
                errors[key] = error
    return errors


def untruths(account: Account, objects: Sequence[str], errors: Mapping[str, str]) -> list[str]:
    """What the account says and is not so, or does not say and is so.

    Args:
        account: The account of a run.
        objects: All keys.
        errors: The error of each that failed.
    """
    counts = {"total": len(objects), "succeeded": len(objects) - len(errors), "failed": len(errors)}
    told = [
        ("the execution", account.status, "FAILED" if errors else "SUCCEEDED"),
        *((name, count, counts.get(name, 0)) for name, count in sorted(account.counts.items())),
        *((f"no {name}", None, counts[name]) for name in counts if name not in account.counts),
        ("the groups", dict(account.groups), dict(Counter(errors.values()))),
    ]
    return [
        *(f"{what}: {said}, should be {true}" for what, said, true in told if said != true),
        *_difference("to feed back", account.again, list(errors)),
        *_difference("failures", account.failures, list(errors.items())),
    ]


def _difference(what: str, said: Sequence[Any], true: Sequence[Any]) -> list[str]:
    missing, much = Counter(true) - Counter(said), Counter(said) - Counter(true)
    return [
        f"{what}: {found.total()} {word}, such as {next(iter(found))}"
        for word, found in (("missing", missing), ("too many", much))
        if found
    ]

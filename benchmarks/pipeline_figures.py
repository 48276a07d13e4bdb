"""What a burst of objects cost, from what was counted. Pure: no clock, no AWS.

Prices are those of prices.py; durations, sizes of items and all that no emulator knows are assumptions, named below.
So every figure in US$ is an estimate. What the job itself costs (Fargate), logs, traces and what it takes to put and
keep the objects is not in it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.prices import LAMBDA_GB, MILLION, priced
from benchmarks.semaphore_figures import JOB, Event, Row, billed, peak, visit

STARTER = "Starter"
"""The function that takes objects from the queue. A design without it has no queue."""

CALL_SECONDS = 0.06
"""Of a call that works off one object: a few requests in the same region."""
START_SECONDS = 0.03
"""What each StartExecution adds to a call of the starter."""
ITEM_UNITS = 2
"""Write units of a waiter or a holder: task token, ARN and keys are 1.1 KB. The index by execution has a copy of it."""
LINE_UNITS = 8
"""Read units of a look at the line: counter and 26 waiters of 1.1 KB, read consistently. A short line is cheaper."""

EMPTY_RECEIVES_PER_MINUTE = 15
"""Of the pollers of an event source mapping: five, each of which waits for up to 20 s.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
"""
MINUTES_PER_MONTH = 43_800


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was counted of one burst.

    Args:
        keys: The objects that were put.
        histories: All events of each execution, in order, also of those that failed.
        functions: Calls of each function of the design.
        requests: Requests to services by anybody but the benchmark, by name.
        seconds: From the first put to the end of the last execution.
    """

    keys: Sequence[str]
    histories: Sequence[Sequence[Event]]
    functions: Mapping[str, int]
    requests: Mapping[str, int]
    seconds: float


def figures(run: Run) -> Row:
    """The figures of one burst."""
    objects = len(run.keys)
    done = Counter(key(events) for events in run.histories if has_succeeded(events))
    worked = Counter(key(events) for events in run.histories for _ in range(jobs(events)))
    usd = costs(run)
    counts = {
        "transitions": transitions(run),
        "functions": sum(run.functions.values()),
        "database_calls": sum(named(run.requests, "dynamodb:").values()),
        "queue_calls": queue_calls(run),
        "s3_calls": sum(named(run.requests, "s3:").values()),
        "starts": run.requests.get("states:StartExecution", 0),
    }
    return {
        **{f"{name}_per_object": round(count / objects, 3) for name, count in counts.items()},
        "events_max": max(map(len, run.histories), default=0),
        "functions_by_name": {name: round(count / objects, 3) for name, count in run.functions.items()},
        "usd_per_million": round(sum(usd.values()) / objects * MILLION, 2),
        "usd_by_service": {service: round(each / objects * MILLION, 2) for service, each in usd.items()},
        "peak": peak([visit(events) for events in run.histories if has_succeeded(events)]) if done else 0,
        "lost": sum(not done[one] for one in run.keys),
        "doubled": sum(count > 1 for count in worked.values()),
        "seconds": round(run.seconds, 1),
    }


# --- one execution ---------------------------------------------------------------------------------------------------


def key(events: Sequence[Event]) -> str:
    """The object of an execution."""
    found: str = json.loads(events[0]["executionStartedEventDetails"]["input"])["object"]["key"]
    return found


def has_succeeded(events: Sequence[Event]) -> bool:
    return bool(events[-1]["type"] == "ExecutionSucceeded")


def jobs(events: Sequence[Event]) -> int:
    """How often the job began."""
    return sum(event.get("stateEnteredEventDetails", {}).get("name") == JOB for event in events)


# --- cost ------------------------------------------------------------------------------------------------------------


def costs(run: Run) -> dict[str, float]:
    """What AWS would bill for a burst, in US$, by service."""
    of_queue = queue_calls(run)
    storage = named(run.requests, "s3:")
    used: Mapping[str, Mapping[str, float]] = {
        "Step Functions": {"transition": transitions(run)},
        "Lambda": {
            "Lambda request": sum(run.functions.values()),
            "Lambda GB-second": lambda_seconds(run.functions, len(run.keys)) * LAMBDA_GB,
        },
        "DynamoDB": database_units(run.requests, len(run.keys)),
        "SQS": {"queue request": of_queue},
        # Functions put markers and list them; to delete is free. A list is a GET of a bucket.
        "S3": {"LIST or PUT": storage["PUT"] + storage["GET"]},
        "EventBridge": {"event": len(run.keys)},
    }
    return {service: priced(units) for service, units in used.items()}


def transitions(run: Run) -> int:
    return sum(map(billed, run.histories))


def queue_calls(run: Run) -> int:
    """Requests to SQS: an event that is sent for each object, and a receive and a delete for each batch.

    What an event source mapping does is not seen as a request. A batch is a call of the starter.
    """
    if STARTER not in run.functions:
        return 0
    return len(run.keys) + 2 * run.functions[STARTER] + sum(named(run.requests, "sqs:").values())


def lambda_seconds(functions: Mapping[str, int], objects: int) -> float:
    """For how long the functions would work on AWS: an assumption, as this machine's times say nothing."""
    return sum(functions.values()) * CALL_SECONDS + (objects * START_SECONDS if STARTER in functions else 0)


def database_units(requests: Mapping[str, int], objects: int) -> dict[str, float]:
    """Read and write units of the semaphore, from its requests.

    A transaction hands a permit on: three items (out of the holders, into the holders, out of the line) and the
    counter, all of which count double. Those that are more than one for each object count as cancelled, which costs
    the same but for the index: too much rather than too little.
    """
    calls = named(requests, "dynamodb:")
    written = calls["PutItem"] + calls["UpdateItem"] + calls["DeleteItem"]
    transactions = calls["TransactWriteItems"]
    writes = (
        written * 2 * ITEM_UNITS + transactions * 2 * (3 * ITEM_UNITS + 1) + min(transactions, objects) * 3 * ITEM_UNITS
    )
    reads = calls["Query"] * LINE_UNITS + calls["GetItem"] + calls["Scan"]
    return {"write unit": writes, "read unit": reads}


def clock_usd_per_month(functions: int, requests: Mapping[str, int]) -> float:
    """What a pipeline costs with nothing to do, in US$ per month: one minute's valve and sweep, and the pollers.

    Args:
        functions: Calls of functions in a minute.
        requests: Requests of these functions in a minute, by name.
    """
    minute = {
        "Lambda request": functions,
        "Lambda GB-second": functions * CALL_SECONDS * LAMBDA_GB,
        "read unit": sum(named(requests, "dynamodb:").values()),
        "queue request": EMPTY_RECEIVES_PER_MINUTE,
    }
    return priced(minute) * MINUTES_PER_MONTH


def named(requests: Mapping[str, int], prefix: str) -> Counter[str]:
    """The requests to one service, without its name."""
    return Counter({name.removeprefix(prefix): count for name, count in requests.items() if name.startswith(prefix)})


def flat(rows: Sequence[Row], figure: str) -> float:
    """The figure of ours at the largest size in relation to that at the smallest."""
    ours = {row["n"]: float(row[figure]) for row in rows if row["design"] == "ours"}
    return round(ours[max(ours)] / ours[min(ours)], 3)

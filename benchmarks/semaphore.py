"""What a permit costs and how fast it changes hands: N executions at one limit, on the embedded AWS."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_stepfunctions as sfn

from constructs_lib import Semaphore
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "build" / "bench" / "semaphore.json"
SIZES = (20, 100)
LIMIT = 5
JOB_SECONDS = 2
PATIENCE = 300

Event = Mapping[str, Any]
Row = dict[str, Any]


def run(sizes: Sequence[int] = SIZES) -> list[Row]:
    """Measures, prints, and writes a row for each size to build/bench/semaphore.json."""
    with EmbeddedAws() as aws, tempfile.TemporaryDirectory() as folder:
        outputs = _deploy(aws, Path(folder))
        # A cold function lets in who gets there first, not who started first.
        _measure(aws, outputs, "warm-up", LIMIT * 2)
        rows = [_measure(aws, outputs, f"size-{size}", size) for size in sizes]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    return rows


def _deploy(aws: EmbeddedAws, folder: Path) -> dict[str, str]:
    app = cdk.App(outdir=str(folder), analytics_reporting=False)
    stack = cdk.Stack(app, "Bench")
    semaphore = Semaphore(stack, "Semaphore", limit=LIMIT)
    work = sfn.Wait(stack, "Work", time=sfn.WaitTime.duration(Duration.seconds(JOB_SECONDS)))
    guarded = semaphore.guard(stack, "Quota", work, key="$.key")
    machine = sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(guarded))
    semaphore.connect(machine)
    cdk.CfnOutput(stack, "MachineOutput", value=machine.state_machine_arn)
    cdk.CfnOutput(stack, "LogOutput", value=semaphore.function.log_group.log_group_name)
    app.synth()
    return deploy(aws, folder, stack.artifact_id)


def _measure(aws: EmbeddedAws, outputs: Mapping[str, str], key: str, size: int) -> Row:
    states = aws.client("stepfunctions")
    calls_before = _calls(aws, outputs["Log"])
    input_ = json.dumps({"key": key})
    executions = [
        states.start_execution(stateMachineArn=outputs["Machine"], input=input_)["executionArn"] for _ in range(size)
    ]
    deadline = time.monotonic() + PATIENCE
    open_ = list(executions)
    while open_ and time.monotonic() < deadline:
        time.sleep(0.5)
        # The last to start is the last to end: the others are asked about once.
        while open_ and states.describe_execution(executionArn=open_[-1])["status"] != "RUNNING":
            open_.pop()
    lost = sum(states.describe_execution(executionArn=one)["status"] != "SUCCEEDED" for one in executions)
    # What is written to the log arrives a moment later.
    time.sleep(0.5)
    calls = _calls(aws, outputs["Log"]) - calls_before
    histories = [_history(states, execution) for execution in executions]
    return {
        "design": "ours",
        "n": size,
        "limit": LIMIT,
        "job_seconds": JOB_SECONDS,
        **figures([events for events in histories if events[-1]["type"] == "ExecutionSucceeded"]),
        "lost": lost,
        "functions_per_item": round(calls / size, 2),
    }


def figures(histories: Sequence[Sequence[Event]]) -> Row:
    """What the histories of one run say."""
    billed = [sum(event["type"].endswith("StateEntered") for event in events) for events in histories]
    starts = sorted((_at(events, "ExecutionStarted"), _at(events, "WaitStateEntered")) for events in histories)
    order = [granted for _, granted in starts]
    pairs = list(combinations(order, 2))
    entered = sorted(order)
    left = sorted(_at(events, "WaitStateExited") for events in histories)
    ideal = -(-len(histories) // LIMIT) * JOB_SECONDS
    gaps = [(entry - exit_).total_seconds() for exit_, entry in zip(left, entered[LIMIT:], strict=False)]
    ended = max(_at(events, "ExecutionSucceeded") for events in histories)
    return {
        "peak": max(sum(a <= moment for a in entered) - sum(b <= moment for b in left) for moment in entered),
        "billed_mean": round(mean(billed), 2),
        "billed_max": max(billed),
        "events_max": max(len(events) for events in histories),
        "makespan_ratio": round((ended - starts[0][0]).total_seconds() / ideal, 3),
        "gap_mean_s": round(mean(gaps), 3),
        "kendall": round(2 * sum(one <= other for one, other in pairs) / len(pairs) - 1, 4),
        "overtaken_max": max(sum(later < one for later in order[place + 1 :]) for place, one in enumerate(order)),
    }


def _at(events: Sequence[Event], type_: str) -> datetime:
    found: datetime = next(event["timestamp"] for event in events if event["type"] == type_)
    return found


def _history(states: Any, execution: str) -> list[Event]:
    pages = states.get_paginator("get_execution_history").paginate(executionArn=execution)
    return [event for page in pages for event in page["events"]]


def _calls(aws: EmbeddedAws, log_group: str) -> int:
    """How often the function was called, the sweeps by the clock included."""
    pages = aws.client("logs").get_paginator("filter_log_events").paginate(logGroupName=log_group)
    return sum(event["message"].startswith("START ") for page in pages for event in page["events"])

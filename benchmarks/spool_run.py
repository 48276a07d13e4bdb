"""Fills a spool, has one design empty it, and prints what was counted: ``python -m benchmarks.spool_run ours 100 20``.

The arguments are the design, how many messages there are, and the latency in milliseconds. A process of its own, as a
function has it: with the reprocessor's environment, and lambda_src on the path.
"""

import contextlib
import io
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3

from benchmarks.spool_designs import DESIGNS
from benchmarks.spool_figures import Run
from spool.envelope import Envelope, write

BATCH = 10
THREADS = 4
TIMEOUT = 900
"""Seconds that the function has, as deployed."""


class Wire:
    """What lies between a function and AWS: each request takes a while longer, and is counted.

    Args:
        latency: In seconds.
    """

    def __init__(self, latency: float) -> None:
        self.requests: Counter[str] = Counter()
        self._latency = latency
        self._lock = threading.Lock()

    def lies_before(self, session: Any) -> None:
        """Of all clients that the session makes from now on."""
        session.events.register("before-send", self._pass)

    def _pass(self, event_name: str, **_: Any) -> None:
        with self._lock:
            self.requests[event_name.rpartition(".")[2]] += 1
        time.sleep(self._latency)


class Context:
    """What Lambda tells a function of the time."""

    def __init__(self) -> None:
        self._until = time.monotonic() + TIMEOUT

    def get_remaining_time_in_millis(self) -> int:
        return int((self._until - time.monotonic()) * 1000)


def measure(design: str, size: int, latency: float) -> Run:
    """The figures of one design; latency in seconds."""
    (machine,) = json.loads(os.environ["TARGETS"])
    # Not through the wire.
    ours: Any = boto3.Session()
    wire = Wire(latency)
    boto3.setup_default_session()
    wire.lies_before(boto3.DEFAULT_SESSION)
    empty = DESIGNS[design]
    # With nothing to do first: so that its clients are there, as in a function that was called before.
    empty(Context())
    _fill(ours.client("sqs"), machine, size)
    wire.requests.clear()
    began = time.monotonic()
    empty(Context())
    seconds = time.monotonic() - began
    return Run(
        size=size,
        started=_started(ours.client("stepfunctions"), machine),
        requests=dict(wire.requests),
        seconds=seconds,
    )


def _fill(queue: Any, machine: str, size: int) -> None:
    for first in range(0, size, BATCH):
        numbers = range(first, min(first + BATCH, size))
        entries = [{"Id": str(number), "MessageBody": _failure(machine, number)} for number in numbers]
        reply = queue.send_message_batch(QueueUrl=os.environ["QUEUE_URL"], Entries=entries)
        if reply.get("Failed"):
            raise RuntimeError(f"the spool was not filled: {reply['Failed']}")


def _failure(machine: str, number: int) -> str:
    name = f"order-{number:05}"
    at = (datetime.now(UTC) - timedelta(hours=1) + timedelta(milliseconds=number)).isoformat()
    return write(
        Envelope(
            input=json.dumps({"number": number, "order": name, "lines": ["x" * 100] * 5}),
            error="Neighbour.Unavailable",
            cause="503: closed for maintenance",
            state_machine=machine,
            execution=f"{machine.replace(':stateMachine:', ':execution:')}:{name}",
            execution_name=name,
            execution_started_at=at,
            failed_at=at,
            failed_state="Ask the neighbour",
            status="FAILED",
            redrive_count=0,
            caught=False,
        )
    )


def _started(states: Any, machine: str) -> list[int]:
    """The number in the input of each execution there is."""
    pages = states.get_paginator("list_executions").paginate(stateMachineArn=machine)
    executions = [each["executionArn"] for page in pages for each in page["executions"]]

    def number(execution: str) -> int:
        described: Mapping[str, Any] = states.describe_execution(executionArn=execution)
        return int(json.loads(described["input"])["number"])

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(number, executions))


def main(design: str, size: str, latency_ms: str) -> None:
    # What a function prints is its log.
    with contextlib.redirect_stdout(io.StringIO()):
        run = measure(design, int(size), int(latency_ms) / 1000)
    print(json.dumps(asdict(run)))


if __name__ == "__main__":
    main(*sys.argv[1:])

import json
import time
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse, HTTPHeaders
from botocore.stub import Stubber

from benchmarks import spool, spool_designs
from benchmarks.spool import LATENCY_MS, bars, table
from benchmarks.spool_designs import loop
from benchmarks.spool_figures import LOOP, OURS, Run, figures, with_ratios
from benchmarks.spool_run import Wire


def counted(**other: Any) -> Run:
    return Run(**{"size": 4, "started": [2, 0, 1, 3], "requests": {"StartExecution": 4}, "seconds": 2.0, **other})


# --- what became of the messages -------------------------------------------------------------------------------------


def test_messages_that_were_started_once_are_neither_lost_nor_doubled() -> None:
    found = figures(counted())
    assert (found["started"], found["lost"], found["doubled"]) == (4, 0, 0)


def test_a_message_without_an_execution_is_lost_and_one_with_two_doubled() -> None:
    found = figures(counted(started=[0, 1, 1, 1]))
    assert (found["started"], found["lost"], found["doubled"]) == (4, 2, 1)


def test_speed_counts_messages_and_not_executions() -> None:
    assert figures(counted())["messages_per_second"] == 2
    assert figures(counted(started=[0, 0, 0, 1]))["messages_per_second"] == 1


def test_calls_are_all_requests_per_message() -> None:
    found = figures(counted(requests={"StartExecution": 4, "ReceiveMessage": 1, "DeleteMessageBatch": 1}))
    assert found["calls_per_message"] == 1.5
    assert found["calls"] == {"DeleteMessageBatch": 1, "ReceiveMessage": 1, "StartExecution": 4}


# --- beside the loop -------------------------------------------------------------------------------------------------


def row(design: str, n: int = 100, latency_ms: int = LATENCY_MS, **other: Any) -> dict[str, Any]:
    return {
        "design": design,
        "n": n,
        "latency_ms": latency_ms,
        "seconds": 1.0,
        "messages_per_second": 60.0 if design == OURS else 10.0,
        "calls_per_message": 1.4 if design == OURS else 3.0,
        "started": n,
        "lost": 0,
        "doubled": 0,
        **other,
    }


def test_a_ratio_is_to_the_loop_at_the_same_size_and_latency() -> None:
    rows = [
        row(OURS),
        row(LOOP),
        row(OURS, 300),
        row(LOOP, 300, messages_per_second=12.0),
        row(OURS, latency_ms=0),
        row(LOOP, latency_ms=0, messages_per_second=40.0),
    ]
    assert [each["ratio"] for each in with_ratios(rows)] == [6, 1, 5, 1, 1.5, 1]


def test_there_is_no_ratio_to_a_loop_that_started_nothing() -> None:
    rows = with_ratios([row(OURS), row(LOOP, messages_per_second=0.0)])
    assert [each["ratio"] for each in rows] == [None, None]
    assert [line.split()[1] for line in bars(rows) if "FAILS" in line] == ["ratio"]


def failing(*rows: Mapping[str, Any]) -> list[str]:
    lines = bars(with_ratios([dict(each) for each in rows]))
    return [line.split(":")[0].split(maxsplit=1)[1] for line in lines if line.split()[0] == "FAILS"]


def test_all_bars_hold_where_ours_is_fast_and_right() -> None:
    assert failing(row(OURS), row(LOOP)) == []


def test_the_ratio_must_hold_at_every_size_with_the_latency_of_aws() -> None:
    both = [row(OURS), row(LOOP), row(OURS, 300, messages_per_second=49.0), row(LOOP, 300)]
    assert failing(*both) == [f"ratio N=300, {LATENCY_MS} ms"]


def test_the_ratio_need_not_hold_without_latency_but_the_calls_must_be_fewer() -> None:
    assert failing(row(OURS, latency_ms=0, messages_per_second=11.0), row(LOOP, latency_ms=0)) == []
    slow = row(OURS, latency_ms=0, calls_per_message=3.0)
    assert failing(slow, row(LOOP, latency_ms=0)) == ["calls_per_message N=100, 0 ms"]


@pytest.mark.parametrize("figure", ["lost", "doubled"])
def test_the_bars_name_what_is_wrong_in_ours_and_not_in_the_loop(figure: str) -> None:
    assert failing(row(OURS), row(LOOP, **{figure: 1})) == []
    [line] = failing(row(OURS, **{figure: 1}), row(LOOP))
    assert line.startswith(f"{figure} 1 ")


def test_all_lines_of_the_table_are_as_long() -> None:
    lines = table(with_ratios([row(OURS, 1000, seconds=123.45), row(LOOP, 1000)]))
    assert len({len(line) for line in lines}) == 1


# --- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What of ours is other than it should be; set by the test."""
    other: dict[str, Any] = {}

    def measure(folder: Path, design: str, size: int, latency_ms: int) -> dict[str, Any]:
        return row(design, size, latency_ms, **(other if design == OURS else {"lost": 1}))

    monkeypatch.setattr(spool, "ROOT", tmp_path)
    monkeypatch.setattr(spool, "RESULTS", tmp_path / "spool.json")
    monkeypatch.setattr(spool, "_synthesize", lambda folder: None)
    monkeypatch.setattr(spool, "_measure", measure)
    return other


@pytest.mark.parametrize(
    ("wrong", "correct"),
    [({"messages_per_second": 1.0, "calls_per_message": 9}, True), ({"lost": 1}, False), ({"doubled": 1}, False)],
    ids=["slow", "lost", "doubled"],
)
def test_a_run_fails_where_ours_is_wrong_and_not_where_it_is_slow(
    wrong: Mapping[str, Any], correct: bool, measured: dict[str, Any]
) -> None:
    measured.update(wrong)
    assert spool.run([20]) is correct


def test_a_run_measures_every_size_and_less_latency_in_the_middle(
    measured: dict[str, Any],
) -> None:
    spool.run([30, 10, 20])
    written = json.loads(spool.RESULTS.read_text())
    cases = [(each["n"], each["latency_ms"]) for each in written if each["design"] == OURS]
    assert cases == [(10, 20), (20, 20), (30, 20), (20, 5), (20, 0)]


def test_a_spool_without_messages_is_refused() -> None:
    with pytest.raises(SystemExit, match="at least 1, got 0"):
        spool.run([10, 0])


# --- between a function and AWS --------------------------------------------------------------------------------------


class Body(BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


def test_the_wire_counts_each_request_and_makes_it_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    session: Any = boto3.Session("test", "test", region_name="us-east-1")
    wire = Wire(0.02)
    wire.lies_before(session)
    client = session.client("sqs")
    # Instead of AWS.
    client.meta.events.register_last("before-send", lambda **_: AWSResponse("", 200, HTTPHeaders(), Body(b"{}")))
    client.list_queues()
    client.purge_queue(QueueUrl="https://queue")
    client.list_queues()
    assert dict(wire.requests) == {"ListQueues": 2, "PurgeQueue": 1}
    assert waited == [0.02] * 3


# --- the loop --------------------------------------------------------------------------------------------------------


def test_the_loop_deletes_each_message_after_its_start_until_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = boto3.client("sqs", region_name="us-east-1")
    states = boto3.client("stepfunctions", region_name="us-east-1")
    monkeypatch.setattr(spool_designs, "_sqs", lambda: queue)
    monkeypatch.setattr(spool_designs, "_stepfunctions", lambda: states)
    monkeypatch.setenv("QUEUE_URL", "https://queue")
    machine = "arn:aws:states:us-east-1:111122223333:stateMachine:orders"
    receive = {"QueueUrl": "https://queue", "MaxNumberOfMessages": 1, "VisibilityTimeout": 1}
    with Stubber(queue) as queued, Stubber(states) as started:
        for handle in ("one", "two"):
            body = json.dumps({"stateMachine": machine, "input": {"order": handle}})
            queued.add_response("receive_message", {"Messages": [{"Body": body, "ReceiptHandle": handle}]}, receive)
            queued.add_response("delete_message", {}, {"QueueUrl": "https://queue", "ReceiptHandle": handle})
            started.add_response(
                "start_execution",
                {"executionArn": f"{machine}:{handle}", "startDate": 0},
                {"stateMachineArn": machine, "input": json.dumps({"order": handle})},
            )
        queued.add_response("receive_message", {}, receive)
        loop(None)
        queued.assert_no_pending_responses()
        started.assert_no_pending_responses()

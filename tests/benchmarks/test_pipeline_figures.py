import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks import pipeline
from benchmarks.pipeline import bars, table
from benchmarks.pipeline_designs import LIMIT
from benchmarks.pipeline_figures import (
    CALL_SECONDS,
    LINE_UNITS,
    MINUTES_PER_MONTH,
    START_SECONDS,
    Run,
    clock_usd_per_month,
    costs,
    database_units,
    figures,
    flat,
    lambda_seconds,
    queue_calls,
)


def event(type_: str, at: float = 0, **details: Any) -> dict[str, Any]:
    return {"type": type_, "timestamp": datetime.fromtimestamp(at, UTC), **details}


def history(key: str, began: float = 1, left: float = 2, *, end: str = "Succeeded", jobs: int = 1) -> Sequence[Any]:
    """Of an execution with one transition before its job."""
    job = [
        event("WaitStateEntered", began, stateEnteredEventDetails={"name": "Job"}),
        event("WaitStateExited", left, stateExitedEventDetails={"name": "Job"}),
    ]
    return [
        event("ExecutionStarted", executionStartedEventDetails={"input": json.dumps({"object": {"key": key}})}),
        event("TaskStateEntered", stateEnteredEventDetails={"name": "Acquire"}),
        *(job * jobs),
        event(f"Execution{end}", left),
    ]


def counted(**other: Any) -> Run:
    given: dict[str, Any] = {
        "keys": ["a", "b"],
        "histories": [history("a"), history("b")],
        "functions": {},
        "requests": {},
        "seconds": 1.25,
    }
    return Run(**{**given, **other})


# --- what became of the objects --------------------------------------------------------------------------------------


def test_an_object_that_was_worked_on_once_is_neither_lost_nor_doubled() -> None:
    found = figures(counted())
    assert (found["lost"], found["doubled"]) == (0, 0)


@pytest.mark.parametrize(
    "histories",
    [[history("a")], [history("a"), history("b", end="Failed")], [history("a"), history("b", jobs=0, end="TimedOut")]],
    ids=["never started", "failed", "timed out"],
)
def test_an_object_without_an_execution_that_succeeded_is_lost(histories: Sequence[Any]) -> None:
    assert figures(counted(histories=histories))["lost"] == 1


def test_an_object_whose_first_execution_failed_and_second_succeeded_is_not_lost() -> None:
    found = figures(counted(histories=[history("a"), history("b", jobs=0, end="Failed"), history("b")]))
    assert (found["lost"], found["doubled"]) == (0, 0)


@pytest.mark.parametrize(
    "histories",
    [
        [history("a"), history("b"), history("b")],
        [history("a"), history("b"), history("b", end="Failed")],
        [history("a"), history("b", jobs=2)],
    ],
    ids=["by two executions", "by one that failed too", "by one execution"],
)
def test_an_object_that_was_worked_on_twice_is_doubled(histories: Sequence[Any]) -> None:
    assert figures(counted(histories=histories))["doubled"] == 1


def test_where_all_is_lost_nobody_was_at_work() -> None:
    found = figures(counted(histories=[history(key, jobs=0, end="Failed") for key in ("a", "b")]))
    assert (found["lost"], found["peak"]) == (2, 0)


def test_the_peak_counts_jobs_that_overlap() -> None:
    assert figures(counted(histories=[history("a", 1, 3), history("b", 2, 4)]))["peak"] == 2
    assert figures(counted(histories=[history("a", 1, 3), history("b", 3, 4)]))["peak"] == 1


# --- what it cost ----------------------------------------------------------------------------------------------------


def test_executions_that_failed_are_paid_for_too() -> None:
    found = figures(counted(histories=[history("a"), history("b", jobs=0, end="Failed"), history("b")]))
    assert found["transitions_per_object"] == (2 + 1 + 2) / 2
    assert found["events_max"] == 5


def test_calls_are_per_object_and_by_service() -> None:
    found = figures(
        counted(
            functions={"Starter": 1, "Semaphore": 4},
            requests={
                "dynamodb:Query": 3,
                "dynamodb:PutItem": 2,
                "s3:GET": 4,
                "states:StartExecution": 2,
                "states:SendTaskSuccess": 9,
            },
        )
    )
    assert {name: found[f"{name}_per_object"] for name in ("functions", "database_calls", "s3_calls", "starts")} == {
        "functions": 2.5,
        "database_calls": 2.5,
        "s3_calls": 2,
        "starts": 1,
    }
    assert found["functions_by_name"] == {"Starter": 0.5, "Semaphore": 2}


def test_a_queue_takes_a_send_for_each_object_and_two_requests_for_each_batch() -> None:
    assert queue_calls(counted(functions={"Starter": 1, "Semaphore": 4}, requests={"sqs:SendMessage": 1})) == 2 + 2 + 1


def test_without_a_starter_there_is_no_queue() -> None:
    assert queue_calls(counted(functions={"Mark": 6})) == 0


def test_a_design_of_transitions_only_costs_these_and_the_event() -> None:
    usd = costs(counted())
    assert {service for service, amount in usd.items() if amount} == {"Step Functions", "EventBridge"}
    # 2 transitions at $25 and an event at $1 per million.
    assert figures(counted())["usd_per_million"] == 2 * 25 + 1


def test_lists_and_puts_of_s3_cost_and_deletes_are_free() -> None:
    paid = costs(counted(requests={"s3:GET": 1, "s3:PUT": 1}))["S3"]
    assert paid == pytest.approx(2 * 5e-6)
    assert costs(counted(requests={"s3:DELETE": 7}))["S3"] == 0


def test_a_starter_works_longer_the_more_it_starts() -> None:
    assert lambda_seconds({"Starter": 1}, 10) == pytest.approx(CALL_SECONDS + 10 * START_SECONDS)
    assert lambda_seconds({"Mark": 3}, 10) == pytest.approx(3 * CALL_SECONDS)


def test_a_permit_that_is_handed_on_without_meeting_another_writes_24_units() -> None:
    # Put into the line: 2, and 2 of the index. Three items and the counter, doubled: 14. Three times the index: 6.
    units = database_units({"dynamodb:PutItem": 1, "dynamodb:TransactWriteItems": 1}, 1)
    assert units == {"write unit": 4 + 14 + 6, "read unit": 0}


def test_a_transaction_that_was_cancelled_is_paid_for_but_not_its_index() -> None:
    one, two = (database_units({"dynamodb:TransactWriteItems": count}, 1)["write unit"] for count in (1, 2))
    assert two - one == 14


def test_reads_of_the_line_are_large() -> None:
    assert database_units({"dynamodb:Query": 2, "dynamodb:GetItem": 1}, 1)["read unit"] == 2 * LINE_UNITS + 1


def test_no_database_no_units() -> None:
    assert database_units({"s3:PUT": 3}, 100) == {"write unit": 0, "read unit": 0}


def test_the_clock_is_paid_by_the_minute() -> None:
    idle, looked = clock_usd_per_month(0, {}), clock_usd_per_month(0, {"dynamodb:Scan": 1, "lambda:GET": 5})
    assert idle > 0
    assert looked - idle == pytest.approx(MINUTES_PER_MONTH * 0.125e-6)


# --- what is told ----------------------------------------------------------------------------------------------------


def row(design: str, n: int, **other: Any) -> dict[str, Any]:
    return {
        "design": design,
        "n": n,
        "transitions_per_object": 4.0,
        "events_max": 19,
        "functions_per_object": 2.1,
        "database_calls_per_object": 5.0,
        "queue_calls_per_object": 1.2,
        "s3_calls_per_object": 0.0,
        "usd_per_million": 130.0,
        "peak": LIMIT,
        "lost": 0,
        "doubled": 0,
        "seconds": 10.0,
        **other,
    }


def test_the_ratio_is_that_of_the_largest_burst_to_the_smallest_of_ours() -> None:
    rows = [
        row("ours", 3000, usd_per_million=132),
        row("ours", 100, usd_per_million=120),
        row("ours", 1000, usd_per_million=999),
        row("plain retry", 5000, usd_per_million=1),
    ]
    assert flat(rows, "usd_per_million") == 1.1


def failing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [line.split()[1] for line in bars([dict(each) for each in rows]) if line.split()[0] == "FAILS"]


def test_a_cost_that_grows_with_the_burst_fails_its_bar() -> None:
    assert failing([row("ours", 100), row("ours", 3000, usd_per_million=142)]) == []
    assert failing([row("ours", 100), row("ours", 3000, usd_per_million=144, database_calls_per_object=6)]) == [
        "usd_per_million",
        "database_calls_per_object",
    ]


def test_one_lost_doubled_or_too_many_fails_at_every_size() -> None:
    wrong = row("ours", 300, lost=1, doubled=1, peak=LIMIT + 1)
    assert failing([row("ours", 100), wrong, row("ours", 3000)]) == ["lost", "doubled", "peak"]


def test_all_lines_of_the_table_are_as_long() -> None:
    lines = table([row("ours", 100), row("a longer name", 3000, usd_per_million=12345.67)])
    assert len(lines) == 4
    assert len(set(map(len, lines))) == 1


@pytest.mark.parametrize(
    ("figures", "correct"),
    [
        ({"usd_per_million": 9e9}, True),
        ({"peak": LIMIT + 1}, False),
        ({"lost": 1}, False),
        ({"doubled": 1}, False),
    ],
)
def test_a_run_fails_where_ours_is_wrong_and_not_where_it_is_dear(
    figures: Mapping[str, float], correct: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measured(design: str, sizes: Sequence[int]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        wrong = figures if design == "ours" else {"lost": 2}
        return [row(design, size, **wrong) for size in sizes], {"usd_per_month": 0.5, "functions": {}}

    monkeypatch.setattr(pipeline, "RESULTS", tmp_path / "pipeline.json")
    monkeypatch.setattr(pipeline, "_measure_design", measured)
    assert pipeline.run([100, 1000]) is correct
    written = json.loads((tmp_path / "pipeline.json").read_text())
    assert [(each["design"], each["n"]) for each in written] == [
        ("ours", 100),
        ("ours", 1000),
        ("marker files", 100),
        ("plain retry", 100),
    ]

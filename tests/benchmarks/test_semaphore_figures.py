from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks import semaphore
from benchmarks.semaphore import bars, table
from benchmarks.semaphore_figures import (
    Visit,
    billed,
    database_calls,
    figures,
    gaps,
    kendall,
    overtaken,
    peak,
    visit,
)


def event(type_: str, at: float = 0, *, state: str | None = None, **details: Any) -> dict[str, Any]:
    kind = "stateEnteredEventDetails" if type_.endswith("Entered") else "stateExitedEventDetails"
    named = {} if state is None else {kind: {"name": state}}
    return {"type": type_, "timestamp": datetime.fromtimestamp(at, UTC), **named, **details}


def scheduled(service: str = "lambda") -> dict[str, Any]:
    return event("TaskScheduled", taskScheduledEventDetails={"resourceType": service, "resource": "any"})


def history(arrived: float, began: float, left: float, ended: float) -> list[Mapping[str, Any]]:
    """Of an execution that waits in another Wait state first, as one that polls does."""
    return [
        event("ExecutionStarted", arrived),
        event("TaskStateEntered", arrived, state="Acquire"),
        scheduled("dynamodb"),
        event("TaskStateExited", arrived, state="Acquire"),
        event("WaitStateEntered", arrived, state="Pause"),
        event("WaitStateExited", began, state="Pause"),
        event("WaitStateEntered", began, state="Job"),
        event("WaitStateExited", left, state="Job"),
        event("ExecutionSucceeded", ended),
    ]


def visits(*times: tuple[float, float, float]) -> list[Visit]:
    return [Visit(arrived=arrived, began=began, left=left, ended=left) for arrived, began, left in times]


# --- one execution ---------------------------------------------------------------------------------------------------


def test_a_visit_is_that_of_the_job_and_not_of_another_wait() -> None:
    assert visit(history(1, 4, 6, 7)) == Visit(arrived=1, began=4, left=6, ended=7)


@pytest.mark.parametrize(("missing", "named"), [(7, "StateExited of Job"), (8, "ExecutionSucceeded")])
def test_an_execution_without_an_end_is_refused(missing: int, named: str) -> None:
    events = history(1, 4, 6, 7)
    del events[missing]
    with pytest.raises(ValueError, match=named):
        visit(events)


def test_a_task_that_works_at_once_is_billed_as_its_state() -> None:
    assert billed([event("ExecutionStarted"), event("TaskStateEntered"), scheduled(), event("TaskSucceeded")]) == 1


def test_each_retry_is_billed_beside_the_state() -> None:
    failed = [scheduled(), event("TaskFailed")]
    assert billed([event("TaskStateEntered"), *failed, *failed, scheduled(), event("TaskSucceeded")]) == 3


def test_retries_of_a_function_that_is_called_by_its_arn_are_billed_too() -> None:
    attempt = [event("LambdaFunctionScheduled"), event("LambdaFunctionFailed")]
    assert billed([event("TaskStateEntered"), *attempt, *attempt]) == 2


def test_a_task_that_is_entered_again_is_no_retry() -> None:
    again = [event("TaskStateEntered"), scheduled(), event("TaskFailed"), event("WaitStateEntered")]
    assert billed([*again, *again]) == 4


def test_every_kind_of_state_is_billed() -> None:
    kinds = ["Parallel", "Choice", "Wait", "Pass", "Succeed"]
    assert billed([event(f"{kind}StateEntered") for kind in kinds] + [event("PassStateExited")]) == 5


def test_only_calls_of_dynamodb_are_database_calls() -> None:
    assert database_calls([scheduled("dynamodb"), event("TaskFailed"), scheduled("dynamodb"), scheduled()]) == 2


# --- many ------------------------------------------------------------------------------------------------------------


def test_the_peak_counts_jobs_that_overlap() -> None:
    assert peak(visits((0, 0, 4), (0, 1, 3), (0, 2, 5), (0, 4, 6))) == 3


def test_a_job_that_begins_as_another_ends_does_not_overlap_it() -> None:
    assert peak(visits((0, 0, 2), (0, 2, 4), (0, 4, 6))) == 1


def test_the_gap_is_from_the_end_of_a_job_to_the_beginning_of_the_next() -> None:
    assert gaps(visits((0, 0, 2), (0, 0, 3), (0, 2.5, 4), (0, 4, 6)), 2) == [0.5, 1]


def test_a_permit_is_not_idle_while_nobody_waits() -> None:
    assert gaps(visits((0, 0, 2), (7, 7.25, 9)), 1) == [0.25]


def test_letting_in_too_many_closes_no_gap() -> None:
    assert gaps(visits((0, 0, 2), (0, 0, 2), (0, 3, 5)), 1) == [0, 1]


@pytest.mark.parametrize(
    ("order", "expected"),
    [([1, 2, 3, 4], 1), ([4, 3, 2, 1], -1), ([1, 2, 4, 3], 1 - 2 / 6), ([5, 5, 5], 1), ([5], 1)],
)
def test_kendall_is_one_in_order_and_minus_one_in_reverse(order: Sequence[float], expected: float) -> None:
    assert kendall(order) == pytest.approx(expected)


def test_overtaken_counts_those_who_came_later_and_went_first() -> None:
    assert overtaken([1, 9, 2, 3, 8]) == 3
    assert overtaken([1, 2, 2, 3]) == 0


def test_the_figures_of_a_small_burst() -> None:
    # The third arrives before the fourth, and is let in after it.
    found = figures(
        [history(0, 0, 2, 2), history(0.25, 0.25, 2.25, 2.5), history(0.5, 3, 5, 5), history(0.75, 2.5, 4.5, 4.5)],
        limit=2,
        job_seconds=2,
    )
    assert found == {
        "peak": 2,
        "billed_mean": 3,
        "billed_max": 3,
        "events_max": 9,
        "makespan_ratio": 5 / 4,
        "gap_mean_s": (0.5 + 0.75) / 2,
        "kendall": round(1 - 2 / 6, 4),
        "overtaken_max": 1,
    }


# --- what is told ----------------------------------------------------------------------------------------------------


def row(design: str, n: int, **other: Any) -> dict[str, Any]:
    return {
        "design": design,
        "n": n,
        "peak": 5,
        "billed_mean": 3,
        "billed_max": 3,
        "events_max": 15,
        "makespan_ratio": 1.05,
        "gap_mean_s": 0.02,
        "kendall": 0.999,
        "overtaken_max": 1,
        "lost": 0,
        "functions_per_item": 2.0,
        "database_calls_per_item": 4.5,
        **other,
    }


def test_the_table_is_by_size_and_says_how_many_times_as_much_as_ours() -> None:
    rows = [row("ours", 20), row("ours", 100), row("other", 20), row("other", 100, billed_mean=12)]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(rows)]
    assert [line[:2] for line in lines[2:]] == [["ours", "20"], ["other", "20"], ["ours", "100"], ["other", "100"]]
    billed_at = lines[0].index("billed")
    assert [line[billed_at] for line in lines[2:]] == ["3", "3 (x1.0)", "3", "12 (x4.0)"]


def test_all_lines_of_the_table_are_as_long() -> None:
    assert len({len(line) for line in table([row("ours", 20), row("a longer name", 20, gap_mean_s=123.456)])}) == 1


def failing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [line.split()[1] for line in bars([dict(each) for each in rows]) if line.split()[0] == "FAILS"]


def test_bars_are_those_of_ours_at_the_largest_size() -> None:
    assert failing([row("ours", 300), row("ours", 20, billed_max=9), row("other", 300, billed_max=9)]) == []
    assert failing([row("ours", 20), row("ours", 300, billed_max=4, kendall=0.9)]) == ["billed_max", "kendall"]


def test_too_many_inside_or_somebody_lost_fails_at_every_size() -> None:
    assert failing([row("ours", 20, peak=6, lost=1), row("ours", 300)]) == ["lost", "peak"]


@pytest.mark.parametrize(
    ("figures", "correct"),
    [({"makespan_ratio": 9.0, "billed_max": 99}, True), ({"peak": 6}, False), ({"lost": 1}, False)],
)
def test_a_run_fails_where_ours_is_wrong_and_not_where_it_is_slow(
    figures: Mapping[str, float], correct: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(semaphore, "ROOT", tmp_path)
    monkeypatch.setattr(semaphore, "RESULTS", tmp_path / "semaphore.json")
    monkeypatch.setattr(
        semaphore,
        "_measure_design",
        lambda design, sizes: [row(design, size, **(figures if design == "ours" else {"lost": 2})) for size in sizes],
    )
    assert semaphore.run([20]) is correct


def test_a_burst_as_small_as_the_warm_up_is_refused() -> None:
    with pytest.raises(SystemExit, match="more than 10"):
        semaphore.run([20, 10])

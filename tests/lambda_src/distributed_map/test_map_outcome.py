"""What is told of a run when it has ended."""

import json
from typing import Any

import pytest

from alert.message import alert_from
from distributed_map.failures import Group, Reason
from distributed_map.outcome import LARGEST, Outcome, Run
from distributed_map.reckoning import Counts, Tolerance
from tests.lambda_src.distributed_map.world import execution_arn

FILES = {name: f"s3://results/runs/a/{name}.jsonl" for name in ("summary", "failures", "notices")}
AGAIN = json.dumps({"rerun": {"execution": execution_arn("a")}})


def run(status: str = "RUNNING", error: str = "", cause: str = "") -> Run:
    return Run(
        execution=execution_arn("a"),
        name="a",
        status=status,
        error=error,
        cause=cause,
        redrives=0,
        started_at="2026-11-22T06:00:00.000Z",
        ended_at=None,
    )


def outcome(**changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "run": run(),
        "counts": Counts(total=10, succeeded=10),
        "groups": [],
        "notices": [],
        "tolerance": Tolerance(),
        "empty_fails": False,
        "incomplete": "",
        "files": FILES,
    }
    return Outcome(**{**values, **changes})


def group(count: int, message: str = "no date", samples: tuple[str, ...] = ("a.csv", "b.csv")) -> Group:
    reason = Reason(side="Lambda", error="ValueError", message=message)
    return Group(reason=reason, count=count, samples=list(samples), execution=f"{execution_arn('a')}/items:1")


def test_a_run_that_went_well() -> None:
    told = outcome().to_dict()

    assert told == {
        "failed": False,
        "counts": {"total": 10, "succeeded": 10, "failed": 0, "notRun": 0, "stopped": 0, "unknown": 0, "notices": 0},
        "groups": [],
        "error": None,
        "again": {"rerun": {"execution": execution_arn("a")}},
        "notices": None,
        "summary": FILES["summary"],
    }


def test_items_that_failed_are_told_in_one_text() -> None:
    told = outcome(
        counts=Counts(total=10_000, succeeded=9_963, failed=37),
        groups=[group(30), group(7, "no size", ("c.csv",))],
    ).to_dict()

    assert told["failed"] is True
    assert told["error"] == {
        "Error": "ItemsFailed",
        "Cause": "37 of 10,000 items failed (allowed: 0). "
        "30 \N{MULTIPLICATION SIGN} Lambda ValueError: no date, for example a.csv, b.csv. "
        "7 \N{MULTIPLICATION SIGN} Lambda ValueError: no size, for example c.csv. "
        f"All: s3://results/runs/a/failures.jsonl. Again: {AGAIN}",
    }
    assert told["groups"][0] == {
        "side": "Lambda",
        "error": "ValueError",
        "message": "no date",
        "count": 30,
        "samples": ["a.csv", "b.csv"],
        "link": "https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1"
        f"#/v2/executions/details/{execution_arn('a')}/items:1",
    }


def test_failures_that_are_tolerated_fail_no_run() -> None:
    told = outcome(
        counts=Counts(total=100, succeeded=95, failed=5),
        groups=[group(5)],
        tolerance=Tolerance(kind="percentage", value=5),
    ).to_dict()

    assert (told["failed"], told["error"]) == (False, None)
    assert told["groups"][0]["count"] == 5


@pytest.mark.parametrize(
    ("changes", "error", "cause"),
    [
        (
            {
                "run": run(
                    "FAILED", "States.ExceedToleratedFailureThreshold", "The specified tolerated failure threshold"
                ),
                "counts": Counts(total=100, succeeded=10, failed=2, not_run=88, stopped=9),
                "groups": [group(2)],
                "tolerance": Tolerance(kind="count", value=1),
            },
            "States.ExceedToleratedFailureThreshold",
            "2 of 100 items failed (allowed: 1), 9 were stopped, 79 were never started. "
            "2 \N{MULTIPLICATION SIGN} Lambda ValueError: no date, for example a.csv, b.csv. "
            f"All: {FILES['failures']}. Again: {AGAIN}",
        ),
        (
            {"run": run("FAILED", "States.ExceedToleratedFailureThreshold"), "counts": Counts()},
            "States.ExceedToleratedFailureThreshold",
            f"More items failed than are tolerated. Again: {AGAIN}",
        ),
        (
            {
                "run": run("FAILED", "States.ItemReaderFailed", "Access Denied. (Bucket: b) {data}"),
                "counts": Counts(total=7, not_run=7),
            },
            "States.ItemReaderFailed",
            "The items could not be read: Access Denied. (Bucket: b) …. 0 of 7 items failed (allowed: 0), "
            f"7 were never started. Again: {AGAIN}",
        ),
        (
            {"run": run("FAILED", "States.ResultWriterFailed", "no bucket"), "counts": Counts()},
            "States.ResultWriterFailed",
            f"The results could not be written: no bucket. Again: {AGAIN}",
        ),
        (
            {"run": run("FAILED", "States.Runtime", ""), "counts": Counts()},
            "States.Runtime",
            f"It failed with States.Runtime. Again: {AGAIN}",
        ),
        (
            {"run": run("TIMED_OUT"), "counts": Counts(total=2, succeeded=1, not_run=1, stopped=1)},
            "States.Timeout",
            "The run took longer than allowed. 0 of 2 items failed (allowed: 0), 1 were stopped. "
            f"All: {FILES['failures']}. Again: {AGAIN}",
        ),
        (
            {"run": run("ABORTED"), "counts": Counts(total=2, succeeded=1, not_run=1)},
            "Aborted",
            f"Somebody stopped the run. 0 of 2 items failed (allowed: 0), 1 were never started. Again: {AGAIN}",
        ),
        (
            {"run": run("ABORTED", "Maintenance", "We move."), "counts": Counts()},
            "Aborted",
            f"Somebody stopped the run: Maintenance: We move. Again: {AGAIN}",
        ),
        (
            {"run": run("FAILED"), "counts": Counts()},
            "States.TaskFailed",
            f"It failed with no error name. Again: {AGAIN}",
        ),
        (
            {"counts": Counts(total=5, succeeded=3, unknown=2), "incomplete": "no result tells of 2 items"},
            "ItemsFailed",
            "0 of 5 items failed (allowed: 0), of 2 nothing is known. Not complete: no result tells of 2 items. "
            f"Again: {AGAIN}",
        ),
        ({"counts": Counts(), "empty_fails": True}, "NoItems", f"There were no items. Again: {AGAIN}"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], error: str, cause: str) -> None:
    told = outcome(**changes).to_dict()

    assert told["failed"] is True
    assert told["error"] == {"Error": error, "Cause": cause}


def test_no_items_are_no_failure_unless_they_are_meant_to_be() -> None:
    assert outcome(counts=Counts()).to_dict()["failed"] is False


def test_notices_are_told() -> None:
    notices = [{"item": "a.csv", "notice": "late"}]

    told = outcome(counts=Counts(total=1, succeeded=1, notices=7), notices=notices).to_dict()

    assert told["failed"] is False
    assert told["notices"] == {"count": 7, "samples": notices, "location": FILES["notices"]}


@pytest.mark.parametrize("sign", ["x", "🎉", '"', "\u2028"])
def test_however_much_there_is_to_tell_it_fits_into_a_state(sign: str) -> None:
    told = outcome(
        run=run("FAILED", "States.ItemReaderFailed", sign * 20_000),
        counts=Counts(total=10**9, failed=10**9, notices=10**9),
        groups=[group(10**6, sign * 1000, (sign * 100, sign * 100, sign * 100)) for _ in range(100)],
        notices=[{"item": sign * 100, "notice": sign * 200}] * 10,
        incomplete=sign * 100_000,
    ).to_dict()

    assert len(json.dumps(told)) <= LARGEST
    assert told["groups"]


def test_a_child_of_type_express_has_no_link() -> None:
    express = group(1)
    express.execution = "arn:aws:states:eu-central-1:1:express:work/items:1:2"

    told = outcome(counts=Counts(total=1, failed=1), groups=[express]).to_dict()

    assert told["groups"][0]["link"] is None


@pytest.mark.parametrize("error", ["ItemsFailed", "States.ExceedToleratedFailureThreshold"])
def test_an_alert_tells_all_of_the_account(error: str) -> None:
    told = outcome(
        run=run("FAILED", error),
        counts=Counts(total=10_000, succeeded=9_963, failed=37),
        groups=[group(30), group(7, "no size {x}", ('{"a": 1}',))],
    ).to_dict()

    alert = alert_from({"Response": told, "Job": {"name": "Move files", "kind": "map"}})

    assert alert.kind == "application"
    assert "37 of 10,000 items failed (allowed: 0)." in alert.text
    assert f'Lambda ValueError: no size {{x}}, for example {{"a": 1}}. All: {FILES["failures"]}.' in alert.text
    assert f"Again: {AGAIN}" in alert.text

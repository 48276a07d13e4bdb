"""The account of a run: for the state machine, for people, and for the next run."""

import json
import tracemalloc
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from distributed_map import store as store_module
from distributed_map.account import MOST_WAITS, handle
from distributed_map.accounting import ResultsNotReady
from pipeline.patience import TimeIsOverError
from tests.lambda_src.distributed_map.test_map_formats import items_of_csv
from tests.lambda_src.distributed_map.world import (
    MACHINE,
    NOW,
    RESULTS,
    SOURCE,
    KilledError,
    World,
    batch,
    child,
    execution_arn,
    raised,
)
from tests.lambda_src.pipeline.events import ODD_KEYS

MIB = 1024 * 1024
THRESHOLD = {"error": "States.ExceedToleratedFailureThreshold", "cause": "The specified tolerated failure threshold"}


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "results": {"bucket": RESULTS},
        "source": {"kind": "objects"},
        "tolerance": {"kind": "none", "value": None},
        "emptyFails": False,
        "batched": False,
        "name": "Move files",
        **changes,
    }


def planned(world: World, count: int | None, name: str = "a") -> dict[str, Any]:
    facts = {"execution": name, "date": "2026-11-21", "bucket": SOURCE, "prefix": "in/", "key": None}
    items = {"bucket": RESULTS, "key": f"runs/{name}/items.jsonl"}
    told = {"next": "map", "count": count, "items": items, "run": facts, "progress": None}
    world.put(RESULTS, f"runs/{name}/plan.json", json.dumps({"schemaVersion": 1, "source": "objects", **told}))
    return told


def account(
    world: World, results: Mapping[str, Any], *, count: int | None = None, per_file: int = 1000, **changes: Any
) -> dict[str, Any]:
    """The account in the state machine itself, after a map that has ended well."""
    arn = world.add_map_run("a", results, status="SUCCEEDED", per_file=per_file)
    world.add_execution("a", status="RUNNING")
    folder = arn.rpartition(":")[2]
    event = {
        "execution": {
            "id": execution_arn("a"),
            "name": "a",
            "startTime": "2026-11-22T06:00:00.000Z",
            "stateMachine": MACHINE,
        },
        "plan": planned(world, count),
        "map": {
            "MapRunArn": arn,
            "ResultWriterDetails": {"Bucket": RESULTS, "Key": f"runs/a/map/{folder}/manifest.json"},
        },
        "settings": settings(**changes),
    }
    return handle(event, world)


def report(world: World, *, name: str = "a", retries: int | None = None, status: str = "FAILED", **changes: Any) -> Any:
    """The account that is made because an event told of the run's end."""
    found = world.executions.get(execution_arn(name), {})
    change = {
        "executionArn": execution_arn(name),
        "stateMachineArn": MACHINE,
        "name": name,
        "status": status,
        "startDate": NOW.timestamp() * 1000,
        "stopDate": (NOW + timedelta(minutes=1)).timestamp() * 1000,
        "input": "{}",
        "output": None,
        "error": found.get("error"),
        "cause": found.get("cause"),
    }
    event = {"statusChange": change, "settings": settings(**changes)}
    return handle({**event, "retryCount": retries} if retries is not None else event, world)


def failed(item: Any, error: str = "ValueError", message: str = "no date") -> dict[str, Any]:
    return child(item, "FAILED", error=error, cause=raised(error, message))


# --- after a map that has ended well ----------------------------------------------------------------------------------


def test_a_run_without_a_failure(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    told = account(world, {"SUCCEEDED": [child("a"), child("b")]}, count=2)

    assert told == {
        "failed": False,
        "counts": {"total": 2, "succeeded": 2, "failed": 0, "notRun": 0, "stopped": 0, "unknown": 0, "notices": 0},
        "groups": [],
        "error": None,
        "again": {"rerun": {"execution": execution_arn("a")}},
        "notices": None,
        "summary": "s3://results/runs/a/summary.json",
    }
    assert world.get("runs/a/failed.jsonl") == b""
    assert world.get("runs/a/failures.jsonl") == b""
    assert "runs/a/notices.jsonl" not in world.buckets[RESULTS]
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["Processor"] == "Move files"
    names = ("Items", "Succeeded", "Failed", "NotRun", "Notices")
    assert [metrics[name] for name in names] == [2, 2, 0, 0, 0]
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "ConstructsLib/DistributedMap"


def test_everything_is_in_the_summary(world: World) -> None:
    results = {"SUCCEEDED": [child("a"), child("b", output={"error": "Bad"})], "FAILED": [failed({"Key": "c"})]}

    told = account(world, results, count=3, tolerance={"kind": "percentage", "value": 10})

    summary = world.json("runs/a/summary.json")
    assert {name: summary[name] for name in told if name != "groups"} == {
        name: told[name] for name in told if name != "groups"
    }
    assert {each["error"] for each in summary["groups"]} == {"Bad", "ValueError"}
    assert summary["execution"] == execution_arn("a")
    assert summary["processor"] == "Move files"
    assert summary["startedAt"] == "2026-11-22T06:00:00.000Z"
    assert summary["endedAt"] == "2026-11-22T06:01:00.000Z"
    assert summary["run"]["date"] == "2026-11-21"
    assert summary["tolerance"] == {"kind": "percentage", "value": 10}
    assert summary["answeredFailures"] == 1
    assert summary["incomplete"] == ""
    assert summary["failedItems"] == {"bucket": RESULTS, "key": "runs/a/failed.jsonl"}
    assert summary["mapRun"]["itemCounts"]["total"] == 3
    assert summary["files"]["failures"] == "s3://results/runs/a/failures.jsonl"


def test_what_failed_is_judged_by_the_tolerance(world: World) -> None:
    results = {"SUCCEEDED": [child(number) for number in range(8)], "FAILED": [failed("x"), failed("y")]}

    outcomes = {
        kind: account(world, results, tolerance={"kind": kind, "value": value})["failed"]
        for kind, value in (("none", None), ("collect", None), ("count", 2), ("percentage", 20))
    }

    assert outcomes == {"none": True, "collect": True, "count": False, "percentage": False}
    told = account(world, results, tolerance={"kind": "count", "value": 1})
    assert told["error"]["Error"] == "ItemsFailed"
    assert told["error"]["Cause"].startswith("2 of 10 items failed (allowed: 1). 2 \N{MULTIPLICATION SIGN} Lambda")


@pytest.mark.parametrize(
    ("kind", "value", "live", "has_failed"),
    [
        ("none", None, {"toleratedFailureCount": 2}, False),
        ("none", None, {"toleratedFailureCount": 1}, True),
        ("count", 1, {"toleratedFailureCount": 1, "toleratedFailurePercentage": 20.0}, False),
        ("percentage", 10, {"toleratedFailurePercentage": 20.0}, False),
        # The map ended well under the deployed one, before somebody lowered it.
        ("count", 2, {"toleratedFailureCount": 1}, False),
        # To collect is to tolerate everything while it runs.
        ("collect", None, {"toleratedFailurePercentage": 100.0}, True),
    ],
)
def test_what_was_tolerated_while_it_ran_is_tolerated_in_the_end(
    world: World, kind: str, value: int | None, live: dict[str, Any], has_failed: bool
) -> None:
    results = {"SUCCEEDED": [child(number) for number in range(8)], "FAILED": [failed("x"), failed("y")]}
    world.tolerated = live

    told = account(world, results, tolerance={"kind": kind, "value": value})

    assert told["failed"] is has_failed


def test_only_the_items_of_a_batch_that_failed_run_again(world: World) -> None:
    items = [{"Key": f"k{number}"} for number in range(4)]
    said = {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": 3}]}

    told = account(world, {"SUCCEEDED": [batch(items, output=said)]}, count=4, batched=True)

    assert (told["counts"]["succeeded"], told["counts"]["failed"]) == (2, 2)
    assert world.lines("runs/a/failed.jsonl") == [{"Key": "k1"}, {"Key": "k3"}]


def test_notices_have_a_file(world: World) -> None:
    told = account(world, {"SUCCEEDED": [child({"Key": "a"}, output={"notice": ["late"]})]})

    assert told["failed"] is False
    assert told["notices"] == {
        "count": 1,
        "samples": [{"item": "a", "notice": "late"}],
        "location": "s3://results/runs/a/notices.jsonl",
    }
    (line,) = world.lines("runs/a/notices.jsonl")
    assert (line["item"], line["notice"]) == ({"Key": "a"}, "late")


@pytest.mark.parametrize(("empty_fails", "error"), [(False, None), (True, "NoItems")])
def test_no_items_may_be_a_failure(empty_fails: bool, error: str | None, world: World) -> None:
    told = account(world, {}, emptyFails=empty_fails)

    assert told["failed"] is (error is not None)
    assert (told["error"] or {}).get("Error") == error


def test_results_may_be_in_many_files(world: World) -> None:
    results = {
        "SUCCEEDED": [child(number) for number in range(25)],
        "FAILED": [failed(f"f{number}") for number in range(13)],
        "PENDING": [child(f"p{number}", "PENDING") for number in range(4)],
    }

    told = account(world, results, per_file=3)

    assert told["counts"]["succeeded"] == 25
    assert (told["counts"]["failed"], told["counts"]["notRun"]) == (13, 4)
    assert len(world.lines("runs/a/failed.jsonl")) == 17


@pytest.mark.parametrize(
    ("kind", "key", "csv"),
    [
        ("objects", "failed.jsonl", None),
        ("input", "failed.jsonl", None),
        ("jsonl", "failed.jsonl", None),
        ("parquet", "failed.jsonl", None),
        ("json", "failed.json", None),
        ("csv", "failed.csv", {"headers": None, "delimiter": None}),
        ("csv", "failed.csv", {"headers": ["Size", "Key"], "delimiter": "PIPE"}),
        ("manifest", "failed/manifest.json", None),
    ],
)
def test_failed_items_are_in_the_format_of_the_source(kind: str, key: str, csv: Any, world: World) -> None:
    items = [{"Key": odd, "Size": "1"} for odd in ODD_KEYS]

    account(world, {"FAILED": [failed(each) for each in items]}, source={"kind": kind, "csv": csv})

    data = world.get(f"runs/a/{key}")
    match key:
        case "failed.jsonl":
            assert [json.loads(line) for line in data.splitlines()] == items
        case "failed.json":
            assert json.loads(data) == items
        case "failed.csv":
            assert items_of_csv(data, "|" if csv["delimiter"] else ",", csv["headers"]) == items
        case _:
            manifest = json.loads(data)
            assert manifest["destinationBucket"] == f"arn:aws:s3:::{RESULTS}"
            (file,) = manifest["files"]
            assert file["size"] == len(world.get(file["key"]))
    assert world.json("runs/a/summary.json")["failedItems"]["key"] == f"runs/a/{key}"


def test_files_that_cannot_be_read_spoil_nothing_and_are_told(world: World) -> None:
    results = {"SUCCEEDED": [child(number) for number in range(6)], "FAILED": [failed("x")]}
    account(world, results, per_file=2)
    folder = "runs/a/map/uuid-0/"
    world.put(RESULTS, f"{folder}SUCCEEDED_0.json", world.get(f"{folder}SUCCEEDED_0.json")[:-1])
    world.put(RESULTS, f"{folder}SUCCEEDED_1.json", b"\xff")
    world.denied.add(f"{folder}SUCCEEDED_2.json")
    del world.buckets[RESULTS][f"{folder}FAILED_0.json"]

    told = again(world)

    assert told["failed"] is True
    assert told["counts"] == {
        "total": 7, "succeeded": 2, "failed": 0, "notRun": 0, "stopped": 0, "unknown": 5, "notices": 0
    }  # fmt: skip
    incomplete = world.json("runs/a/summary.json")["incomplete"]
    for why in (
        f"s3://results/{folder}SUCCEEDED_0.json is not readable: the end is missing",
        f"s3://results/{folder}SUCCEEDED_1.json is not readable: it is no UTF-8",
        f"s3://results/{folder}SUCCEEDED_2.json cannot be read: AccessDenied",
        f"s3://results/{folder}FAILED_0.json cannot be read: NoSuchKey",
        "no result tells of 5 items",
    ):
        assert why in incomplete
    assert "Not complete: s3://results" in told["error"]["Cause"]


def again(world: World, **changes: Any) -> dict[str, Any]:
    """The account of the first map run, from what is there now."""
    event = {
        "execution": {"id": execution_arn("a"), "name": "a", "startTime": "2026-11-22T06:00:00.000Z"},
        "plan": planned(world, None),
        "map": {
            "MapRunArn": next(iter(world.map_runs)),
            "ResultWriterDetails": {"Bucket": RESULTS, "Key": "runs/a/map/uuid-0/manifest.json"},
        },
        "settings": settings(**changes),
    }
    return handle(event, world)


@pytest.mark.parametrize(
    "manifest", [b"", b"{}", b"[]", b"no json", b'{"DestinationBucket": "results", "ResultFiles": []}']
)
def test_a_manifest_that_cannot_be_read_is_told(manifest: bytes, world: World) -> None:
    account(world, {"SUCCEEDED": [child(1)], "FAILED": [failed("x")]})
    world.put(RESULTS, "runs/a/map/uuid-0/manifest.json", manifest)

    told = again(world)

    assert (told["failed"], told["counts"]["unknown"]) == (True, 2)
    assert "manifest.json is not readable" in told["error"]["Cause"]


def test_items_that_the_reader_has_left_out_are_not_forgotten(world: World) -> None:
    told = account(world, {"SUCCEEDED": [child(1), child(2)]}, count=5)

    assert told["failed"] is True
    assert (told["counts"]["total"], told["counts"]["notRun"]) == (5, 3)
    assert "Not complete: not all items were read." in told["error"]["Cause"]


def test_a_break_of_a_download_is_outlived(world: World) -> None:
    world.breaks = [0]

    assert account(world, {"SUCCEEDED": [child(1)], "FAILED": [failed("x")]})["counts"]["failed"] == 1
    assert world.breaks == []


def test_without_time_for_all_of_it_the_account_is_an_error_and_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PART", 100)
    world.seconds, world.left = 10, 100

    with pytest.raises(TimeIsOverError):
        account(world, {"FAILED": [failed(number) for number in range(50)]})

    assert world.uploads == {}
    assert "runs/a/summary.json" not in world.buckets[RESULTS]


@pytest.mark.parametrize("kind", ["objects", "csv", "manifest"])
@pytest.mark.parametrize("after", [False, True])
def test_wherever_the_function_dies_the_account_can_be_made_again(
    kind: str, after: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PART", 700)
    results = {
        "SUCCEEDED": [child({"Key": f"s{number}"}, output={"notice": ["n"]}) for number in range(5)],
        "FAILED": [failed({"Key": f"f{number}"}) for number in range(9)],
    }
    expected = account(world, results, source={"kind": kind})
    kept = {key: found.data for key, found in world.buckets[RESULTS].items() if "/map/" not in key}
    world.dies_after = after
    for dies_at in range(1, 100):
        world.dies_at = dies_at
        world.requests.clear()
        for key in kept:
            del world.buckets[RESULTS][key]
        try:
            again(world, source={"kind": kind})
        except KilledError:
            world.dies_at = None
            assert again(world, source={"kind": kind}) == expected
            assert {key: found.data for key, found in world.buckets[RESULTS].items() if "/map/" not in key} == kept
        else:
            break

    assert dies_at > 10


def test_gigabytes_would_be_accounted_for_in_little_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many items failed: what is kept is a part of each file that is written."""
    monkeypatch.setattr(store_module, "PART", MIB)
    record = json.dumps(failed({"Key": "k" * 900, "text": "é" * 100})).encode()
    count = 20 * MIB // len(record)
    account(world, {"FAILED": [failed("x")], "SUCCEEDED": [child("y")]})
    world.put(RESULTS, "runs/a/map/uuid-0/FAILED_0.json", b"[" + b",".join([record] * count) + b"]")
    world.map_runs[next(iter(world.map_runs))]["itemCounts"].update(total=count + 1)
    # What S3 keeps is no memory of the function.
    monkeypatch.setattr(world, "upload_part", lambda **_: {"ETag": "e"})
    monkeypatch.setattr(world, "complete_multipart_upload", lambda **_: {})

    tracemalloc.start()
    try:
        told = again(world)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert told["counts"]["failed"] == count
    assert peak < 12 * MIB


# --- after an ending that nothing catches -----------------------------------------------------------------------------


def test_a_threshold_is_explained_by_the_errors_behind_it(world: World) -> None:
    world.add_execution("a", **THRESHOLD)
    planned(world, 10)
    world.add_map_run(
        "a",
        {
            "SUCCEEDED": [child(1), child(2)],
            "FAILED": [failed({"Key": "a.csv"}), failed({"Key": "b.csv"}), child(5, "ABORTED")],
            "PENDING": [child(number, "PENDING") for number in range(5)],
        },
    )

    told = report(world)

    assert told["failed"] is True
    assert told["error"] == {
        "Error": "States.ExceedToleratedFailureThreshold",
        "Cause": "2 of 10 items failed (allowed: 0), 1 were stopped, 5 were never started. "
        "2 \N{MULTIPLICATION SIGN} Lambda ValueError: no date, for example a.csv, b.csv. "
        "All: s3://results/runs/a/failures.jsonl. "
        f'Again: {{"rerun": {{"execution": "{execution_arn("a")}"}}}}',
    }
    assert len(world.lines("runs/a/failed.jsonl")) == 8
    assert world.json("runs/a/summary.json")["status"] == "FAILED"
    assert world.json("runs/a/summary.json")["endedAt"] == "2026-11-22T06:01:00.000Z"


def test_items_that_cannot_be_read_are_told_apart_from_items_that_failed(world: World) -> None:
    world.add_execution("a", error="States.ItemReaderFailed", cause="Error parsing the CSV file")
    planned(world, None)
    world.add_map_run("a", None)

    told = report(world, retries=0)

    assert told["error"]["Error"] == "States.ItemReaderFailed"
    assert told["error"]["Cause"].startswith("The items could not be read: Error parsing the CSV file. Again:")
    assert told["groups"] == []
    assert world.json("runs/a/summary.json")["begun"] is False
    assert world.json("runs/a/summary.json")["failedItems"] is None


def test_a_reader_that_fails_in_the_middle_leaves_more_than_the_results_tell(world: World) -> None:
    world.add_execution("a", error="States.ItemReaderFailed", cause="line 3")
    planned(world, None)
    world.add_map_run("a", {"SUCCEEDED": [child(1)], "PENDING": [child(2, "PENDING")]})

    told = report(world)

    assert "Not complete: not all items were read." in told["error"]["Cause"]


def test_results_that_could_not_be_written_are_counted_as_aws_counts_them(world: World) -> None:
    world.add_execution("a", error="States.ResultWriterFailed", cause="Access Denied")
    planned(world, 6)
    arn = world.add_map_run("a", None)
    world.map_runs[arn]["itemCounts"].update(total=6, succeeded=3, failed=1, timedOut=1, aborted=1)

    told = report(world, retries=0)

    assert told["counts"] == {
        "total": 6, "succeeded": 3, "failed": 2, "notRun": 1, "stopped": 1, "unknown": 0, "notices": 0
    }  # fmt: skip
    assert "The results could not be written: Access Denied." in told["error"]["Cause"]
    assert "it is not known which items these are" in told["error"]["Cause"]


@pytest.mark.parametrize(("status", "error"), [("ABORTED", "Aborted"), ("TIMED_OUT", "States.Timeout")])
def test_a_run_that_never_came_to_its_map(status: str, error: str, world: World) -> None:
    world.add_execution("a", status=status)

    told = report(world, status=status, retries=0)

    assert told["failed"] is True
    assert told["error"]["Error"] == error
    assert told["counts"]["total"] == 0
    assert world.json("runs/a/summary.json")["mapRun"] is None


def test_a_run_that_had_planned_and_never_came_to_its_map(world: World) -> None:
    world.add_execution("a", status="ABORTED")
    planned(world, 7)

    told = report(world, status="ABORTED")

    assert (told["counts"]["total"], told["counts"]["notRun"]) == (7, 7)


def test_the_event_alone_says_how_a_run_ended_that_nobody_knows_any_more(world: World) -> None:
    world.add_execution("a", status="ABORTED")
    map_run = world.add_map_run("a", {"FAILED": [child("x", "ABORTED")]}, status="ABORTED")

    told = report(world, status="ABORTED")

    assert told["error"]["Cause"].startswith(
        "Somebody stopped the run. 0 of 1 items failed (allowed: 0), 1 were stopped"
    )
    assert world.json("runs/a/summary.json")["mapRun"]["arn"] == map_run


def test_an_account_waits_for_the_results(world: World) -> None:
    world.add_execution("a", status="TIMED_OUT")
    planned(world, 2)
    arn = world.add_map_run("a", {"SUCCEEDED": [child(1)], "FAILED": [child(2, "ABORTED")]}, status="RUNNING")
    manifest = world.buckets[RESULTS].pop("runs/a/map/uuid-0/manifest.json")

    with pytest.raises(ResultsNotReady, match="the map run of a has not ended yet"):
        report(world, status="TIMED_OUT", retries=0)
    world.map_runs[arn]["status"] = "ABORTED"
    with pytest.raises(ResultsNotReady, match="the results of a are not written yet"):
        report(world, status="TIMED_OUT", retries=MOST_WAITS - 1)
    world.buckets[RESULTS]["runs/a/map/uuid-0/manifest.json"] = manifest

    assert report(world, status="TIMED_OUT", retries=1)["counts"]["stopped"] == 1


@pytest.mark.parametrize("retries", [MOST_WAITS, None])
def test_nothing_is_waited_for_for_ever(retries: int | None, world: World) -> None:
    world.add_execution("a", status="TIMED_OUT")
    world.add_map_run("a", {"SUCCEEDED": [child(1)], "FAILED": [child(2, "ABORTED")]}, status="RUNNING")
    del world.buckets[RESULTS]["runs/a/map/uuid-0/manifest.json"]

    told = report(world, status="TIMED_OUT", retries=retries)

    assert (told["counts"]["succeeded"], told["counts"]["stopped"]) == (1, 1)
    assert "the results were not written" in told["error"]["Cause"]


def test_after_a_redrive_the_account_is_that_of_the_last_state_of_things(world: World) -> None:
    world.page = 1
    world.add_execution("a", **THRESHOLD)
    planned(world, 3)
    arn = world.add_map_run("a", {"SUCCEEDED": [child(1)], "FAILED": [failed(2), failed(3)]})
    assert report(world)["counts"]["failed"] == 2

    world.executions[execution_arn("a")]["redriveCount"] = 1
    counts = {**world.map_runs[arn]["itemCounts"], "succeeded": 2, "failed": 1}
    world.map_runs[arn].update(itemCounts=counts, redriveCount=1, redriveDate=NOW + timedelta(hours=1))
    # What was written before says nothing of now.
    with pytest.raises(ResultsNotReady):
        report(world, retries=0)
    world.now = NOW + timedelta(hours=2)
    world.write_results("a", arn, {"SUCCEEDED": [child(1), child(2)], "FAILED": [failed(3)]}, folder="redrive/")

    told = report(world, retries=0)

    assert (told["counts"]["succeeded"], told["counts"]["failed"]) == (2, 1)
    assert world.lines("runs/a/failed.jsonl") == [3]
    assert world.json("runs/a/summary.json")["redriveCount"] == 1


def test_a_redrive_that_succeeds_leaves_no_failures_behind(world: World) -> None:
    world.add_execution("a", **THRESHOLD)
    planned(world, 1)
    world.add_map_run("a", {"FAILED": [failed(2)]})
    report(world)

    account(world, {"SUCCEEDED": [child(2)]}, count=1)

    assert world.get("runs/a/failed.jsonl") == b""
    assert world.get("runs/a/failures.jsonl") == b""
    assert world.json("runs/a/summary.json")["failed"] is False


def test_of_several_map_runs_the_newest_counts(world: World) -> None:
    world.page = 1
    world.add_execution("a", **THRESHOLD)
    world.add_map_run("a", {"FAILED": [failed(1)]})
    world.now = NOW + timedelta(hours=1)
    world.add_map_run("a", {"SUCCEEDED": [child(1)], "FAILED": [failed(2), failed(3)]})

    assert report(world)["counts"]["failed"] == 2


def test_batches_are_told_from_single_items_whatever_the_settings_say(world: World) -> None:
    """They may have changed since the run."""
    results = {"FAILED": [batch(["a", "b"], "FAILED", error="E"), failed("c")]}

    for batched in (True, False):
        assert account(world, results, batched=batched)["counts"]["failed"] == 3

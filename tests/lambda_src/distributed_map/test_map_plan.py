"""Which items a run has."""

import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from distributed_map import plan as plan_module
from distributed_map import store as store_module
from distributed_map.plan import (
    RESERVE,
    ItemsNotFound,
    ItemsNotReadable,
    NoItems,
    RerunByRedrive,
    RunNotEnded,
    handle,
)
from distributed_map.request import BadInput
from pipeline.patience import MARGIN, TimeIsOverError
from tests.lambda_src.distributed_map.parquet_files import parquet
from tests.lambda_src.distributed_map.world import (
    MACHINE,
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

OBJECTS = {"kind": "objects", "bucket": SOURCE, "prefix": "in/{date:%Y/%m/%d}/"}
YESTERDAY = "in/2026/11/21/"
FILES = ("csv", "json", "jsonl", "parquet", "manifest")


def source(**changes: Any) -> dict[str, Any]:
    return {"timeZone": "Etc/UTC", "daysBack": 1, "results": {"bucket": RESULTS}, "emptyFails": False, **changes}


def event(
    of: Mapping[str, Any], given: Any = None, *, name: str = "a", state: Any = None, started_at: str = ""
) -> dict[str, Any]:
    return {
        "input": {} if given is None else given,
        "execution": {
            "id": execution_arn(name),
            "name": name,
            "startTime": started_at or "2026-11-22T06:00:00.000Z",
        },
        "source": source(**of),
        "state": state if state is not None else {},
    }


def run(name: str = "a", **changes: Any) -> dict[str, Any]:
    return {"execution": name, "date": "2026-11-21", "bucket": None, "prefix": None, "key": None, **changes}


# --- a listing --------------------------------------------------------------------------------------------------------


def test_the_objects_of_the_day_are_listed(world: World) -> None:
    world.put(SOURCE, f"{YESTERDAY}a.csv", "a", written=datetime(2026, 11, 21, 5, 6, 7, 890, UTC))
    world.put(SOURCE, f"{YESTERDAY}b.csv", "bb")
    world.put(SOURCE, "in/2026/11/22/c.csv", "c")

    told = handle(event(OBJECTS), world)

    assert told == {
        "next": "map",
        "count": 2,
        "items": {"bucket": RESULTS, "key": "runs/a/items.jsonl"},
        "run": run(bucket=SOURCE, prefix=YESTERDAY),
        "progress": None,
    }
    first, second = world.lines("runs/a/items.jsonl")
    assert first == {
        "Key": f"{YESTERDAY}a.csv",
        "Size": 1,
        "ETag": "0cc175b9c0f1b6a831c399e269772661",
        "LastModified": "2026-11-21T05:06:07.000Z",
    }
    assert second["Key"] == f"{YESTERDAY}b.csv"
    assert world.json("runs/a/plan.json") == {"schemaVersion": 1, "source": "objects", **told}


def test_every_key_is_an_item_as_it_is(world: World) -> None:
    keys = [key for key in ODD_KEYS if not key.endswith("/")]
    for key in ODD_KEYS:
        world.put(SOURCE, key, "x")

    told = handle(event({**OBJECTS, "prefix": ""}), world)

    assert told["count"] == len(keys)
    data = world.get("runs/a/items.jsonl")
    assert data.isascii()
    assert {json.loads(line)["Key"] for line in data.splitlines()} == set(keys)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["a.csv", "b.csv", "big.csv", "c.txt", "sub/d.csv"]),
        ({"folderMarkers": True}, ["a.csv", "b.csv", "big.csv", "c.txt", "sub/", "sub/d.csv"]),
        ({"patterns": ["in/*.csv"]}, ["a.csv", "b.csv", "big.csv", "sub/d.csv"]),
        ({"patterns": ["in/a*", "*.txt"]}, ["a.csv", "c.txt"]),
        ({"minSize": 2}, ["big.csv"]),
        ({"maxSize": 0}, ["b.csv"]),
        ({"minSize": 1, "maxSize": 1}, ["a.csv", "c.txt", "sub/d.csv"]),
        ({"maxItems": 2}, ["a.csv", "b.csv"]),
        ({"maxItems": 2, "patterns": ["*.csv"], "minSize": 1}, ["a.csv", "big.csv"]),
        ({"maxItems": 50}, ["a.csv", "b.csv", "big.csv", "c.txt", "sub/d.csv"]),
        (
            {"patterns": None, "minSize": None, "maxSize": None, "maxItems": None},
            ["a.csv", "b.csv", "big.csv", "c.txt", "sub/d.csv"],
        ),
    ],
)
@pytest.mark.parametrize("page", [1, 2, 1000])
def test_what_is_not_wanted_is_never_paid_for(
    filters: dict[str, Any], expected: list[str], page: int, world: World
) -> None:
    world.page = page
    for key, data in {"a.csv": "a", "b.csv": "", "c.txt": "c", "big.csv": "big", "sub/": "", "sub/d.csv": "d"}.items():
        world.put(SOURCE, f"in/{key}", data)

    told = handle(event({**OBJECTS, "prefix": "in/", "filters": filters}), world)

    assert [each["Key"] for each in world.lines("runs/a/items.jsonl")] == [f"in/{key}" for key in expected]
    assert told["count"] == len(expected)


def test_what_the_library_wrote_itself_is_no_item(world: World) -> None:
    world.put(RESULTS, "runs/before/items.jsonl", "x")
    world.put(RESULTS, "in/a", "x")

    told = handle(event({**OBJECTS, "bucket": RESULTS, "prefix": ""}), world)

    assert told["count"] == 1


def test_a_bucket_of_somebody_else_may_have_any_keys(world: World) -> None:
    world.put(SOURCE, "runs/a", "x")

    assert handle(event({**OBJECTS, "prefix": ""}), world)["count"] == 1


def test_no_objects_are_no_map(world: World) -> None:
    told = handle(event(OBJECTS), world)

    assert (told["next"], told["count"]) == ("empty", 0)


def test_no_objects_may_be_a_failure(world: World) -> None:
    with pytest.raises(NoItems, match=f"nothing under s3://uploads/{YESTERDAY} is wanted"):
        handle(event({**OBJECTS, "emptyFails": True}), world)


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket"])
def test_a_bucket_that_cannot_be_listed_is_told(code: str, world: World) -> None:
    del world.buckets[SOURCE]

    with pytest.raises(ItemsNotReadable, match="s3://uploads/in/2026/11/21/ cannot be listed"):
        handle(event(OBJECTS), world)


@pytest.mark.parametrize(
    ("given", "time_zone", "days_back", "started_at", "date"),
    [
        ({}, "Etc/UTC", 0, "2026-11-22T06:00:00Z", "2026-11-22"),
        ({}, "Asia/Tokyo", 1, "2026-11-22T15:00:00Z", "2026-11-22"),
        ({}, "America/New_York", 1, "2024-03-01T04:59:00Z", "2024-02-28"),
        ({"runDate": "2024-02-29"}, "Asia/Tokyo", 1, "2026-11-22T15:00:00Z", "2024-02-29"),
    ],
)
def test_the_day_is_that_of_the_start_or_the_one_that_is_given(
    given: Any, time_zone: str, days_back: int, started_at: str, date: str, world: World
) -> None:
    of = {**OBJECTS, "timeZone": time_zone, "daysBack": days_back}

    told = handle(event(of, given, started_at=started_at), world)

    assert told["run"]["date"] == date
    assert told["run"]["prefix"] == f"in/{date.replace('-', '/')}/"


@pytest.mark.parametrize("given", [{"runDate": "yesterday"}, {"dryRun": 1}, {"rerun": "a"}])
def test_an_input_that_makes_no_sense_is_refused_before_anything_is_asked(given: Any, world: World) -> None:
    with pytest.raises(BadInput):
        handle(event(OBJECTS, given), world)

    assert world.requests == []


def test_a_dry_run_counts_and_writes_no_items(world: World) -> None:
    for number in range(25):
        world.put(SOURCE, f"{YESTERDAY}{number}", "x")

    told = handle(event({**OBJECTS, "filters": {"maxItems": 20}}, {"dryRun": True}), world)

    assert (told["next"], told["count"]) == ("counted", 20)
    assert list(world.buckets[RESULTS]) == ["runs/a/plan.json"]


# --- a listing that takes long ----------------------------------------------------------------------------------------


def many(world: World, count: int = 500) -> list[str]:
    keys = sorted(f"{YESTERDAY}{number:04}-é.csv" for number in range(count))
    for key in keys:
        world.put(SOURCE, key, "x")
    return keys


def finish(world: World, given: Any = None, *, per_call: float = 60) -> tuple[dict[str, Any], int]:
    """Calls again and again, as the state machine does. Returns the last answer, and how many calls it took."""
    state: Any = {}
    for calls in range(1, 1000):
        world.left = per_call
        told = handle(event(OBJECTS, given, state=state), world)
        if told["next"] != "more":
            return told, calls
        state = json.loads(json.dumps(told))
    raise AssertionError("it does not end")


@pytest.mark.parametrize("part", [1500, 10_000, 10_000_000])
@pytest.mark.parametrize("seconds", [0.5, 3])
def test_a_listing_stops_for_time_and_goes_on(
    part: int, seconds: float, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PART", part)
    keys = many(world)
    world.page, world.seconds = 10, seconds

    told, calls = finish(world)

    assert calls > 1
    assert told["count"] == len(keys)
    assert [each["Key"] for each in world.lines("runs/a/items.jsonl")] == keys
    assert world.uploads == {}


def test_the_state_may_hold_the_answer_under_its_name(world: World) -> None:
    keys = many(world, 30)
    world.page, world.seconds, world.left = 10, 12, 60
    told = handle(event(OBJECTS), world)
    assert told["next"] == "more"

    world.seconds, world.left = 0, 60
    told = handle(event(OBJECTS, state={"plan": told}), world)

    assert (told["next"], told["count"]) == ("map", len(keys))
    assert [each["Key"] for each in world.lines("runs/a/items.jsonl")] == keys


def test_a_progress_of_somebody_else_is_none(world: World) -> None:
    many(world, 3)
    stranger = {"execution": "b", "number": 1, "uploadId": "u", "parts": 9, "startAfter": "z", "count": 9}

    for state in ({"progress": stranger}, {"plan": {"progress": stranger}}, {"progress": 50}, {"plan": "x"}, "x", None):
        assert handle(event(OBJECTS, state=state), world)["count"] == 3


def test_a_dry_run_goes_on_too(world: World) -> None:
    keys = many(world)
    world.page, world.seconds = 10, 3

    told, calls = finish(world, {"dryRun": True})

    assert calls > 1
    assert (told["next"], told["count"]) == ("counted", len(keys))
    assert list(world.buckets[RESULTS]) == ["runs/a/plan.json"]


def test_a_call_that_gets_nowhere_is_an_error(world: World) -> None:
    """Or it would be called for ever."""
    many(world)
    world.left = RESERVE + MARGIN

    with pytest.raises(TimeIsOverError):
        handle(event(OBJECTS), world)


def test_what_was_kept_and_is_gone_is_told(world: World) -> None:
    many(world, 30)
    world.page, world.seconds, world.left = 10, 12, 60
    told = handle(event(OBJECTS), world)
    del world.buckets[RESULTS]["runs/a/items.tail-1.jsonl"]

    with pytest.raises(ItemsNotReadable, match=r"items\.tail-1\.jsonl is gone"):
        handle(event(OBJECTS, state=told), world)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("part", [1500, 10_000_000])
def test_wherever_a_function_dies_its_call_can_be_made_again(
    after: bool, part: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PART", part)
    keys = many(world, 120)
    world.page, world.seconds, world.dies_after = 10, 4, after
    dies_at = 0
    state: Any
    while True:
        dies_at += 1
        world.requests.clear()
        world.buckets[RESULTS].clear()
        world.dies_at, state = dies_at, {}
        told: dict[str, Any] = {"next": "more"}
        while told["next"] == "more":
            world.left = 60
            try:
                told = handle(event(OBJECTS, state=state), world)
            except KilledError:
                continue
            state = json.loads(json.dumps(told))

        assert (told["next"], told["count"]) == ("map", len(keys))
        assert [each["Key"] for each in world.lines("runs/a/items.jsonl")] == keys
        if len(world.requests) < dies_at:
            break

    assert dies_at > 10


def test_the_same_call_twice_makes_the_same_plan(world: World) -> None:
    many(world, 20)

    first = handle(event(OBJECTS), world)
    items = world.get("runs/a/items.jsonl")

    assert handle(event(OBJECTS), world) == first
    assert world.get("runs/a/items.jsonl") == items


# --- an array of the input --------------------------------------------------------------------------------------------


def test_items_may_stand_in_the_input(world: World) -> None:
    items = [{"id": 1, "text": "é\u2028🎉\nx"}, "two", 3.5, None, [4]]

    told = handle(event({"kind": "input", "path": "$.detail.items"}, {"detail": {"items": items}}), world)

    assert told == {
        "next": "map",
        "count": 5,
        "items": {"bucket": RESULTS, "key": "runs/a/items.jsonl"},
        "run": run(),
        "progress": None,
    }
    assert [json.loads(line) for line in world.get("runs/a/items.jsonl").splitlines()] == items


def test_of_an_array_only_so_many_are_taken(world: World) -> None:
    of = {"kind": "input", "path": "$.items", "filters": {"maxItems": 2}}

    assert handle(event(of, {"items": [1, 2, 3]}), world)["count"] == 2
    assert world.lines("runs/a/items.jsonl") == [1, 2]
    assert handle(event(of, {"items": [1, 2, 3], "dryRun": True}), world)["next"] == "counted"


def test_an_empty_array_is_empty(world: World) -> None:
    of = {"kind": "input", "path": "$.items"}

    assert handle(event(of, {"items": []}), world)["next"] == "empty"
    with pytest.raises(NoItems, match=r"the array at \$\.items of the input is empty"):
        handle(event({**of, "emptyFails": True}, {"items": []}), world)


def test_without_an_array_it_says_what_to_write(world: World) -> None:
    with pytest.raises(BadInput, match=r"The input needs an array of items at \$\.items, got nothing"):
        handle(event({"kind": "input", "path": "$.items"}, {}), world)


# --- a file -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_left_to_the_reader(kind: str, world: World) -> None:
    world.put(SOURCE, "in/2026-11-21.data", "anything")

    told = handle(event({"kind": kind, "bucket": SOURCE, "key": "in/{date}.data"}), world)

    assert told == {
        "next": "map",
        "count": None,
        "items": {"bucket": SOURCE, "key": "in/2026-11-21.data"},
        "run": run(bucket=SOURCE, key="in/2026-11-21.data"),
        "progress": None,
    }


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_not_there_is_told(kind: str, world: World) -> None:
    with pytest.raises(ItemsNotFound) as raised_:
        handle(event({"kind": kind, "bucket": SOURCE, "key": "in/{date}.csv"}), world)

    assert str(raised_.value) == (
        "s3://uploads/in/2026-11-21.csv does not exist. Write it and start the run again, or start it with another "
        "runDate."
    )


def test_a_file_that_may_not_be_read_is_told(world: World) -> None:
    world.denied.add("in/a.csv")

    with pytest.raises(ItemsNotReadable, match=r"s3://uploads/in/a\.csv cannot be read \(403\)"):
        handle(event({"kind": "csv", "bucket": SOURCE, "key": "in/a.csv"}), world)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_empty_file_has_no_items(kind: str, world: World) -> None:
    world.put(SOURCE, "a", "")
    of = {"kind": kind, "bucket": SOURCE, "key": "a"}

    assert handle(event(of), world)["next"] == "empty"
    assert handle(event(of, {"dryRun": True}), world)["next"] == "counted"
    with pytest.raises(NoItems, match="s3://uploads/a is empty"):
        handle(event({**of, "emptyFails": True}), world)


@pytest.mark.parametrize("kind", ["json", "parquet", "manifest"])
def test_an_empty_file_of_another_kind_is_none(kind: str, world: World) -> None:
    world.put(SOURCE, "a", "")

    with pytest.raises(ItemsNotReadable, match="is empty"):
        handle(event({"kind": kind, "bucket": SOURCE, "key": "a"}), world)


INVENTORY = {
    "destinationBucket": f"arn:aws:s3:::{RESULTS}",
    "fileFormat": "CSV",
    "files": [{"key": "data/1.csv.gz"}, {"key": "data/2.csv.gz"}],
}

DRY_RUNS: list[tuple[dict[str, Any], str, bytes, int]] = [
    ({"kind": "csv"}, "a.csv", b'a,b\n1,"x\ny"\n2,3\n', 2),
    ({"kind": "csv", "csv": {"headers": ["a", "b"], "delimiter": "PIPE"}}, "a.csv", b"1|2\n3|4\n", 2),
    ({"kind": "csv", "csv": {"headers": None}}, "a.csv.gz", gzip.compress(b"a\n1\n2\n3\n", mtime=0), 3),
    ({"kind": "csv"}, "a.csv", b"a,b\n", 0),
    ({"kind": "json"}, "a.json", b'[1, {"a": [2]}, 3]', 3),
    ({"kind": "json"}, "a.json", b'{"a": 1}', 1),
    ({"kind": "jsonl"}, "a.jsonl", b"{}\n{}\n\n", 2),
    ({"kind": "jsonl", "filters": {"maxItems": 1}}, "a.jsonl", b"{}\n{}\n\n", 1),
    ({"kind": "parquet"}, "a.parquet", parquet(12_345), 12_345),
    ({"kind": "manifest"}, "manifest.json", json.dumps(INVENTORY).encode(), 5),
]


@pytest.mark.parametrize(("of", "key", "data", "count"), DRY_RUNS)
def test_a_dry_run_counts_a_file(of: dict[str, Any], key: str, data: bytes, count: int, world: World) -> None:
    world.put(SOURCE, key, data)
    world.put(RESULTS, "data/1.csv.gz", gzip.compress(b'"b","k","1"\n"b","k","2"\n'))
    world.put(RESULTS, "data/2.csv.gz", gzip.compress(b'"b","k","1"\n"b","k","2"\n"b","k\nk","3"\n'))

    told = handle(event({**of, "bucket": SOURCE, "key": key}, {"dryRun": True}), world)

    assert (told["next"], told["count"]) == ("counted", count)


@pytest.mark.parametrize(
    ("kind", "key", "data"),
    [
        ("json", "a", b"[1, "),
        ("json", "a", b"7"),
        ("jsonl", "a.gz", b"plain"),
        ("parquet", "a", b"12345678901234567890"),
        ("parquet", "a", b"PAR1"),
        ("parquet", "a", b"x" * 20 + (10).to_bytes(4, "little") + b"PAR1"),
        ("manifest", "a", b"{}"),
        ("manifest", "a", b"[]"),
        ("manifest", "a", b"no json"),
        ("manifest", "a", json.dumps({**INVENTORY, "fileFormat": "ORC"}).encode()),
        ("manifest", "a", json.dumps({**INVENTORY, "files": [7]}).encode()),
    ],
)
def test_a_file_that_cannot_be_counted_is_told(kind: str, key: str, data: bytes, world: World) -> None:
    world.put(SOURCE, key, data)

    with pytest.raises(ItemsNotReadable, match=f"s3://uploads/{key} cannot be counted"):
        handle(event({"kind": kind, "bucket": SOURCE, "key": key}, {"dryRun": True}), world)


# --- a run again ------------------------------------------------------------------------------------------------------


def again(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"rerun": {"execution": execution_arn(name)}, **more}


THRESHOLD = {"error": "States.ExceedToleratedFailureThreshold", "cause": "The specified tolerated failure threshold"}

KINDS: list[tuple[dict[str, Any], str]] = [
    ({**OBJECTS, "prefix": "in/"}, "runs/a/failed.jsonl"),
    ({"kind": "input", "path": "$.items"}, "runs/a/failed.jsonl"),
    ({"kind": "jsonl", "bucket": SOURCE, "key": "in/{date}"}, "runs/a/failed.jsonl"),
    ({"kind": "json", "bucket": SOURCE, "key": "in/{date}"}, "runs/a/failed.json"),
    ({"kind": "csv", "bucket": SOURCE, "key": "in/{date}"}, "runs/a/failed.csv"),
    ({"kind": "manifest", "bucket": SOURCE, "key": "in/{date}"}, "runs/a/failed/manifest.json"),
]


def first_run(world: World, of: Mapping[str, Any], *, started_at: str = "2026-11-20T06:00:00Z") -> dict[str, Any]:
    """A run that has begun its map, two days ago."""
    world.put(SOURCE, "in/2026-11-19", "data")
    given = {"items": [1, 2, 3]}
    world.add_execution(
        "a", given=given, startDate=datetime.fromisoformat(started_at), stopDate=datetime.now(UTC), **THRESHOLD
    )
    return handle(event(of, given, started_at=started_at), world)


@pytest.mark.parametrize(("of", "key"), KINDS)
def test_what_was_not_done_is_done_by_another_run(of: dict[str, Any], key: str, world: World) -> None:
    first = first_run(world, of)
    items = [{"Key": f"k{number}", "Size": str(number)} for number in range(6)]
    world.add_map_run(
        "a",
        {
            "SUCCEEDED": [batch(items[:2], output={"items": [None, {"error": "Bad"}]})],
            "FAILED": [batch(items[2:4], "FAILED", error="E"), child(items[4], "ABORTED")],
            "PENDING": [child(items[5], "PENDING")],
        },
    )

    told = handle(event({**of, "filters": {"maxItems": 1}}, again(), name="b"), world)

    assert told == {
        "next": "map",
        "count": 5,
        "items": {"bucket": RESULTS, "key": key},
        "run": {**first["run"], "execution": "b", "date": "2026-11-19"},
        "progress": None,
    }
    assert world.json("runs/a/summary.json")["counts"]["failed"] == 3
    if key.endswith("jsonl"):
        assert {each["Key"] for each in world.lines(key)} == {"k1", "k2", "k3", "k4", "k5"}


@pytest.mark.parametrize("of", [of for of, _ in KINDS])
def test_a_rerun_of_a_rerun_does_what_that_one_has_not_done(of: dict[str, Any], world: World) -> None:
    first_run(world, of)
    failed = [child({"Key": "a"}, "FAILED", error="E"), child({"Key": "b"}, "FAILED")]
    world.add_map_run("a", {"FAILED": failed, "SUCCEEDED": [child({"Key": "c"})]})
    handle(event(of, again(), name="b"), world)
    world.add_execution("b", given=again(), stopDate=datetime.now(UTC), **THRESHOLD)
    world.add_map_run("b", {"SUCCEEDED": [child({"Key": "a"})], "FAILED": [child({"Key": "b"}, "FAILED", error="E")]})

    told = handle(event(of, again("b"), name="c"), world)

    assert (told["next"], told["count"]) == ("map", 1)
    assert told["items"]["key"].startswith("runs/b/failed")
    assert told["run"]["execution"] == "c"
    assert told["run"]["date"] == "2026-11-19"


def test_a_rerun_after_which_nothing_is_left_is_empty_and_no_failure(world: World) -> None:
    of = {**OBJECTS, "emptyFails": True}
    world.put(SOURCE, "in/2026/11/19/a", "x")
    first_run(world, of)
    world.add_map_run("a", {"SUCCEEDED": [child({"Key": "a"})]})

    told = handle(event(of, again(), name="b"), world)

    assert (told["next"], told["count"]) == ("empty", 0)


def test_a_rerun_of_a_run_that_had_nothing_to_do_has_nothing_to_do(world: World) -> None:
    first_run(world, OBJECTS)

    assert handle(event(OBJECTS, again(), name="b"), world)["next"] == "empty"


def test_an_input_that_nobody_can_read_is_told(world: World) -> None:
    world.add_execution("a", error="ItemsNotFound")["input"] = "{cut"

    with pytest.raises(BadInput, match=r"the input of .* is not readable"):
        handle(event(OBJECTS, again(), name="b"), world)


def test_a_rerun_may_be_counted_only(world: World) -> None:
    world.put(SOURCE, "in/2026/11/19/a", "x")
    first_run(world, OBJECTS)
    world.add_map_run("a", {"FAILED": [child({"Key": "a"}, "FAILED")]})

    told = handle(event(OBJECTS, again(dryRun=True), name="b"), world)

    assert (told["next"], told["count"]) == ("counted", 1)


def test_an_account_that_is_there_is_taken(world: World) -> None:
    of = {"kind": "jsonl", "bucket": SOURCE, "key": "in/{date}"}
    first_run(world, of)
    world.add_map_run("a", {"FAILED": [child({"Key": "a"}, "FAILED")]})
    handle(event(of, again(), name="b"), world)
    world.requests.clear()

    handle(event(of, again(), name="b"), world)

    assert "DescribeMapRun" not in world.requests


def test_an_account_of_an_earlier_attempt_is_made_anew(world: World) -> None:
    of = {"kind": "jsonl", "bucket": SOURCE, "key": "in/{date}"}
    first_run(world, of)
    arn = world.add_map_run("a", {"FAILED": [child("a", "FAILED"), child("b", "FAILED")]})
    assert handle(event(of, again(), name="b"), world)["count"] == 2

    # Redriven: one of them is done now.
    world.executions[execution_arn("a")]["redriveCount"] = 1
    counts = {**world.map_runs[arn]["itemCounts"], "succeeded": 1, "failed": 1}
    later = world.now + timedelta(hours=1)
    world.map_runs[arn].update(itemCounts=counts, redriveDate=later, redriveCount=1)
    world.now = later + timedelta(minutes=1)
    world.write_results("a", arn, {"SUCCEEDED": [child("a")], "FAILED": [child("b", "FAILED")]}, folder="redrive/1/")

    assert handle(event(of, again(), name="c"), world)["count"] == 1
    assert world.lines("runs/a/failed.jsonl") == ["b"]


@pytest.mark.parametrize("error", ["States.ItemReaderFailed", "States.ResultWriterFailed"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_run_that_started_no_child_is_done_as_a_whole(error: str, kind: str, world: World) -> None:
    of = {"kind": kind, "bucket": SOURCE, "key": "in/{date}"}
    first = first_run(world, of)
    world.executions[execution_arn("a")]["error"] = error
    world.add_map_run("a", None)

    told = handle(event(of, again(), name="b"), world)

    assert told == {**first, "run": {**first["run"], "execution": "b"}}


def test_a_run_that_never_planned_is_planned_for_its_own_day(world: World) -> None:
    started_at = datetime(2026, 11, 10, 6, tzinfo=UTC)
    world.add_execution(
        "a", given={"rerun": {"execution": execution_arn("0")}}, startDate=started_at, error="ItemsNotFound"
    )
    world.add_execution("0", startDate=started_at - timedelta(days=1), error="ItemsNotFound")
    world.put(SOURCE, "in/2026/11/08/x", "x")

    told = handle(event(OBJECTS, again(), name="b"), world)

    assert (told["next"], told["count"]) == ("map", 1)
    assert told["run"] == run("b", date="2026-11-08", bucket=SOURCE, prefix="in/2026/11/08/")


def test_the_array_of_the_run_that_never_planned_is_taken(world: World) -> None:
    world.add_execution("a", given={"items": [1, 2], "dryRun": True}, error="Lambda.Unknown")

    told = handle(event({"kind": "input", "path": "$.items"}, again(), name="b"), world)

    assert (told["next"], told["count"]) == ("map", 2)


def test_a_dry_run_may_be_made_real_by_a_rerun(world: World) -> None:
    of = {"kind": "input", "path": "$.items"}
    given = {"items": [1, 2], "dryRun": True}
    handle(event(of, given), world)
    world.add_execution("a", status="SUCCEEDED", given=given)

    assert handle(event(of, again(), name="b"), world)["next"] == "map"
    assert handle(event(of, again(dryRun=True), name="b"), world)["next"] == "counted"


@pytest.mark.parametrize("status", ["RUNNING", "PENDING_REDRIVE"])
def test_a_run_that_has_not_ended_is_not_done_again(status: str, world: World) -> None:
    world.add_execution("a", status=status)

    with pytest.raises(RunNotEnded, match=f"is still {status}"):
        handle(event(OBJECTS, again(), name="b"), world)


def test_a_run_whose_results_are_still_being_written_is_not_done_again_yet(world: World) -> None:
    of = {"kind": "jsonl", "bucket": SOURCE, "key": "in/{date}"}
    first_run(world, of)
    arn = world.add_map_run("a", {"FAILED": [child("a", "FAILED")]}, status="RUNNING")

    with pytest.raises(RunNotEnded, match="Try again in a minute"):
        handle(event(of, again(), name="b"), world)
    assert "runs/a/summary.json" not in world.buckets[RESULTS]

    world.map_runs[arn]["status"] = "FAILED"
    assert handle(event(of, again(), name="b"), world)["count"] == 1


def test_results_that_will_never_come_are_not_waited_for(world: World) -> None:
    of = {"kind": "jsonl", "bucket": SOURCE, "key": "in/{date}"}
    first_run(world, of)
    world.executions[execution_arn("a")]["stopDate"] = datetime.now(UTC) - timedelta(hours=1)
    arn = world.add_map_run("a", {"FAILED": [child("a", "FAILED")]})
    for key in [key for key in world.buckets[RESULTS] if "/map/" in key]:
        del world.buckets[RESULTS][key]

    with pytest.raises(RerunByRedrive, match="the results were not written"):
        handle(event(of, again(), name="b"), world)
    assert arn in json.dumps(world.json("runs/a/summary.json"))


def test_parquet_is_done_again_by_a_redrive(world: World) -> None:
    of = {"kind": "parquet", "bucket": SOURCE, "key": "in/{date}"}
    first_run(world, of)
    world.add_map_run("a", {"FAILED": [child({"a": 1}, "FAILED", error="E", cause=raised("E", "no"))]})

    with pytest.raises(RerunByRedrive, match=r"aws stepfunctions redrive-execution --execution-arn arn:.*:work:a\."):
        handle(event(of, again(), name="b"), world)


def test_what_is_not_known_of_each_item_is_not_done_again(world: World) -> None:
    of = {"kind": "jsonl", "bucket": SOURCE, "key": "in/{date}"}
    first_run(world, of)
    arn = world.add_map_run("a", {"FAILED": [child("a", "FAILED"), child("b", "FAILED")]})
    world.put(RESULTS, f"runs/a/map/{arn.rpartition(':')[2]}/FAILED_0.json", json.dumps([child("a", "FAILED")])[:-1])

    with pytest.raises(RerunByRedrive, match="the end is missing; no result tells of 1 items"):
        handle(event(of, again(), name="b"), world)


def test_failed_items_that_are_gone_are_told(world: World) -> None:
    of = {"kind": "jsonl", "bucket": SOURCE, "key": "in/{date}"}
    first_run(world, of)
    world.add_map_run("a", {"FAILED": [child("a", "FAILED")]})
    handle(event(of, again(), name="b"), world)
    del world.buckets[RESULTS]["runs/a/failed.jsonl"]

    with pytest.raises(ItemsNotFound, match=r"s3://results/runs/a/failed\.jsonl does not exist"):
        handle(event(of, again(), name="b"), world)


@pytest.mark.parametrize(
    "arn", [execution_arn("b"), f"{MACHINE}-2:a".replace(":stateMachine:", ":execution:"), "x:execution:y"]
)
def test_only_another_run_of_the_same_machine_is_done_again(arn: str, world: World) -> None:
    with pytest.raises(BadInput, match="rerun must name another execution of this state machine"):
        handle(event(OBJECTS, {"rerun": {"execution": arn}}, name="b"), world)


def test_a_run_that_nobody_knows_is_told(world: World) -> None:
    with pytest.raises(ItemsNotFound, match="There is no execution"):
        handle(event(OBJECTS, again(), name="b"), world)


def test_reruns_that_name_each_other_end(world: World) -> None:
    world.add_execution("a", given=again("c"))
    world.add_execution("c", given=again("a"))

    with pytest.raises(BadInput):
        handle(event(OBJECTS, again(), name="b"), world)


@pytest.mark.parametrize("after", [False, True])
def test_a_rerun_may_die_anywhere(after: bool, world: World) -> None:
    of = {"kind": "csv", "bucket": SOURCE, "key": "in/{date}"}
    first_run(world, of)
    world.add_map_run("a", {"FAILED": [child({"Key": "a"}, "FAILED"), child({"Key": "b"}, "FAILED")]})
    world.dies_after = after
    for dies_at in range(1, 100):
        world.dies_at = dies_at
        world.requests.clear()
        try:
            told = handle(event(of, again(), name="b"), world)
        except KilledError:
            continue
        break

    assert dies_at > 2
    assert (told["next"], told["count"]) == ("map", 2)
    assert world.get("runs/a/failed.csv") == b"Key\na\nb\n"


def test_the_module_says_what_it_may_raise() -> None:
    """The names are what people, and the state machine, see."""
    names = ("NoItems", "ItemsNotFound", "ItemsNotReadable", "RunNotEnded", "RerunByRedrive", "BadInput")
    assert [getattr(plan_module, name).__name__ for name in names] == list(names)

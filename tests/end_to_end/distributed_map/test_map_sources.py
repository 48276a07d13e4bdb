"""Where items come from, which of them there are, and what the work is told of them."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from embedded_aws import RequestFault
from tests.end_to_end.distributed_map.account import BATCH, BATCH_BYTES, TARGET, Account, Map, names
from tests.end_to_end.test_definition_on_embedded_aws import eventually

NAMES = ['a "b"; c', "back\\slash \\n", "two\nlines", "請求書 🎉", "{date}, 100%", " "]


@pytest.mark.parametrize("id_", ["Lines", "Rows", "Array", "Inventory", "Given"])
def test_each_item_of_a_file_or_of_the_input_is_done_once(account: Account, day: str, id_: str) -> None:
    processor = account.map(id_)
    # As S3 writes keys into an inventory.
    wanted = [quote(name) for name in NAMES] if id_ == "Inventory" else NAMES
    # This one takes as many as there are.
    given = [*wanted, "one too many"] if id_ == "Array" else wanted
    run = processor.run(day, *given)
    assert run["status"] == "SUCCEEDED", run
    assert names(account.done(day)) == dict.fromkeys(wanted, 1)
    assert processor.counts(run["executionArn"]) == {"total": 6, "succeeded": 6}
    assert processor.read(run["executionArn"], "failures.jsonl") == ""


def day_in(zone: str, run: dict[str, Any]) -> str:
    """The day before the one on which a run started, there."""
    started: datetime = run["startDate"]
    return (started.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)).isoformat()


def test_objects_of_yesterday_are_listed_and_filtered_where_people_live(account: Account) -> None:
    objects, lines = account.map("Objects"), account.map("Lines")
    # Nowhere is it later, or earlier: it is never the same day in both, so one of them is not in the day of UTC.
    later, earlier = (
        (datetime.now(ZoneInfo(zone)).date() - timedelta(days=1)).isoformat()
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago")
    )
    wanted = ["a b+c%20.csv", "請求書 🎉.csv", 'sub-"folder".csv']
    objects.offer(later, [*wanted, "notes.txt", "folder.csv/"])
    folder = f"in/{later.replace('-', '/')}/"
    objects.put(f"{folder}small.csv", b"1")
    objects.put(f"{folder}more/deeply.csv")
    objects.offer(earlier, ["other day.csv"])
    lines.offer(earlier, ["a"])

    # What an event has in it is none of its business.
    run = objects.ended(objects.start({"detail-type": "Scheduled Event", "detail": {}, "progress": {"count": 7}}))
    assert run["status"] == "SUCCEEDED", run
    assert day_in("Pacific/Kiritimati", run) == later
    done = account.done(later)
    assert names(done) == dict.fromkeys([*wanted, "deeply.csv"], 1)
    assert {one.told for one in done} == {TARGET}
    summary = objects.summary(run["executionArn"])
    assert summary["counts"]["succeeded"] == 4
    told = {"date": later, "bucket": objects.output("Source"), "prefix": folder, "key": None}
    assert summary["run"] == {"execution": run["name"], **told}

    run = lines.ended(lines.start({}))
    assert (run["status"], names(account.done(earlier))) == ("SUCCEEDED", {"a": 1})
    assert day_in("Pacific/Pago_Pago", run) == earlier < later


def test_a_batch_has_no_more_items_or_bytes_than_allowed(
    account: Account, day: str, new_day: Callable[[], str]
) -> None:
    wanted, other = [f"{number}, and more to say" for number in range(2 * BATCH + 1)], new_day()
    lines, rows = account.map("Lines"), account.map("Rows")
    runs = [lines.start(lines.offer(day, wanted)), rows.start(rows.offer(other, wanted))]
    assert lines.ended(runs[0])["status"] == rows.ended(runs[1])["status"] == "SUCCEEDED"
    sizes = sorted(len(given["Items"]) for given in lines.inputs(runs[0]))
    assert sizes == [1, BATCH, BATCH]
    inputs = rows.inputs(runs[1])
    assert 1 < len(inputs) < len(wanted)
    assert all(len(json.dumps(given, separators=(",", ":"))) <= BATCH_BYTES for given in inputs)
    for one in (day, other):
        assert names(account.done(one)) == dict.fromkeys(wanted, 1)


def test_a_dry_run_counts_and_starts_nothing(account: Account, day: str) -> None:
    wanted = [f"{number}.csv" for number in range(5)]
    maps = [account.map(id_) for id_ in ("Objects", "Lines", "Rows", "Array", "Inventory", "Given")]
    runs = [one.start({**one.offer(day, wanted), "dryRun": True}) for one in maps]
    for one, run in zip(maps, runs, strict=True):
        ended = one.ended(run)
        assert ended["status"] == "SUCCEEDED", ended
        plan = json.loads(ended["output"])["plan"]
        assert (one.id, plan["next"], plan["count"]) == (one.id, "counted", len(wanted))
        assert one.map_runs(run) == []
    assert account.done(day) == []


def test_a_run_without_items_succeeds_unless_it_is_to_fail(
    account: Account, day: str, new_day: Callable[[], str]
) -> None:
    objects, lines, rows = (account.map(id_) for id_ in ("Objects", "Lines", "Rows"))
    empty, header = day, new_day()
    rows.put(f"lists/{empty}.csv", b"")
    runs = {
        objects.start({"runDate": empty}): objects,
        lines.start(lines.offer(empty, [])): lines,
    }
    failing = [rows.start({"runDate": empty}), rows.start(rows.offer(header, []))]
    for run, processor in runs.items():
        assert processor.ended(run)["status"] == "SUCCEEDED"
        assert processor.map_runs(run) == []
        assert run not in account.alerts()
    for run in failing:
        ended = rows.ended(run)
        assert (ended["status"], ended["error"]) == ("FAILED", "NoItems"), ended
    # Without a row the file has to be looked at, with one only the Map finds out.
    assert f"{empty}.csv is empty" in rows.told(failing[0])
    assert "There were no items." in rows.told(failing[1])


# --- a listing that takes longer than a function may run ------------------------------------------------------------

PAGE = 1000
"""Objects in an answer of S3."""

SHORT_OF_TIME = 43
"""Seconds, of which the planner lists for 5: it keeps the others to write down how far it has come."""


def test_a_listing_goes_on_in_another_call_where_the_first_had_no_more_time(account: Account, day: str) -> None:
    objects = account.map("Objects")
    first, last = (f"{place} {number}.csv" for place, number in (("a", 1), ("z", 2)))
    objects.offer(day, [first, *(f"m {number}" for number in range(PAGE)), last])
    plan, functions = objects.output("Plan"), account.aws.client("lambda")
    functions.update_function_configuration(FunctionName=plan, Timeout=SHORT_OF_TIME)
    try:
        # Of all requests that read, only the first one is answered: the first page.
        account.aws.fail_requests("s3:GET", RequestFault.error("SlowDown", status=503), share=1 - 1e-6)
        run = objects.start({"runDate": day})
        eventually(lambda: is_there(objects, run, "items.tail-1.jsonl"), "the end of the first call")
        # A listing that began anew would not find it.
        objects.remove(day, first)
        account.aws.heal_requests()
        ended = objects.ended(run)
    finally:
        account.aws.heal_requests()
        functions.update_function_configuration(FunctionName=plan, Timeout=900)
    assert ended["status"] == "SUCCEEDED", ended
    assert objects.entered(run).count("Go on planning") == 1
    assert names(account.done(day)) == {first: 1, last: 1}
    assert objects.counts(run) == {"total": 2, "succeeded": 2}


def is_there(processor: Map, run: str, file: str) -> bool:
    """Whether a run has written a file. Does not read it."""
    storage = processor.aws.client("s3")
    try:
        storage.head_object(Bucket=processor.output("Results"), Key=processor.key(run, file))
    except storage.exceptions.ClientError:
        return False
    return True


# --- items that cannot be read --------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_told_before_anything_is_started(account: Account, day: str) -> None:
    lines = account.map("Lines")
    run = lines.ended(lines.start({"runDate": day}))
    assert (run["status"], run["error"]) == ("FAILED", "ItemsNotFound"), run
    # Asking again would not have helped.
    assert lines.entered(run["executionArn"]).count("Plan") == 1
    told = lines.told(run["executionArn"])
    assert f"lists/{day}.jsonl does not exist. Write it and start the run again" in told
    assert lines.map_runs(run["executionArn"]) == []


def test_a_reader_that_fails_is_no_failure_of_items_and_a_redrive_reads_again(account: Account, day: str) -> None:
    array = account.map("Array")
    array.offer(day, ["a", "b"])
    whole = array.put_aside(f"lists/{day}.json", b'[{"id": "a"}, {"id"')
    run = array.ended(array.start({"runDate": day}))["executionArn"]
    assert array.describe(run)["error"] == "States.ItemReaderFailed"
    told = array.told(run)
    assert "The items could not be read: " in told
    assert "items failed" not in told
    assert array.counts(run) == {}

    array.put(f"lists/{day}.json", whole, bucket=account.outputs["Lists"])
    operator, again = array.rerun(run)
    assert (operator["mode"], again["executionArn"], again["status"]) == ("redrive", run, "SUCCEEDED")
    assert names(account.done(day)) == {"a": 1, "b": 1}
    assert array.counts(run) == {"total": 2, "succeeded": 2}

"""Items that fail, runs that are stopped: what is told of them, and what is run again."""

import json
from collections.abc import Callable
from typing import Any

from embedded_aws import RequestFault
from tests.end_to_end.distributed_map.account import LEFT_NOTICES, LIMIT, Account, names
from tests.end_to_end.test_definition_on_embedded_aws import eventually


def test_the_first_failure_ends_a_strict_run_and_a_redrive_does_the_rest(account: Account, day: str) -> None:
    objects = account.map("Objects")
    # Beside the one that is held, one after the other is done.
    under_way, well, failing = "0 held.csv", ["1.csv", "2.csv"], "3 once.csv"
    waiting = [f"{number}.csv" for number in range(4, 8)]
    assert LIMIT == 2
    ended = objects.run(day, under_way, *well, failing, *waiting)
    run = ended["executionArn"]
    assert (ended["status"], ended["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")

    # What Step Functions says of it tells nobody anything.
    told = objects.told(run)
    assert "1 of 8 items failed (allowed: 0), 1 were stopped, 4 were never started." in told
    assert f"Lambda ValueError: cannot read in/{day.replace('-', '/')}/{failing}" in told
    assert "threshold" not in told
    assert objects.counts(run) == {"total": 8, "succeeded": 2, "failed": 1, "notRun": 5, "stopped": 1}
    assert labels(objects.lines(run, "failed.jsonl")) == [under_way, failing, *waiting]
    failures = {label(line["item"]): (line["side"], line["error"]) for line in objects.lines(run, "failures.jsonl")}
    assert failures == {failing: ("Lambda", "ValueError"), under_way: ("Step Functions", "Stopped")}

    before = objects.operate(action="rerun", execution=run, dryRun=True)
    assert (before["mode"], before["started"]) == ("redrive", None)
    assert objects.describe(run)["status"] == "FAILED"
    # What was called goes on to its end, and is called again.
    account.release(day)
    operator, again = objects.rerun(run)
    assert (operator["mode"], again["executionArn"], again["status"]) == ("redrive", run, "SUCCEEDED")
    eventually(lambda: names(account.done(day))[under_way] == 2, "the end of the function that was held")
    assert names(account.done(day)) == {**dict.fromkeys(well + waiting, 1), failing: 2, under_way: 2}
    assert objects.counts(run) == {"total": 8, "succeeded": 8}
    assert objects.summary(run)["redriveCount"] == objects.map_run(run)["redriveCount"] == 1
    assert objects.read(run, "failed.jsonl") == ""
    assert len(account.alerts()[run]) == 1
    assert objects.operate(action="rerun", execution=run)["why"] == "all of its items were done"


def test_as_many_may_fail_as_are_tolerated_and_no_more(account: Account, day: str, new_day: Callable[[], str]) -> None:
    array, other = account.map("Array"), new_day()
    tolerated = array.run(day, "a", "b broken", "c")
    assert tolerated["status"] == "SUCCEEDED"
    assert array.counts(tolerated["executionArn"]) == {"total": 3, "succeeded": 2, "failed": 1}
    assert labels(json.loads(array.read(tolerated["executionArn"], "failed.json"))) == ["b broken"]

    failed = array.run(other, "a", "b missing", "c", "d once", "e", "f")
    run = failed["executionArn"]
    assert failed["error"] == "States.ExceedToleratedFailureThreshold"
    told = array.told(run)
    assert array.counts(run) == {"total": 6, "succeeded": 2, "failed": 2, "notRun": 2}
    assert "2 of 6 items failed (allowed: 1), 2 were never started." in told
    assert "Lambda Missing: nothing is at b missing" in told
    assert "Lambda ValueError: cannot read d once" in told
    # As a new run, of the file that the first one has left.
    operator, again = array.rerun(run, mode="restart")
    assert again["status"] == "SUCCEEDED"
    assert json.loads(again["input"]) == {"rerun": {"execution": run}}
    assert again["executionArn"] == operator["started"] != run
    assert array.counts(operator["started"]) == {"total": 4, "succeeded": 3, "failed": 1}
    assert names(account.done(other)) == {"a": 1, "c": 1, "b missing": 2, "d once": 2, "e": 1, "f": 1}
    assert tolerated["executionArn"] not in account.alerts()


def test_a_part_of_the_items_may_fail_and_rows_are_run_again_as_they_were(
    account: Account, day: str, new_day: Callable[[], str]
) -> None:
    rows, other = account.map("Rows"), new_day()
    half = rows.run(day, "a refused", "b refused", "c", "d")
    assert half["status"] == "SUCCEEDED"
    assert rows.counts(half["executionArn"]) == {"total": 4, "succeeded": 2, "failed": 2}

    failing = ['"quoted"; once', "back\\slash once", "two\nlines once"]
    run = rows.run(other, *failing, "well")["executionArn"]
    assert rows.describe(run)["error"] == "ItemsFailed"
    assert "3 of 4 items failed (allowed: 50 %)" in rows.told(run)
    operator, again = rows.rerun(run)
    # The children have done what they were asked for: a redrive would leave them alone.
    assert (operator["mode"], again["status"]) == ("restart", "SUCCEEDED")
    assert names(account.done(other)) == {**dict.fromkeys(failing, 2), "well": 1}
    assert rows.counts(operator["started"]) == {"total": 3, "succeeded": 3}


def test_where_half_of_a_batch_fails_only_that_half_is_told_and_run_again_and_again(account: Account, day: str) -> None:
    lines = account.map("Lines")
    well, once, always = ["a", "c", "e", "g"], ["b once", "d once"], ["f refused", "h refused"]
    # A batch of their own, in the rerun as well.
    whole = ["i all of it", "j", "k", "l"]
    given = [name for pair in zip(well, once + always, strict=True) for name in pair]
    ended = lines.run(day, *given, *whole)
    run = ended["executionArn"]
    assert (ended["status"], ended["error"]) == ("FAILED", "ItemsFailed")
    assert sorted(child["status"] for child in lines.children(run)) == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    assert lines.counts(run) == {"total": 12, "succeeded": 4, "failed": 8}
    groups = {(one["side"], one["error"]): (one["count"], one["samples"]) for one in lines.summary(run)["groups"]}
    assert groups == {
        ("application", "Unreadable"): (2, once),
        ("application", "Refused"): (2, always),
        ("Lambda", "ValueError"): (4, whole[:3]),
    }
    assert sorted(labels(lines.lines(run, "failed.jsonl"))) == [*once, *always, *whole]
    told = lines.told(run)
    assert "8 of 12 items failed (allowed: 0)." in told
    assert "application Refused: nobody wants f refused, for example f refused, h refused." in told

    operator, second = lines.rerun(run)
    assert (operator["mode"], second["error"]) == ("restart", "ItemsFailed")
    assert lines.counts(operator["started"]) == {"total": 8, "succeeded": 2, "failed": 6}
    # Asked for twice, it is done once.
    assert lines.operate(action="rerun", execution=run)["startedBefore"] == operator["started"]
    third, _ = lines.rerun(operator["started"])
    assert lines.counts(third["started"]) == {"total": 6, "failed": 6}
    expected = {**dict.fromkeys(well, 1), **dict.fromkeys(once, 2), **dict.fromkeys(always + whole, 3)}
    assert names(account.done(day)) == expected
    assert "6 of 6 items failed" in lines.told(third["started"])
    assert lines.summary(third["started"])["run"]["date"] == day


def test_the_failed_objects_of_an_inventory_are_an_inventory(account: Account, day: str) -> None:
    inventory = account.map("Inventory")
    run = inventory.run(day, "a.jpg", "b%20once.jpg", "c%2Conce.jpg", "d.jpg", "e%22once.jpg")["executionArn"]
    assert inventory.counts(run) == {"total": 5, "succeeded": 2, "failed": 3}
    operator, again = inventory.rerun(run)
    assert again["status"] == "SUCCEEDED"
    given = [item for batch in inventory.inputs(operator["started"]) for item in batch["Items"]]
    assert sorted(map(str, given)) == sorted(
        str({"Bucket": "photos", "Key": key, "Size": str(len(key))})
        for key in ("b%20once.jpg", "c%2Conce.jpg", "e%22once.jpg")
    )


def test_a_notice_is_told_whether_other_items_fail_or_not(
    account: Account, day: str, new_day: Callable[[], str]
) -> None:
    lines = account.map("Lines")
    well = lines.run(day, "a", "b notable", "c notable")
    assert well["status"] == "SUCCEEDED", well
    told = lines.told(well["executionArn"])
    assert LEFT_NOTICES in told
    assert "Notices: 2. b notable: look at b notable; c notable: look at c notable." in told
    noticed = [(label(line["item"]), line["notice"]) for line in lines.lines(well["executionArn"], "notices.jsonl")]
    assert noticed == [("b notable", "look at b notable"), ("c notable", "look at c notable")]

    badly = lines.run(new_day(), "a notable", "b broken")["executionArn"]
    assert lines.describe(badly)["error"] == "ItemsFailed"
    assert lines.counts(badly) == {"total": 2, "succeeded": 1, "failed": 1, "notices": 1}
    notice, failure = lines.all_told(badly, 2)
    assert LEFT_NOTICES in notice
    assert "1 of 2 items failed" in failure


def test_a_run_that_somebody_stops_is_accounted_for_and_told_once(account: Account, day: str) -> None:
    objects = account.map("Objects")
    well, under_way = ["0.csv", "1.csv"], ["2 held.csv", "3 held.csv"]
    waiting = ["4.csv", "5.csv"]
    assert len(under_way) == LIMIT
    run = objects.start(objects.offer(day, [*well, *under_way, *waiting]))
    objects.wait_for_children(run, succeeded=2, running=2)
    account.aws.client("stepfunctions").stop_execution(executionArn=run, error="Maintenance", cause="We move.")
    told = objects.told(run)
    assert "failed: aborted" in told
    assert "Somebody stopped the run: Maintenance: We move." in told
    assert "0 of 6 items failed (allowed: 0), 2 were stopped, 2 were never started." in told
    assert objects.counts(run) == {"total": 6, "succeeded": 2, "notRun": 4, "stopped": 2}
    assert labels(objects.lines(run, "failed.jsonl")) == [*under_way, *waiting]
    account.release(day)
    operator, again = objects.rerun(run, mode="redrive")
    assert (operator["why"], again["status"]) == ("as was asked for", "SUCCEEDED")
    eventually(lambda: len(account.done(day)) == 8, "the end of the functions that were held")
    assert names(account.done(day)) == {**dict.fromkeys(well + waiting, 1), **dict.fromkeys(under_way, 2)}
    assert objects.counts(run) == {"total": 6, "succeeded": 6}


def test_an_account_that_dies_in_the_middle_is_made_again(account: Account, day: str) -> None:
    lines = account.map("Lines")
    input_ = lines.offer(day, ["a", "b refused"])
    # The plan is written first, then the failed items, and then their failures.
    account.aws.fail_requests("s3:PUT", RequestFault.killed(lines.output("Account")), times=1, share=1 / 3)
    try:
        run = lines.start(input_)
        assert lines.ended(run)["error"] == "ItemsFailed"
    finally:
        account.aws.heal_requests()
    assert lines.tasks_failed(run, "Account for all items") == 1
    assert lines.counts(run) == {"total": 2, "succeeded": 1, "failed": 1}
    assert labels(lines.lines(run, "failed.jsonl")) == ["b refused"]
    assert labels([line["item"] for line in lines.lines(run, "failures.jsonl")]) == ["b refused"]
    assert "1 of 2 items failed" in lines.told(run)
    assert names(account.done(day)) == {"a": 1, "b refused": 1}


def label(item: Any) -> str:
    """What a test calls an item."""
    name: str = item.get("Key") or item["id"]
    return name.rpartition("/")[2]


def labels(items: list[Any]) -> list[str]:
    return [label(item) for item in items]

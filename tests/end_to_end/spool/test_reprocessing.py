"""What is run again when the neighbour is back: how much, in which order, in which way, and what comes of it."""

import html
import json
import re
from typing import Any

from tests.end_to_end.spool.account import Account, Spool, some_orders


def chosen(answer: dict[str, Any]) -> list[str]:
    """The executions whose failures were chosen, in the order of the answer."""
    return [one["failed"] for one in answer["failures"]]


# --- restarting ----------------------------------------------------------------------------------------------


def test_each_input_is_delivered_once_the_oldest_first_and_no_more_than_allowed(
    account: Account, spool: Spool, group: str
) -> None:
    orders = some_orders(6)
    with account.down(group):
        failed = [*account.run("Own", group, *orders[:3]), *account.run("Plain", group, *orders[3:])]
        assert spool.orders(6) == orders
    tried = account.reprocess("Quick", dryRun=True)
    assert (chosen(tried), tried["outcomes"]) == (failed[:4], {"would restart": 4})
    # A dry run leaves everything where it is.
    assert account.done(group) == []
    assert account.reprocess("OneByOne", max=4)["outcomes"] == {"restarted": 4}
    account.assert_each_delivered_once(group, orders[:4])
    assert spool.orders(2) == orders[4:]
    assert account.reprocess("Quick")["outcomes"] == {"restarted": 2}
    account.assert_each_delivered_once(group, orders)
    spool.assert_empty()
    found = sorted(
        account.executions("Own", group) + account.executions("Plain", group), key=lambda one: one["startDate"]
    )
    inputs = [json.loads(one["input"])["order"] for one in found]
    # One after the other, the first four were started again in the order in which they had failed.
    assert inputs[:10] == [*orders, *orders[:4]]
    assert sorted(inputs[10:]) == orders[4:]


# --- redriving -----------------------------------------------------------------------------------------------


def test_a_redrive_does_not_run_finished_steps_again_however_often_it_fails(
    account: Account, spool: Spool, group: str
) -> None:
    orders = some_orders(2)
    with account.down(group):
        failed = account.run("Plain", group, *orders)
        spool.wait_for(2)
        assert account.reprocess("Redriving", key=orders[0])["outcomes"] == {"redriven": 1}
        failures = spool.wait_for(2)
    assert {failure["execution"]: failure["redriveCount"] for failure in failures} == {failed[0]: 1, failed[1]: 0}
    # Two attempts of the first have failed, and there are no more, unless somebody says so.
    assert account.reprocess("Redriving")["outcomes"] == {"quarantined": 1, "redriven": 1}
    account.call("Redriving", {"action": "release", "all": True})
    assert account.reprocess("Redriving")["outcomes"] == {"redriven": 1}
    account.assert_each_delivered_once(group, orders)
    assert account.done(group, "prepare") == orders
    ended = account.executions("Plain", group)
    assert [(one["executionArn"], one["status"], one["redriveCount"]) for one in ended] == [
        (failed[0], "SUCCEEDED", 2),
        (failed[1], "SUCCEEDED", 1),
    ]
    spool.assert_empty()


def test_a_redrive_that_is_of_no_use_is_a_restart_and_says_so(account: Account, spool: Spool, group: str) -> None:
    with account.down(group):
        account.run("Own", group, "caught")
        account.run("Plain", group, "long ago")
        caught, seen = spool.wait_for(2)
    account.purge("Queue")
    # Step Functions forgets an execution after 90 days.
    gone = {**seen, "execution": f"{seen['execution']}-gone", "executionName": f"{seen['executionName']}-gone"}
    for failure in (caught, gone):
        account.send("Queue", json.dumps(failure))
    answer = account.reprocess("Redriving")
    assert answer["outcomes"] == {"restarted": 2}
    assert {one["failed"]: one["instead"] for one in answer["failures"]} == {
        caught["execution"]: "caught in the state machine",
        gone["execution"]: "the execution is not known any more",
    }
    account.assert_each_delivered_once(group, ["caught", "long ago"])
    spool.assert_empty()


# --- the quarantine ------------------------------------------------------------------------------------------


def test_poison_ends_in_quarantine_with_its_history_and_is_released(account: Account, spool: Spool, group: str) -> None:
    [poison] = account.run("Plain", group, "bad order", poison=True)
    with account.down(group):
        account.run("Plain", group, "good order")
        spool.wait_for(2)
    account.reprocess("Quick")
    account.assert_each_delivered_once(group, ["good order"])
    [failure] = spool.wait_for(1)
    assert failure["executionName"].startswith("again-")
    # Two attempts have failed, and there are no more.
    assert account.reprocess("Quick")["outcomes"] == {"quarantined": 1}
    [(body, notes)] = spool.parked()
    assert json.loads(body) == failure
    assert (notes["reason"], notes["attempts"]) == ("it failed 2 times", "2")
    history = json.loads(notes["history"])
    assert [one["execution"] for one in history] == [poison, failure["execution"]]
    assert {one["error"] for one in history} == {"Poison"}
    assert notes["firstFailedAt"] == history[0]["failedAt"] < history[1]["failedAt"]

    account.switch(group, "mended", on=True)
    assert account.call("Quick", {"action": "release", "id": notes["id"]})["chosen"] == 1
    assert account.count("Quarantine") == 0
    assert account.reprocess("Quick")["outcomes"] == {"restarted": 1}
    account.assert_each_delivered_once(group, ["good order", "bad order"])
    spool.assert_empty()


# --- the page ------------------------------------------------------------------------------------------------


def test_the_page_lists_the_spool_and_its_buttons_run_it_again(account: Account, spool: Spool, group: str) -> None:
    orders = some_orders(3)
    with account.down(group):
        account.run("Plain", group, *orders)
        spool.wait_for(3)
    page = account.call("QuickWidget", {})
    assert "<h3>Spool: 3</h3>" in page
    assert "NeighbourDown" in page
    action = r'<cwdb-action action="call"[^>]* endpoint="([^"]*)"[^>]*>(.*?)</cwdb-action>'
    button = re.search(rf'<a class="btn">Reprocess 2</a>{action}', page)
    assert button, page
    assert button[1] == account.outputs["QuickWidget"]
    # What the console does when somebody presses it and confirms. It lists, and then reprocesses.
    with account.until_called("Quick", 2):
        assert "was asked for" in account.call("QuickWidget", json.loads(html.unescape(button[2])))
    account.assert_each_delivered_once(group, orders[:2])
    assert spool.orders(1) == orders[2:]

"""Deaths between two steps, refusals, duplicates and strangers: each input is started once, or is still there."""

import json
import time

import pytest

from embedded_aws import RequestFault
from tests.end_to_end.spool.account import Account, FunctionKilledError, Spool, side_by_side, some_orders
from tests.end_to_end.test_definition_on_embedded_aws import eventually


def fail(account: Account, spool: Spool, group: str, count: int) -> list[str]:
    """Has so many orders fail. The neighbour is back afterwards. The one that failed first is the first."""
    with account.down(group):
        account.run("Plain", group, *some_orders(count))
        return spool.orders(count)


def dies_after(account: Account, step: str, reprocessor: str, *, number: int = 1, action: str = "reprocess") -> None:
    """Has a reprocessor die after so many requests of a kind. What it had received comes back."""
    killed = RequestFault.killed(account.outputs[reprocessor])
    account.aws.fail_requests(step, killed, share=1 / number, times=1)
    with pytest.raises(FunctionKilledError):
        account.call(reprocessor, {"action": action, "max": "all"})
    account.aws.heal_requests()
    account.aws.end_visibility_timeouts(account.outputs["Queue"])


def accepted(account: Account, group: str, count: int) -> list[str]:
    """The executions that were started again, which are so many: how each ended."""
    again = [one for one in account.executions("Plain", group) if one["name"].startswith("again-")]
    assert len(again) == count
    return [account.ended(one["executionArn"])["status"] for one in again]


# --- deaths --------------------------------------------------------------------------------------------------


def test_deaths_after_one_step_and_the_other_start_each_input_once(account: Account, spool: Spool, group: str) -> None:
    orders = fail(account, spool, group, 3)
    dies_after(account, "dynamodb:TransactWriteItems", "OneByOne")
    for number in (1, 2):
        dies_after(account, "states:StartExecution", "OneByOne", number=number)
        # Nothing is deleted before all of its batch was accepted.
        assert account.count("Queue") == 3
    dies_after(account, "sqs:DeleteMessageBatch", "OneByOne")
    assert account.count("Queue") == 0
    account.assert_each_delivered_once(group, orders)
    assert accepted(account, group, 3) == ["SUCCEEDED"] * 3
    spool.assert_empty()


def test_a_death_after_a_redrive_resumes_each_execution_once(account: Account, spool: Spool, group: str) -> None:
    orders = fail(account, spool, group, 3)
    dies_after(account, "states:RedriveExecution", "Redriving")

    def reprocessed() -> bool:
        # What it had asked for when it died may be under way: also a last receive.
        account.aws.end_visibility_timeouts(account.outputs["Queue"])
        account.reprocess("Redriving")
        return account.count("Queue") == 0

    eventually(reprocessed, "an empty spool")
    account.assert_each_delivered_once(group, orders)
    assert [one["redriveCount"] for one in account.executions("Plain", group)] == [1, 1, 1]
    spool.assert_empty()


def test_a_death_while_failures_are_parked_loses_and_doubles_nothing(
    account: Account, spool: Spool, group: str
) -> None:
    orders = fail(account, spool, group, 3)
    dies_after(account, "sqs:SendMessage", "Quick", action="park")
    account.call("Quick", {"action": "park", "max": "all"})
    assert account.count("Queue") == 0
    assert len({notes["id"] for _, notes in spool.parked()}) == 3
    account.call("Quick", {"action": "release", "all": True})
    account.reprocess("Quick")
    account.assert_each_delivered_once(group, orders)
    spool.assert_empty()


# --- refusals ------------------------------------------------------------------------------------------------


def test_throttled_starts_are_made_again(account: Account, spool: Spool, group: str) -> None:
    orders = fail(account, spool, group, 4)
    account.aws.fail_requests("states:StartExecution", RequestFault.error("ThrottlingException"), share=0.5)
    before = account.aws.requests()["states:StartExecution"]
    assert account.reprocess("Quick")["outcomes"] == {"restarted": 4}
    assert account.aws.requests()["states:StartExecution"] - before > 4
    account.assert_each_delivered_once(group, orders)
    spool.assert_empty()


def test_a_queue_that_is_purged_meanwhile_disturbs_nobody(account: Account, spool: Spool, group: str) -> None:
    orders = fail(account, spool, group, 3)

    def purge() -> None:
        eventually(lambda: account.hidden("Queue") == 3, "the beginning of the call")
        account.purge("Queue")

    answer, _ = side_by_side(lambda: account.reprocess("OneByOne"), purge)
    # What it held by then, it has started.
    assert answer["outcomes"] == {"restarted": 3}
    account.assert_each_delivered_once(group, orders)
    spool.assert_empty()
    assert account.reprocess("OneByOne")["found"] == 0


# --- duplicates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", ["OneByOne", "Redriving"])
def test_two_reprocessors_at_once_run_each_input_once(account: Account, spool: Spool, group: str, others: str) -> None:
    orders = fail(account, spool, group, 5)
    # Every message twice, so that each of them finds some of the other's.
    for failure in spool.wait_for(5):
        account.send("Queue", json.dumps(failure))
    side_by_side(lambda: account.reprocess("Quick", max="all"), lambda: account.reprocess(others, max="all"))
    account.assert_each_delivered_once(group, orders)
    # A copy that came to nobody's hands is one of what was started.
    again = account.reprocess("Quick", max="all")["outcomes"]
    assert again.keys() <= {"started before"}
    account.assert_each_delivered_once(group, orders)
    spool.assert_empty()


# --- strangers -----------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_parked_and_its_neighbours_are_run(account: Account, spool: Spool, group: str) -> None:
    orders = fail(account, spool, group, 2)
    [first, _] = spool.wait_for(2)
    strange = {
        "not ours {": "the body must be a JSON object",
        json.dumps({"hello": "world", "now": time.time()}): "schemaVersion must be 1, got nothing",
        json.dumps({**first, "schemaVersion": 2}): "schemaVersion must be at most 1, got 2: deploy a later version",
    }
    for body in strange:
        account.send("Queue", body)
    answer = account.reprocess("Quick", max="all")
    assert (answer["unreadable"], answer["outcomes"]) == (3, {"restarted": 2})
    account.assert_each_delivered_once(group, orders)
    assert account.count("Queue") == 0
    parked = dict(spool.parked())
    assert parked.keys() == strange.keys()
    for body, reason in strange.items():
        assert parked[body]["reason"].startswith(reason)
    # An operator may drop them, by the ids that a list shows.
    listed = account.call("Quick", {"action": "list"})["quarantinedUnreadable"]
    assert len(listed) == 3
    answer, failed = account.answer("Quick", {"action": "drop", "id": listed[0]["id"]})
    assert failed
    assert "confirm" in answer["errorMessage"]
    account.call("Quick", {"action": "drop", "id": listed[0]["id"], "confirm": True})
    assert account.count("Quarantine") == 2


# --- permissions ---------------------------------------------------------------------------------------------


def test_nobody_may_do_more(account: Account, spool: Spool, group: str) -> None:
    """Permissions are enforced; otherwise no test here would show that they suffice."""
    name = account.outputs["Inlet"]
    functions = account.aws.client("lambda")
    role = functions.get_function_configuration(FunctionName=name)["Role"].rsplit("/", 1)[1]
    roles = account.aws.client("iam")
    [policy] = [
        one
        for one in roles.list_role_policies(RoleName=role)["PolicyNames"]
        if "sqs:SendMessage" in json.dumps(roles.get_role_policy(RoleName=role, PolicyName=one)["PolicyDocument"])
    ]
    document = roles.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    roles.delete_role_policy(RoleName=role, PolicyName=policy)
    try:
        with account.no_events("Telling"):
            [execution] = account.run("Telling", group, "order 1", error="Broken", cause="on purpose")
        answer, failed = account.answer("Inlet", {"detail": {"executionArn": execution}})
    finally:
        roles.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
    assert failed
    assert "AccessDenied" in answer["errorMessage"]
    assert spool.tell(execution)["spooled"]

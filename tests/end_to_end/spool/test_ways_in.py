"""How failures come into the spool: from the state machine itself, by its events, and where these are lost."""

import json

import pytest

from embedded_aws import RequestFault
from tests.end_to_end.spool.account import LONG, Account, FunctionKilledError, Spool, side_by_side, some_orders
from tests.end_to_end.test_definition_on_embedded_aws import eventually


def wait_for_the_alert(account: Account, execution: str) -> None:
    """Waits until there is one of an execution in the inbox."""
    queues, url = account.aws.client("sqs"), account.outputs["OwnInboxUrl"]

    def is_told() -> bool:
        return any(execution in message["Body"] for message in queues.receive_message(QueueUrl=url).get("Messages", []))

    eventually(is_told, f"the alert of {execution}")


# --- from the state machine itself -----------------------------------------------------------------------------


def test_a_failure_handler_spools_what_failed_once_and_the_alert_goes_out(
    account: Account, spool: Spool, group: str
) -> None:
    with account.down(group):
        [execution] = account.run("Own", group, "order 1", amount=1.5)
    ended = account.ended(execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "NeighbourDown")
    wait_for_the_alert(account, execution)
    # Nobody looks for what was sent.
    assert spool.reconcile("Own", "TIMED_OUT", "ABORTED") == {"found": 0, "recovered": 0}
    [failure] = spool.wait_for(1)
    cause = failure["failure"].pop("Cause")
    times = [failure.pop("executionStartedAt"), failure.pop("failedAt")]
    assert failure == {
        "schemaVersion": 1,
        "caught": True,
        "status": "FAILED",
        "failure": {"Error": "NeighbourDown"},
        "input": {"group": group, "order": "order 1", "amount": 1.5},
        "stateMachine": account.outputs["Own"],
        "execution": execution,
        "executionName": execution.rsplit(":", 1)[1],
    }
    assert json.loads(cause)["errorMessage"] == "in maintenance: order 1"
    assert times == sorted(times)


def test_the_alert_goes_out_and_the_execution_fails_although_sqs_refuses(
    account: Account, spool: Spool, group: str
) -> None:
    queues, url = account.aws.client("sqs"), account.outputs["Queue"]
    queues.set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "1024"})
    try:
        with account.down(group):
            [execution] = account.run("Own", group, "order 1", note="long " * 250)
    finally:
        queues.set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "1048576"})
    ended = account.ended(execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "NeighbourDown")
    assert json.loads(ended["input"])["order"] == "order 1"
    wait_for_the_alert(account, execution)
    [kept] = account.messages("OwnDeadLettersUrl")
    assert json.loads(kept["Body"])["Execution"]["Execution"]["Id"] == execution
    assert account.count("Queue") == 0


def test_an_input_too_large_for_a_message_waits_in_s3_and_comes_back_as_it_was(
    account: Account, spool: Spool, group: str
) -> None:
    large = {"group": group, "order": "order 1", "picture": "x" * 261_900}
    with account.down(group):
        ended = account.ended(account.start("Own", large))
    # With its error it is too much for a state machine: no Catch sees that.
    assert ended["error"] == "States.DataLimitExceeded"
    [failure] = spool.wait_for(1)
    assert "input" not in failure
    place = failure["inputLocation"]
    stored = account.aws.client("s3").get_object(Bucket=place["bucket"], Key=place["key"])["Body"].read()
    assert stored.decode() == ended["input"]
    assert account.reprocess("Quick")["outcomes"] == {"restarted": 1}
    account.assert_each_delivered_once(group, ["order 1"])
    _, again = account.executions("Own", group)
    assert (again["input"], again["status"]) == (ended["input"], "SUCCEEDED")


# --- by events -----------------------------------------------------------------------------------------------


def test_what_no_catch_sees_is_spooled(account: Account, spool: Spool, group: str) -> None:
    waits, breaks = {"group": group, "seconds": LONG}, {"group": group}
    timed_out, broken, aborted = (account.start("Delicate", input_) for input_ in (waits, breaks, waits))
    eventually(lambda: account.has_entered(aborted, "Delicate Work"), "the state")
    account.aws.client("stepfunctions").stop_execution(executionArn=aborted)
    found = {failure["execution"]: failure for failure in spool.wait_for(3)}
    for execution, status, error, input_ in (
        (timed_out, "TIMED_OUT", "", waits),
        (aborted, "ABORTED", "", waits),
        (broken, "FAILED", "States.Runtime", breaks),
    ):
        failure = found[execution]
        assert bool(failure.pop("cause")) == bool(error)
        times = [failure.pop("executionStartedAt"), failure.pop("failedAt")]
        assert times == sorted(times)
        assert {name: failure[name] for name in failure if name not in ("id", "stateMachine", "key")} == {
            "schemaVersion": 1,
            "caught": False,
            "status": status,
            "error": error,
            "input": input_,
            "execution": execution,
            "executionName": execution.rsplit(":", 1)[1],
            "failedState": "Delicate Work",
            "redriveCount": 0,
        }


def test_failures_without_an_event_are_found_and_only_once(account: Account, spool: Spool, group: str) -> None:
    with account.no_events("Telling"):
        account.run("Telling", group, *some_orders(3), error="Broken", cause="on purpose")
    assert account.count("Queue") == 0
    found = spool.reconcile("Telling")
    assert found["recovered"] == 3
    assert spool.reconcile("Telling") == {**found, "recovered": 0}
    assert spool.orders(3) == some_orders(3)


def test_events_and_reconcilers_together_spool_each_failure_once(account: Account, spool: Spool, group: str) -> None:
    orders = some_orders(6)

    def fail() -> list[str]:
        return account.run("Telling", group, *orders, error="Broken", cause="on purpose")

    def look() -> None:
        for _ in range(6):
            spool.reconcile("Telling")

    executions, _, _ = side_by_side(fail, look, look)
    assert [failure["execution"] for failure in spool.wait_for(len(orders))] == executions
    for execution in executions:
        assert spool.tell(execution)["spooled"] is False
    spool.wait_for(len(orders))


def test_an_inlet_that_dies_after_it_sent_causes_no_second_run(account: Account, spool: Spool, group: str) -> None:
    with account.no_events("Plain"), account.down(group):
        [execution] = account.run("Plain", group, "order 1")
    account.aws.fail_requests("sqs:SendMessage", RequestFault.killed(account.outputs["Inlet"]), times=1)
    with pytest.raises(FunctionKilledError):
        spool.tell(execution)
    # For a while it may still be at it.
    assert spool.reconcile("Plain")["recovered"] == 0
    spool.age(execution)
    assert spool.reconcile("Plain")["recovered"] == 1
    # Nobody can know that it was sent.
    spool.wait_for(2)
    assert account.reprocess("Quick")["outcomes"] == {"restarted": 1}
    account.assert_each_delivered_once(group, ["order 1"])
    spool.assert_empty()

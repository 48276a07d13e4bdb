"""Holders and waiters that fail, and what functions and events lose: every permit comes back."""

import json

import pytest

from embedded_aws import RequestFault
from tests.end_to_end.semaphore.account import LIMIT, LONG, Account, entered, peak
from tests.end_to_end.test_definition_on_embedded_aws import eventually

# --- what goes wrong -----------------------------------------------------------------------------------------


def test_a_job_that_fails_gives_its_permit_back_and_keeps_its_error(account: Account, key: str) -> None:
    broken = account.start_many(LIMIT, "Broken", key)
    following = account.start_many(LIMIT, "Patient", key)
    account.all_ended(broken, "FAILED")
    assert {(account.ended(one)["error"], account.ended(one)["cause"]) for one in broken} == {("Broken", "on purpose")}
    account.all_ended(following)
    account.everything_given_back(key)


def test_a_failure_that_no_catch_sees_gives_the_permit_back(account: Account, key: str) -> None:
    broken = account.start_many(LIMIT, "Patient", key, seconds=None)
    following = account.start_many(LIMIT, "Patient", key)
    account.all_ended(broken, "FAILED")
    assert {account.ended(one)["error"] for one in broken} == {"States.Runtime"}
    account.all_ended(following)
    account.everything_given_back(key)


def test_aborted_holders_give_their_permits_back(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    following = account.start_many(LIMIT, "Patient", key)
    account.wait_for(key, waiting=LIMIT)
    account.stop(holders)
    account.all_ended(holders, "ABORTED")
    account.all_ended(following)
    account.everything_given_back(key)


def test_aborted_waiters_leave_the_line(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    waiters = account.start_many(LIMIT, "Patient", key)
    account.wait_for(key, waiting=LIMIT)
    account.stop(waiters)
    account.wait_for(key, inUse=LIMIT, waiting=0)
    following = account.start("Patient", key)
    account.stop(holders)
    account.all_ended([following])
    assert all("Work" not in entered(account.history(waiter)) for waiter in waiters)
    account.everything_given_back(key)


def test_an_execution_that_times_out_while_it_holds_gives_its_permit_back(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Hasty", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    following = account.start_many(LIMIT, "Patient", key)
    account.all_ended(holders, "TIMED_OUT")
    account.all_ended(following)
    account.everything_given_back(key)


def test_an_execution_that_times_out_while_it_waits_never_gets_a_permit(account: Account, key: str) -> None:
    account.ask("pause", key=key)
    waiter = account.start("Hasty", key)
    account.wait_for(key, waiting=1)
    account.all_ended([waiter], "TIMED_OUT")
    account.wait_for(key, inUse=0, waiting=0)


# --- what is lost --------------------------------------------------------------------------------------------


def test_holders_that_were_never_told_are_told_by_the_sweeper(account: Account, key: str) -> None:
    heavy = account.start("Heavy", key, weight=LIMIT, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    executions = account.start_many(LIMIT + 2, "Patient", key)
    account.wait_for(key, waiting=LIMIT + 2)
    account.kill_after_next_commit()
    account.stop([heavy])
    account.wait_for(key, inUse=LIMIT, waiting=2)
    # Younger than its patience: whoever let them in may be about to tell them.
    account.ask("sweep")
    account.wait_for(key, inUse=LIMIT, waiting=2)
    account.sweep_old(key)
    account.all_ended(executions)
    account.everything_given_back(key)


def test_a_function_that_dies_while_it_gives_back_has_handed_the_permit_on(account: Account, key: str) -> None:
    account.ask("set-limit", key=key, limit=1)
    # Its release comes after a second.
    first = account.start("Patient", key, seconds=100)
    account.wait_for(key, inUse=1)
    second = account.start("Patient", key)
    account.wait_for(key, waiting=1)
    account.kill_after_next_commit()
    account.all_ended([first])
    account.wait_for(key, inUse=1, waiting=0)
    assert "Work" not in entered(account.history(second))
    account.sweep_old(key)
    account.all_ended([second])
    account.everything_given_back(key)


def test_a_function_that_dies_while_it_grants_is_called_again_and_the_lost_permit_is_found(
    account: Account, key: str
) -> None:
    # The call with the new token gets a permit of its own.
    account.kill_after_next_commit()
    account.all_ended([account.start("Patient", key)])
    account.wait_for(key, inUse=1, waiting=0)
    account.sweep_old(key)
    account.everything_given_back(key)


def test_a_holder_that_gave_up_before_it_was_told_loses_its_permit(account: Account, key: str) -> None:
    heavy = account.start("Heavy", key, weight=LIMIT, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    impatient = account.start("Impatient", key)
    account.wait_for(key, waiting=1)
    account.kill_after_next_commit()
    account.stop([heavy])
    account.wait_for(key, inUse=1, waiting=0)
    account.all_ended([impatient], "FAILED")
    account.sweep_old(key)
    account.everything_given_back(key)


def test_the_sweeper_alone_recovers_what_events_did_not_tell(account: Account, key: str) -> None:
    events = account.aws.client("events")
    [rule] = account.rules(account.outputs["Patient"])
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    waiters = account.start_many(LIMIT, "Patient", key)
    following = account.start_many(LIMIT, "Patient", key)
    account.wait_for(key, waiting=2 * LIMIT)
    events.disable_rule(Name=rule)
    try:
        account.stop([*holders, *waiters])
        account.all_ended([*holders, *waiters], "ABORTED")
        account.wait_for(key, inUse=LIMIT, waiting=2 * LIMIT)
        account.sweep_old(key)
        account.all_ended(following)
    finally:
        events.enable_rule(Name=rule)
    account.everything_given_back(key)


def test_the_sweeper_leaves_those_who_work_and_those_who_wait(account: Account, key: str) -> None:
    executions = account.start_many(LIMIT + 2, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT, waiting=2)
    account.sweep_old(key)
    account.sweep_old(key)
    account.wait_for(key, inUse=LIMIT, waiting=2)
    account.stop(executions)
    account.everything_given_back(key)


@pytest.mark.parametrize("fault", ["killed", "answer lost"])
def test_a_holder_that_was_told_keeps_its_permit_though_nobody_knows(account: Account, key: str, fault: str) -> None:
    faults = {"killed": RequestFault.killed(account.function), "answer lost": RequestFault.answer_lost()}
    account.aws.fail_requests("states:SendTaskSuccess", faults[fault], times=1)
    execution = account.start("Patient", key, seconds=LONG)
    eventually(lambda: "Work" in entered(account.history(execution)), "its work")
    account.sweep_old(key)
    account.sweep_old(key)
    account.wait_for(key, inUse=1, waiting=0)
    account.stop([execution])
    account.everything_given_back(key)


def test_lost_answers_of_the_table_lose_no_permit(account: Account, key: str) -> None:
    before = account.requests("dynamodb:TransactWriteItems")
    account.aws.fail_requests("dynamodb:TransactWriteItems", RequestFault.answer_lost(), share=0.5)
    try:
        executions = account.start_many(2 * LIMIT, "Patient", key)
        eventually(lambda: account.requests("dynamodb:TransactWriteItems") >= before + 2 * LIMIT, "transactions")
    finally:
        account.aws.heal_requests()
    # Who was let in by a transaction whose answer was lost may not have been told.
    account.sweep_old(key)
    account.all_ended(executions)
    assert peak([account.history(execution) for execution in executions]) <= LIMIT
    account.everything_given_back(key)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_everybody_finishes_once_the_table_is_no_longer_throttled(account: Account, key: str, share: float) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=100)
    account.wait_for(key, inUse=LIMIT)
    for request in ("TransactWriteItems", "PutItem", "Query"):
        fault = RequestFault.error("ProvisionedThroughputExceededException")
        account.aws.fail_requests(f"dynamodb:{request}", fault, share=share)
    before = account.requests("dynamodb:Query")
    try:
        # Some ask and some give back meanwhile.
        executions = [*holders, *account.start_many(LIMIT, "Patient", key)]
        eventually(lambda: account.requests("dynamodb:Query") > before + 2 * LIMIT, "refused requests")
    finally:
        account.aws.heal_requests()
    account.all_ended(executions)
    assert peak([account.history(execution) for execution in executions]) <= LIMIT
    account.everything_given_back(key)


def test_giving_back_twice_gives_back_once(account: Account, key: str) -> None:
    finished = account.ended(account.start("Patient", key))
    permit = json.loads(finished["output"])["permits"]["Quota"]["permit"]
    executions = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    execution, *others = executions
    for _ in range(2):
        assert account.ask("release", permit=permit) == {"released": False}
        assert account.usage(key)["inUse"] == LIMIT
    account.stop([execution])
    account.wait_for(key, inUse=LIMIT - 1)
    assert account.ask("ended", execution=execution, status="ABORTED") == {"released": False}
    assert account.usage(key)["inUse"] == LIMIT - 1
    account.stop(others)
    account.everything_given_back(key)

"""Guards in guards, one after the other, in branches and in items: every permit comes back, whatever fails."""

from collections.abc import Iterator

import aws_cdk as cdk
import pytest
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from constructs_lib import Semaphore
from embedded_aws import EmbeddedAws
from tests.end_to_end.semaphore.account import (
    LONG,
    SHORT,
    Account,
    deployed,
    entered,
    make_machine,
    make_semaphore,
    peak,
    wait,
)

FEW, MORE = 2, 3


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Nested")
    few, more = make_semaphore(stack, limit=FEW), make_semaphore(stack, "Other", limit=MORE)

    scope = Construct(stack, "Nested")
    inner = more.guard(scope, "Inner", wait(scope), key="$.key")
    make_machine(scope, few.guard(scope, "Outer", inner, key="$.key"), few, more)

    scope = Construct(stack, "Twice")
    first, second = (few.guard(scope, id_, wait(scope, f"Work {id_}"), key="$.key") for id_ in ("First", "Second"))
    make_machine(scope, first.next(second), few)

    make_machine(scope := Construct(stack, "Branches"), branches(scope, few), few)

    make_machine(
        scope := Construct(stack, "Caught"),
        branches(scope, few).add_catch(
            sfn.Wait(scope, "Go on", time=sfn.WaitTime.seconds_path("$.afterwards")), result_path="$.error"
        ),
        few,
    )

    scope = Construct(stack, "Items")
    items = sfn.Map(
        scope,
        "Each",
        items_path="$.items",
        item_selector={
            "key": sfn.JsonPath.string_at("$.key"),
            "seconds": sfn.JsonPath.number_at("$$.Map.Item.Value.seconds"),
            "fails": sfn.JsonPath.object_at("$$.Map.Item.Value.fails"),
        },
    )
    make_machine(scope, items.item_processor(few.guard(scope, "Item", work_that_may_fail(scope), key="$.key")), few)
    return stack


def branches(scope: Construct, semaphore: Semaphore) -> sfn.Parallel:
    """Three branches, of which the first fails if ``$.fails``; the others work for ``$.seconds``."""
    parallel = sfn.Parallel(scope, "All", result_path="$.results")
    parallel.branch(semaphore.guard(scope, "Branch1", work_that_may_fail(scope, "$.firstSeconds"), key="$.key"))
    for number in (2, 3):
        parallel.branch(semaphore.guard(scope, f"Branch{number}", wait(scope, f"Work {number}"), key="$.key"))
    return parallel


def work_that_may_fail(scope: Construct, seconds: str = "$.seconds") -> sfn.IChainable:
    work = sfn.Wait(scope, "Work", time=sfn.WaitTime.seconds_path(seconds))
    failed = sfn.Fail(scope, "Break", error="Broken")
    fails = sfn.Condition.boolean_equals("$.fails", True)
    return work.next(sfn.Choice(scope, "Does it fail?").when(fails, failed).otherwise(sfn.Pass(scope, "Done")))


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with deployed(embedded_aws, make_stack, tmp_path_factory.mktemp("nested")) as account:
        yield account


def test_a_guard_in_a_guard_takes_a_permit_of_each(account: Account, key: str) -> None:
    executions = account.start_many(6, "Nested", key)
    account.all_ended(executions)
    assert peak([account.history(one) for one in executions]) == FEW
    account.everything_given_back(key)
    account.of("Other").everything_given_back(key)


def test_who_is_aborted_in_both_gives_back_both(account: Account, key: str) -> None:
    executions = account.start_many(FEW + 1, "Nested", key, seconds=LONG)
    account.wait_for(key, inUse=FEW, waiting=1)
    account.of("Other").wait_for(key, inUse=FEW)
    account.stop(executions)
    account.everything_given_back(key)
    account.of("Other").everything_given_back(key)


def test_two_guards_of_one_semaphore_one_after_the_other(account: Account, key: str) -> None:
    executions = account.start_many(6, "Twice", key)
    account.all_ended(executions)
    histories = [account.history(one) for one in executions]
    assert peak(histories) == FEW
    assert {len(entered(events)) for events in histories} == {6}
    account.everything_given_back(key)


def test_branches_take_a_permit_each(account: Account, key: str) -> None:
    executions = account.start_many(3, "Branches", key, firstSeconds=SHORT, fails=False)
    account.all_ended(executions)
    assert peak([account.history(one) for one in executions]) == FEW
    account.everything_given_back(key)


def test_branches_that_are_stopped_as_one_fails_give_back_and_leave_the_line(account: Account, key: str) -> None:
    # Two of the three have permits, in no order. The others work until after the first has failed.
    execution = account.start("Branches", key, firstSeconds=100, seconds=200, fails=True)
    following = account.start_many(3, "Branches", key, firstSeconds=SHORT, fails=False)
    ended = account.ended(execution)
    # Without a cause in the Fail state; the error is not lost over it.
    assert (ended["status"], ended["error"]) == ("FAILED", "Broken")
    account.all_ended(following)
    assert peak([account.history(one) for one in [execution, *following]]) <= FEW
    account.everything_given_back(key)


def test_a_branch_that_was_stopped_keeps_its_permit_until_the_execution_ends(account: Account, key: str) -> None:
    account.ask("set-limit", key=key, limit=3)
    execution = account.start("Caught", key, firstSeconds=100, seconds=LONG, fails=True, afterwards=LONG)
    account.wait_for(key, inUse=3)
    account.wait_for(key, inUse=2)
    account.sweep_old(key)
    account.wait_for(key, inUse=2)
    account.stop([execution])
    account.everything_given_back(key)


def test_the_sweeper_finds_what_a_stopped_branch_of_an_execution_that_succeeded_kept(
    account: Account, key: str
) -> None:
    account.ask("set-limit", key=key, limit=3)
    execution = account.start("Caught", key, firstSeconds=100, seconds=LONG, fails=True, afterwards=SHORT)
    account.all_ended([execution])
    account.wait_for(key, inUse=2)
    account.sweep_old(key)
    account.everything_given_back(key)


def items(*seconds: int, failing: int | None = None) -> list[dict[str, object]]:
    return [{"seconds": each, "fails": number == failing} for number, each in enumerate(seconds)]


def test_items_take_a_permit_each(account: Account, key: str) -> None:
    executions = account.start_many(2, "Items", key, items=items(*[SHORT] * 4))
    account.all_ended(executions)
    assert peak([account.history(one) for one in executions]) == FEW
    account.everything_given_back(key)


def test_items_that_are_stopped_as_one_fails_give_back_and_leave_the_line(account: Account, key: str) -> None:
    execution = account.start("Items", key, items=items(100, 200, 200, 200, failing=0))
    following = account.start("Items", key, items=items(SHORT, SHORT, SHORT))
    ended = account.ended(execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "Broken")
    account.all_ended([following])
    assert peak([account.history(one) for one in (execution, following)]) <= FEW
    account.everything_given_back(key)

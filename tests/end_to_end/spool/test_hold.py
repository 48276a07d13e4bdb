"""While the neighbour is down: new work is held, or goes to the spool. When it is back, each order is done once."""

from tests.end_to_end.spool.account import FAILURES, Account, Spool, some_orders
from tests.end_to_end.test_definition_on_embedded_aws import eventually


def start(account: Account, group: str, orders: list[str]) -> list[str]:
    return [account.start("Guarded", {"group": group, "order": order}) for order in orders]


# --- new work waits ------------------------------------------------------------------------------------------


def test_while_an_operator_holds_it_new_work_waits_before_the_costly_step(
    account: Account, spool: Spool, group: str
) -> None:
    account.run("Guarded", group, "first")
    account.gate("Gate", "pause")
    orders = some_orders(4)
    executions = start(account, group, orders)
    account.wait_for_gate("Gate", inUse=0, waiting=4, paused=True)
    # What comes before it is done, and what waits is no failure.
    eventually(lambda: len(account.done(group, "prepare")) == 5, "the first step of all")
    assert account.done(group) == ["first"]
    assert {account.describe(execution)["status"] for execution in executions} == {"RUNNING"}
    account.gate("Gate", "resume")
    account.assert_each_delivered_once(group, ["first", *orders])
    account.wait_for_gate("Gate", inUse=0, waiting=0, paused=False)
    spool.assert_empty()


def test_the_breaker_opens_probes_and_lets_everything_drain(account: Account, spool: Spool, group: str) -> None:
    before, held = some_orders(FAILURES), [f"held {number}" for number in range(4)]
    # A success in between starts the count anew.
    with account.down(group):
        account.run("Guarded", group, "too early")
    account.run("Guarded", group, "good")
    account.wait_for_breaker("closed")
    with account.down(group):
        account.run("Guarded", group, *before)
        spool.wait_for(1 + FAILURES)
        account.wait_for_breaker("open")
        account.wait_for_gate("Gate", paused=True)
        start(account, group, held)
        account.wait_for_gate("Gate", inUse=0, waiting=4)
        # One is let through, to see, and it fails.
        account.probe()
        spool.wait_for(2 + FAILURES)
        account.wait_for_breaker("open")
        account.wait_for_gate("Gate", inUse=0, paused=True)
        assert account.done(group) == ["good"]
    with account.until_called("Drain"):
        account.probe()
    # Both what was held and what had failed.
    account.assert_each_delivered_once(group, ["too early", "good", *before, *held])
    spool.assert_empty()
    account.wait_for_breaker("closed")
    account.wait_for_gate("Gate", inUse=0, waiting=0, paused=False, limit=3)


# --- new work goes straight to the spool ---------------------------------------------------------------------


def test_in_a_window_new_work_goes_straight_to_the_spool(account: Account, spool: Spool, group: str) -> None:
    orders = some_orders(FAILURES + 1)
    account.run("Guarded", group, "before")
    account.time_comes("cron(0 1 * * ? *)")
    executions = account.run("Guarded", group, *orders)
    assert {account.describe(execution)["error"] for execution in executions} == {"Semaphore.Paused"}
    failures = spool.wait_for(len(orders))
    assert [failure["input"]["order"] for failure in failures] == orders
    assert {(failure["failedState"], failure["caught"]) for failure in failures} == {("Acquire Neighbours", False)}
    account.wait_for_gate("Gate", inUse=0, waiting=0, paused=True, newWork="fail")
    # So many failures in a row, and not one of the neighbour.
    account.wait_for_breaker("closed")
    assert account.breaker()["failures"] == 0
    # To try it too early is no attempt, of which there are two.
    for _ in range(2):
        assert account.reprocess("Redriving", key=orders[0])["outcomes"] == {"redriven": 1}
        spool.wait_for(len(orders))
    assert account.done(group) == ["before"]

    account.time_comes("cron(0 4 * * ? *)")
    account.wait_for_gate("Gate", paused=False, newWork="wait")
    assert account.reprocess("Redriving", max="all")["outcomes"] == {"redriven": len(orders)}
    account.assert_each_delivered_once(group, ["before", *orders])
    # They have gone on where they were refused.
    assert sorted(account.done(group, "prepare")) == sorted(["before", *orders])
    account.wait_for_breaker("closed")
    spool.assert_empty()


# --- one order, one run at a time ----------------------------------------------------------------------------


def test_a_run_that_is_started_again_takes_turns_with_fresh_ones_of_the_same_order(
    account: Account, spool: Spool, group: str
) -> None:
    def fresh(order: str, name: str) -> None:
        account.start("Keyed", {"group": group, "order": order}, name=f"{name}-run")

    def working() -> list[str]:
        return account.done(group, "work")

    with account.down(group):
        account.run("Keyed", group, "same")
        spool.wait_for(1)
    with account.down(group, "busy"):
        fresh("same", "first")
        eventually(lambda: working() == ["same: first begins"], "the beginning of the work")
        assert account.reprocess("Quick")["outcomes"] == {"restarted": 1}
        account.wait_for_gate("Turns", key="same", inUse=1, waiting=1)
        fresh("same", "last")
        account.wait_for_gate("Turns", key="same", inUse=1, waiting=2)
        # Another order is not kept by these.
        fresh("other", "other")
        eventually(lambda: len(working()) > 1, "the work on another order")
        assert working() == ["same: first begins", "other: other begins"]
    eventually(lambda: len(working()) == 8, "the end of all work")
    assert [note for note in working() if note.startswith("same")] == [
        f"same: {run} {what}" for run in ("first", "again", "last") for what in ("begins", "ends")
    ]
    ended = [account.ended(one["executionArn"])["status"] for one in account.executions("Keyed", group)]
    assert ended == ["FAILED", *["SUCCEEDED"] * 4]
    spool.assert_empty()

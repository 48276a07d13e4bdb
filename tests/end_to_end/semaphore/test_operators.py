"""What operators do while others hold and wait."""

from tests.end_to_end.semaphore.account import LIMIT, LONG, SHORT, Account, kendall, overtaken, peak


def test_a_limit_lowered_below_what_is_held_lets_nobody_in_until_there_is_room(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    following = account.start_many(6, "Patient", key, seconds=SHORT)
    account.wait_for(key, waiting=6)
    assert account.ask("set-limit", key=key, limit=2)["keys"][key]["limit"] == 2
    account.stop(holders[:3])
    account.wait_for(key, inUse=2, waiting=6)
    account.stop(holders[3:])
    account.all_ended(following)
    assert peak([account.history(execution) for execution in following]) == 2
    account.everything_given_back(key)


def test_a_higher_limit_lets_in_who_waits(account: Account, key: str) -> None:
    executions = account.start_many(LIMIT + 3, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT, waiting=3)
    account.ask("set-limit", key=key, limit=LIMIT + 2)
    account.wait_for(key, inUse=LIMIT + 2, waiting=1)
    account.stop(executions)
    account.everything_given_back(key)


def test_a_burst_during_a_pause_waits_and_is_then_served_in_the_order_of_its_starts(account: Account, key: str) -> None:
    account.ask("pause", key=key)
    executions = account.start_many(30, "Patient", key)
    account.wait_for(key, inUse=0, waiting=30, paused=True)
    account.ask("resume", key=key)
    account.all_ended(executions)
    histories = [account.history(execution) for execution in executions]
    assert peak(histories) == LIMIT
    # Those who are let in together are told side by side: nobody overtakes more than them.
    assert overtaken(histories) < LIMIT
    assert kendall(histories) >= 0.9
    account.everything_given_back(key)

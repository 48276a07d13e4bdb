"""Many at once: no permit is lost, and few transactions are cancelled."""

from tests.end_to_end.semaphore.account import LIMIT, Account, peak

MANY = 64


def test_many_that_start_at_once_get_their_turn(account: Account, key: str) -> None:
    before = account.requests("dynamodb:TransactWriteItems")
    executions = account.start_at_once(MANY, "Patient", key, seconds=10)
    account.all_ended(executions)
    assert peak([account.history(execution) for execution in executions]) <= LIMIT
    account.everything_given_back(key)
    # Each gives back by a transaction that lets in the next; the first ones take at least one more.
    cancelled = account.requests("dynamodb:TransactWriteItems") - before - MANY - 1
    print(f"transactions cancelled per grant, at most: {cancelled / MANY:.2f}")
    assert cancelled / MANY <= 2


def test_keys_do_not_get_in_the_way_of_each_other(account: Account, key: str) -> None:
    keys = [f"{key} {number}" for number in range(MANY // (2 * LIMIT))]
    executions = {each: account.start_many(2 * LIMIT, "Patient", each, seconds=10) for each in keys}
    for each, of_key in executions.items():
        account.all_ended(of_key)
        assert peak([account.history(execution) for execution in of_key]) <= LIMIT
        account.everything_given_back(each)

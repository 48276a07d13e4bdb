"""A guarded execution where the permissions of the function are enforced. Those of state machines never are."""

from collections.abc import Iterator

import pytest

from embedded_aws import EmbeddedAws
from tests.end_to_end.semaphore.account import LIMIT, LONG, Account, deployed, entered, make_limited_stack


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with (
        EmbeddedAws(wait_scale=0.01, enforce_iam=True) as aws,
        deployed(aws, make_limited_stack, tmp_path_factory.mktemp("enforced")) as account,
    ):
        yield account


def test_the_function_may_do_all_that_it_does(account: Account, key: str) -> None:
    account.all_ended(account.start_many(LIMIT + 2, "Patient", key))
    account.all_ended([account.start("Broken", key)], "FAILED")
    account.everything_given_back(key)


def test_the_sweeper_may_ask_what_became_of_holders_and_waiters(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    waiter = account.start("Patient", key)
    account.wait_for(key, waiting=1)
    account.sweep_old(key)
    account.wait_for(key, inUse=LIMIT, waiting=1)
    account.stop(holders)
    account.all_ended([waiter])
    account.everything_given_back(key)


def test_who_skips_and_who_is_refused_are_told(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    skipping, refused = account.start("Skipping", key), account.start("Refused", key)
    account.all_ended([skipping])
    assert "Work" not in entered(account.history(skipping))
    assert account.ended(refused)["error"] == "Semaphore.Busy"
    account.stop(holders)
    account.everything_given_back(key)

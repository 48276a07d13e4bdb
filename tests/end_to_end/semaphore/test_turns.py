"""Permits in turn: as many as there are, for each key, by weight, and for those who do not wait."""

import json

from tests.end_to_end.semaphore.account import LIMIT, LONG, Account, entered, peak


def test_twenty_take_turns_at_five_permits(account: Account, key: str) -> None:
    executions = account.start_many(20, "Patient", key, seconds=100)
    account.all_ended(executions)
    histories = [account.history(execution) for execution in executions]
    assert {len(events) for events in histories} == {15}
    assert {tuple(entered(events)) for events in histories} == {("Acquire Quota", "Work", "Release Quota")}
    assert peak(histories) == LIMIT
    account.everything_given_back(key)


def test_the_input_is_kept_beside_the_permit(account: Account, key: str) -> None:
    output = json.loads(account.ended(account.start("Patient", key, day="monday"))["output"])
    assert (output["day"], output["key"], output["permits"]["Quota"]["granted"]) == ("monday", key, True)


def test_keys_do_not_wait_for_each_other(account: Account, key: str) -> None:
    busy = account.start_many(LIMIT + 1, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT, waiting=1)
    account.all_ended(account.start_many(LIMIT, "Patient", f"{key}, another"))
    account.wait_for(key, inUse=LIMIT, waiting=1)
    account.stop(busy)
    account.everything_given_back(key)


def test_a_heavy_one_takes_as_many_permits_as_it_weighs(account: Account, key: str) -> None:
    heavy = account.start("Heavy", key, weight=4, seconds=LONG)
    account.wait_for(key, inUse=4)
    following = [account.start("Heavy", key, weight=2)]
    # Until it stands in line: a lighter one that comes to the table before it fits.
    account.wait_for(key, inUse=4, waiting=1)
    following.append(account.start("Heavy", key, weight=1))
    account.wait_for(key, inUse=4, waiting=2)
    account.stop([heavy])
    account.all_ended(following)
    account.everything_given_back(key)


def test_more_weight_than_there_are_permits_is_refused(account: Account, key: str) -> None:
    ended = account.ended(account.start("Heavy", key, weight=LIMIT + 1))
    assert (ended["status"], ended["error"]) == ("FAILED", "Semaphore.WeightAboveLimit")
    account.everything_given_back(key)


# --- who does not wait ---------------------------------------------------------------------------------------


def test_who_skips_leaves_its_work_out_when_all_are_busy(account: Account, key: str) -> None:
    free = account.ended(account.start("Skipping", key))
    assert json.loads(free["output"])["permits"]["Quota"]["granted"] is True
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    skipped = account.start("Skipping", key, day="monday")
    ended = account.ended(skipped)
    output = json.loads(ended["output"])
    assert ended["status"] == "SUCCEEDED"
    assert (output["day"], output["permits"]["Quota"]) == ("monday", {"granted": False})
    assert "Work" not in entered(account.history(skipped))
    account.stop(holders)
    account.everything_given_back(key)


def test_who_must_not_wait_fails_when_all_are_busy(account: Account, key: str) -> None:
    account.all_ended([account.start("Refused", key)])
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    ended = account.ended(account.start("Refused", key))
    assert (ended["status"], ended["error"]) == ("FAILED", "Semaphore.Busy")
    account.stop(holders)
    account.everything_given_back(key)


def test_who_waited_too_long_fails_by_name_and_leaves_the_line(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    ended = account.ended(account.start("Impatient", key))
    assert (ended["status"], ended["error"]) == ("FAILED", "Semaphore.WaitTimeout")
    account.wait_for(key, inUse=LIMIT, waiting=0)
    account.stop(holders)
    account.everything_given_back(key)

"""Starts at a pace. In an account of its own, where a second of a Wait state is a second."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import aws_cdk as cdk
import pytest
from constructs import Construct

from embedded_aws import EmbeddedAws
from tests.end_to_end.semaphore.account import Account, Event, deployed, entered, make_machine, make_semaphore, wait

PER_SECOND = 10
BURST = 30
INTERVAL = timedelta(seconds=1 / PER_SECOND)


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Paced")
    semaphore = make_semaphore(stack, limit=BURST, max_starts_per_second=PER_SECOND)
    scope = Construct(stack, "Job")
    make_machine(scope, semaphore.guard(scope, "Quota", wait(scope), key="$.key"), semaphore)
    return stack


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with EmbeddedAws() as aws, deployed(aws, make_stack, tmp_path_factory.mktemp("paced")) as account:
        yield account


def start_of_work(events: Sequence[Event]) -> datetime:
    [entry] = [one for one in events if one.get("stateEnteredEventDetails", {}).get("name") == "Work"]
    found: datetime = entry["timestamp"]
    return found


def start_as_told(events: Sequence[Event]) -> datetime:
    told = next(one for one in events if one["type"] == "TaskSucceeded")
    return datetime.fromisoformat(json.loads(told["taskSucceededEventDetails"]["output"])["startAt"])


def test_a_burst_starts_at_the_pace(account: Account, key: str) -> None:
    # A function that is cold tells the first ones late.
    account.all_ended([account.start("Job", f"{key}, before", seconds=0)])

    executions = account.start_at_once(BURST, "Job", key, seconds=1)
    account.all_ended(executions)

    histories = [account.history(execution) for execution in executions]
    assert all(
        entered(events) == ["Acquire Quota", "Start Quota on time", "Work", "Release Quota"] for events in histories
    )
    told = sorted(start_as_told(events) for events in histories)
    gaps = [later - one for one, later in pairwise(told)]
    # It is told in milliseconds.
    assert min(gaps) >= INTERVAL - timedelta(milliseconds=1)
    delays = [start_of_work(events) - start_as_told(events) for events in histories]
    assert min(delays) >= timedelta(milliseconds=-1)
    # Who starts late, on a busy machine, does so beside others who start on time.
    late = sum(delay > INTERVAL for delay in delays)
    starts = sorted(start_of_work(events) for events in histories)
    busiest = max(sum(one <= other < one + timedelta(seconds=1) for other in starts) for one in starts)
    assert busiest <= PER_SECOND + 1 + late
    account.everything_given_back(key)

"""The table against the embedded DynamoDB: each outcome, and many callers at once."""

import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import uniform
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from embedded_aws import EmbeddedAws
from semaphore import protocol
from semaphore.protocol import (
    Commit,
    Committed,
    Counter,
    Defaults,
    Effect,
    Enqueue,
    Forget,
    Holder,
    Known,
    Line,
    Permit,
    ReadLine,
    ReleaseLater,
    SetCounter,
    SetDefaults,
    Settings,
    Tell,
    Told,
    Waiter,
    Withdraw,
)
from semaphore.table import ForeignPermitError, Table
from tests.lambda_src.semaphore.tables import semaphore_table, waiter

SETTINGS = Settings(limit=2)
NOW = 5000.0


@pytest.fixture(scope="module")
def client(embedded_aws: EmbeddedAws) -> Any:
    return embedded_aws.client("dynamodb")


@pytest.fixture
def table(client: Any) -> Iterator[Table]:
    with semaphore_table(client) as name:
        yield Table(client, name, clock=lambda: NOW)


def let_in(table: Table, *waiters: Waiter, released: Permit | None = None, settings: Settings = SETTINGS) -> Commit:
    """What the protocol would commit, from what it reads now."""
    line = table.read_line("key")
    return protocol._commit("key", line, settings, waiters, released=released)


def holding(table: Table, *waiters: Waiter) -> list[Holder]:
    for who in waiters:
        table.enqueue(who)
    commit = let_in(table, *waiters)
    assert table.commit(commit) is Committed.YES
    return list(commit.granted)


def test_a_line_is_read_in_order_of_the_executions_start(table: Table) -> None:
    for number in (3, 1, 2):
        table.enqueue(waiter(number))

    line = table.read_line("key")

    assert line.counter is None
    assert line.now == NOW
    assert list(line.waiting) == [waiter(1), waiter(2), waiter(3)]


def test_who_asks_twice_keeps_its_place_and_its_time(table: Table) -> None:
    table.enqueue(waiter(1))
    table.enqueue(replace(waiter(1), asked_at=9999.0))

    assert list(table.read_line("key").waiting) == [waiter(1)]


def test_withdrawing_twice_is_withdrawing_once(table: Table) -> None:
    table.enqueue(waiter(1))
    table.withdraw(waiter(1))
    table.withdraw(waiter(1))

    assert list(table.read_line("key").waiting) == []


def test_the_first_commit_makes_the_counter(table: Table) -> None:
    (holder,) = holding(table, waiter(1))

    snapshot = table.read_all("key")

    assert snapshot.line.counter == Counter(limit=2, free=1, declared=2, used_at=NOW)
    assert list(snapshot.held) == [holder]
    assert list(snapshot.line.waiting) == []


def test_a_permit_goes_from_one_to_the_next_in_one_commit(table: Table) -> None:
    first, _second = holding(table, waiter(1), waiter(2))
    table.enqueue(waiter(3))

    assert table.commit(let_in(table, waiter(3), released=first.permit)) is Committed.YES

    snapshot = table.read_all("key")
    assert [holder.waiter for holder in snapshot.held] == [waiter(2), waiter(3)]
    assert snapshot.line.counter == Counter(limit=2, free=0, declared=2, used_at=NOW)


def test_what_is_not_held_cannot_be_given_back(table: Table) -> None:
    (holder,) = holding(table, waiter(1))
    back = let_in(table, released=holder.permit)
    assert table.commit(back) is Committed.YES
    assert table.commit(back) is Committed.NOT_HELD
    assert table.read_line("key").counter == Counter(limit=2, free=2, declared=2, used_at=NOW)


def test_what_is_given_back_to_an_unknown_key_makes_no_counter(table: Table) -> None:
    assert table.commit(let_in(table, released=waiter(1).permit)) is Committed.NOT_HELD
    assert table.read_line("key").counter is None


def test_a_permit_with_another_weight_is_refused(table: Table) -> None:
    (holder,) = holding(table, waiter(1))

    with pytest.raises(ForeignPermitError, match="it has another weight"):
        table.commit(let_in(table, released=replace(holder.permit, weight=2)))

    assert len(table.read_all("key").held) == 1


def test_who_has_a_permit_already_is_named(table: Table) -> None:
    holding(table, waiter(1))
    table.enqueue(waiter(1))
    table.enqueue(waiter(2))

    assert table.commit(let_in(table, waiter(1), waiter(2))) == Known([waiter(1)])
    assert list(table.read_line("key").waiting) == [waiter(1), waiter(2)]


def left_the_line(table: Table) -> None:
    table.withdraw(waiter(2))


def configured(table: Table, **changes: Any) -> None:
    line = table.read_line("key")
    assert line.counter is not None
    assert table.set_counter(SetCounter(key="key", line=line, counter=replace(line.counter, **changes)))


def lower_limit(table: Table) -> None:
    configured(table, limit=1, free=0)


def paused(table: Table) -> None:
    configured(table, paused=True)


def one_more_is_free(table: Table) -> None:
    table.commit(let_in(table, released=waiter(1).permit))


def the_start_is_taken(table: Table) -> None:
    table.enqueue(waiter(9))
    paced = replace(SETTINGS, starts_per_second=0.5)
    assert table.commit(let_in(table, waiter(9), settings=paced)) is Committed.YES
    table.commit(let_in(table, released=waiter(9).permit))


@pytest.mark.parametrize("happens", [left_the_line, lower_limit, paused, one_more_is_free, the_start_is_taken])
def test_a_commit_does_not_hold_once_something_has_changed(table: Table, happens: Callable[[Table], None]) -> None:
    holding(table, waiter(1))
    table.enqueue(waiter(2))
    commit = let_in(table, waiter(2))
    happens(table)
    before = table.read_all("key")

    assert table.commit(commit) is Committed.CHANGED

    assert table.read_all("key") == before


def test_of_two_who_make_the_counter_one_looks_again(table: Table) -> None:
    table.enqueue(waiter(1))
    table.enqueue(waiter(2))
    commit = let_in(table, waiter(2))
    holding(table, waiter(1))

    assert table.commit(commit) is Committed.CHANGED


def test_a_counter_is_not_made_from_defaults_that_have_changed(table: Table) -> None:
    table.enqueue(waiter(1))
    commit = let_in(table, waiter(1))
    table.set_defaults(SetDefaults(limit=None, declared=2, paused=True))

    assert table.commit(commit) is Committed.CHANGED
    assert table.read_line("key").defaults == Defaults(version=1, paused=True)

    table.set_defaults(SetDefaults(limit=7, declared=2, paused=False))
    assert table.read_line("key").defaults == Defaults(version=2, limit=7, declared=2)
    assert table.commit(let_in(table, waiter(1))) is Committed.YES
    counter = table.read_line("key").counter
    assert counter is not None
    assert (counter.limit, counter.free, counter.declared) == (7, 6, 2)


def test_a_limit_moves_what_is_free_whatever_it_is(table: Table) -> None:
    holding(table, waiter(1), waiter(2))
    line = table.read_line("key")
    assert line.counter is not None
    lower = SetCounter(key="key", line=line, counter=replace(line.counter, limit=1, free=-1))
    table.commit(let_in(table, released=waiter(1).permit))

    assert table.set_counter(lower)
    assert not table.set_counter(lower)

    assert table.read_line("key").counter == Counter(limit=1, free=0, declared=2, used_at=NOW)


def test_a_counter_may_be_set_before_it_is_used(table: Table) -> None:
    line = table.read_line("key")
    wanted = SetCounter(key="key", line=line, counter=Counter(limit=4, free=4, declared=2, paused=True))

    assert table.set_counter(wanted)
    assert not table.set_counter(wanted)
    assert table.read_line("key").counter == wanted.counter


def test_a_counter_of_an_earlier_version_can_be_set(table: Table, client: Any) -> None:
    """It does not say whether it refuses."""
    holding(table, waiter(1))
    key = {"key": {"S": "key"}, "item": {"S": "0"}}
    client.update_item(TableName=table._name, Key=key, UpdateExpression="REMOVE refuses")
    line = table.read_line("key")
    assert line.counter is not None
    wanted = replace(line.counter, paused=True, refuses=True)

    assert table.set_counter(SetCounter(key="key", line=line, counter=wanted))
    assert not table.set_counter(SetCounter(key="key", line=line, counter=line.counter))
    assert table.read_line("key").counter == wanted


def test_a_counter_whose_refusals_have_changed_is_not_set(table: Table) -> None:
    holding(table, waiter(1))
    line = table.read_line("key")
    assert line.counter is not None
    pause = SetCounter(key="key", line=line, counter=replace(line.counter, paused=True))
    assert table.set_counter(pause)
    line = table.read_line("key")
    refusing = SetCounter(key="key", line=line, counter=replace(pause.counter, refuses=True))
    assert table.set_counter(refusing)

    assert not table.set_counter(SetCounter(key="key", line=line, counter=replace(pause.counter, limit=9)))
    assert table.read_line("key").counter == refusing.counter


def test_a_counter_in_use_is_not_forgotten(table: Table) -> None:
    holding(table, waiter(1))
    counter = table.read_line("key").counter
    assert counter is not None
    table.forget(Forget("key", counter, None))
    assert table.read_line("key").counter == counter

    table.commit(let_in(table, released=waiter(1).permit))
    counter = table.read_line("key").counter
    assert counter is not None
    table.forget(Forget("key", counter, Defaults(version=3)))
    assert table.read_line("key").counter == counter
    table.forget(Forget("key", counter, None))
    assert table.read_line("key").counter is None


def test_what_is_noted_of_a_holder_stays_with_that_holder(table: Table) -> None:
    (holder,) = holding(table, waiter(1))
    other = replace(holder, granted_at=1.0)

    table.mark_told(other)
    table.release_later(ReleaseLater(other, 1.0))
    assert list(table.read_all("key").held) == [holder]

    table.mark_told(holder)
    table.release_later(ReleaseLater(holder, 6000.5))
    table.release_later(ReleaseLater(holder, 7000.0))
    assert list(table.read_all("key").held) == [replace(holder, told=True, release_at=6000.5)]


def test_an_execution_is_found_in_the_line_and_inside(table: Table) -> None:
    (holder,) = holding(table, waiter(1))
    again = replace(waiter(2), execution=waiter(1).execution, permit=Permit(key="another", id="x", weight=2))
    table.enqueue(again)
    table.enqueue(waiter(3))

    found = table.find_by_execution(waiter(1).execution)

    assert (list(found.waiting), list(found.held), found.now) == ([again], [holder], NOW)


def test_usage_counts_every_key(table: Table) -> None:
    holding(table, waiter(1), replace(waiter(2), permit=replace(waiter(2).permit, weight=1)))
    table.enqueue(waiter(4))
    table.enqueue(waiter(3))
    table.enqueue(waiter(5, key="*"))
    table.set_defaults(SetDefaults(limit=3, declared=2, paused=None))

    usage = table.usage()

    assert set(usage) == {"key", "*"}
    assert (usage["key"].in_use, usage["key"].waiting, usage["key"].oldest) == (2, 2, waiter(3).asked_at)
    assert usage["*"].counter is None
    assert usage["*"].waiting == 1


@pytest.mark.parametrize(("code", "outcome"), [("TransactionConflict", Committed.CHANGED), ("ThrottlingError", None)])
def test_a_transaction_that_meets_another_looks_again(code: str, outcome: Committed | None) -> None:
    client = boto3.client("dynamodb", "eu-central-1", aws_access_key_id="none", aws_secret_access_key="none")
    line = Line(counter=Counter(limit=2, free=2, declared=2), defaults=None, waiting=[waiter(1)], now=NOW)
    commit = protocol._commit("key", line, SETTINGS, [waiter(1)])
    reasons = [{"Code": "None"}, {"Code": "None"}, {"Code": code}]
    with Stubber(client) as stub:
        stub.add_client_error(
            "transact_write_items", "TransactionCanceledException", modeled_fields={"CancellationReasons": reasons}
        )
        if outcome:
            assert Table(client, "table").commit(commit) is outcome
        else:
            with pytest.raises(client.exceptions.TransactionCanceledException):
                Table(client, "table").commit(commit)


# --- many at once -----------------------------------------------------------------------------------------------------


class Crowd:
    """Callers in threads that run the protocol against the table. Being told is an event of their own."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.tally: Tally[str] = Tally()
        self.inside = 0
        self.peak = 0
        self.told: dict[str, threading.Event] = {}
        self.lock = threading.Lock()

    def visit(self, who: Waiter, settings: Settings) -> None:
        self.told[who.token] = threading.Event()
        self.run(protocol.acquire(who, settings))
        assert self.told[who.token].wait(60), f"{who.token} was never told"
        time.sleep(0.002)
        with self.lock:
            self.inside -= 1
        self.run(protocol.release(who.permit, settings))

    def run(self, operation: Generator[Effect, Any, Any]) -> None:
        try:
            effect = next(operation)
            while True:
                effect = operation.send(self._perform(effect))
        except StopIteration:
            pass

    def _perform(self, effect: Effect) -> object:
        with self.lock:
            self.tally[type(effect).__name__] += 1
        match effect:
            case Enqueue(who):
                self.table.enqueue(who)
            case ReadLine(key):
                return self.table.read_line(key)
            case Withdraw(who):
                self.table.withdraw(who)
            case Commit():
                outcome = self.table.commit(effect)
                if outcome is not Committed.YES:
                    with self.lock:
                        self.tally["cancelled"] += 1
                    time.sleep(uniform(0, 0.02))
                return outcome
            case Tell(holders):
                for holder in holders:
                    with self.lock:
                        self.inside += 1
                        self.peak = max(self.peak, self.inside)
                    self.told[holder.waiter.token].set()
                return [Told.YES] * len(holders)
            case _:
                raise AssertionError(effect)
        return None

    @property
    def database_calls(self) -> int:
        return sum(self.tally[name] for name in ("Enqueue", "ReadLine", "Withdraw", "Commit"))


def test_64_callers_of_one_key_lose_no_permit(table: Table, record_property: Callable[[str, object], None]) -> None:
    settings = Settings(limit=5)
    crowd = Crowd(table)
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda number: crowd.visit(waiter(number), settings), range(64)))

    usage = table.usage()["key"]
    assert (usage.in_use, usage.waiting) == (0, 0)
    assert usage.counter is not None
    assert usage.counter.free == 5
    assert crowd.peak <= 5
    cancelled, calls = crowd.tally["cancelled"] / 64, crowd.database_calls / 64
    record_property("cancelled transactions per grant", cancelled)
    record_property("database calls per item", calls)
    print(f"64 callers, limit 5: {cancelled:.2f} cancelled transactions per grant, {calls:.1f} database calls per item")


def test_many_keys_do_not_interfere(table: Table) -> None:
    settings = Settings(limit=1)
    crowd = Crowd(table)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: crowd.visit(waiter(number, key=f"key-{number}"), settings), range(64)))

    assert crowd.tally["cancelled"] == 0
    assert all(usage.counter and usage.counter.free == 1 for usage in table.usage().values())

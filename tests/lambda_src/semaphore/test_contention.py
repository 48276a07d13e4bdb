"""Many calls of the function at once, as threads, on a real table: no permit is lost, and how many transactions are
cancelled. Prints the figures; see them with

    pytest -rP tests/lambda_src/semaphore/test_contention.py
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config

from embedded_aws import EmbeddedAws
from semaphore import protocol, step_functions
from semaphore.handler import Edge
from semaphore.protocol import Commit, Committed, Holder, Known, Settings, Told, Waiter
from semaphore.table import Table
from tests.lambda_src.semaphore.tables import semaphore_table, waiter

MANY = 64
SETTINGS = Settings(limit=5)


class CountingTable(Table):
    """Counts what comes of transactions."""

    def __init__(self, client: Any, name: str) -> None:
        super().__init__(client, name)
        self.outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def commit(self, commit: Commit) -> Committed | Known:
        outcome = super().commit(commit)
        with self._lock:
            self.outcomes["committed" if outcome is Committed.YES else "cancelled"] += 1
        return outcome


class Crowd:
    """Executions that ask at once, work for no time, and give back. All calls of the function run side by side."""

    def __init__(self, table: CountingTable) -> None:
        self.table = table
        self.told: dict[str, threading.Event] = {}
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._lock = threading.Lock()

    def tell(self, holders: Sequence[Holder]) -> list[Told]:
        for holder in holders:
            key = holder.permit.key
            with self._lock:
                self.inside[key] += 1
                self.most[key] = max(self.most[key], self.inside[key])
            self.told[holder.permit.id].set()
        return [Told.YES] * len(holders)

    def all_have_their_turn(self, waiters: Sequence[Waiter]) -> None:
        self.told = {one.permit.id: threading.Event() for one in waiters}
        together = threading.Barrier(len(waiters))

        def visit(one: Waiter) -> None:
            together.wait()
            Edge(self.table).run(protocol.acquire(one, SETTINGS))
            assert self.told[one.permit.id].wait(60), f"{one.permit.id} was never told"
            with self._lock:
                self.inside[one.permit.key] -= 1
            Edge(self.table).run(protocol.release(one.permit, SETTINGS))

        with ThreadPoolExecutor(max_workers=len(waiters)) as pool:
            list(pool.map(visit, waiters))


@pytest.fixture
def crowd(embedded_aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    session = boto3.Session("test", "test", region_name=embedded_aws.region)
    config = Config(proxies={}, max_pool_connections=MANY, retries={"mode": "standard", "total_max_attempts": 5})
    client = session.client("dynamodb", endpoint_url=embedded_aws.endpoint, config=config)
    with semaphore_table(client) as name:
        crowd = Crowd(CountingTable(client, name))
        monkeypatch.setattr(step_functions, "tell", crowd.tell)
        yield crowd


def cancelled_per_grant(crowd: Crowd, where: str) -> float:
    found = crowd.table.outcomes["cancelled"] / MANY
    print(f"transactions cancelled per grant, {MANY} at once {where}: {found:.2f} ({dict(crowd.table.outcomes)})")
    return found


def test_many_calls_at_once_on_one_key_lose_no_permit(crowd: Crowd) -> None:
    crowd.all_have_their_turn([waiter(number) for number in range(MANY)])

    assert crowd.most["key"] <= SETTINGS.limit
    usage = crowd.table.usage()["key"]
    assert (usage.in_use, usage.waiting) == (0, 0)
    assert usage.counter is not None
    assert usage.counter.free == SETTINGS.limit
    assert cancelled_per_grant(crowd, "on one key") <= 2


def test_many_calls_at_once_on_keys_of_their_own_are_in_nobodys_way(crowd: Crowd) -> None:
    crowd.all_have_their_turn([waiter(number, key=f"key {number % 16}") for number in range(MANY)])

    assert set(crowd.most.values()) <= set(range(1, SETTINGS.limit + 1))
    assert {(one.in_use, one.waiting) for one in crowd.table.usage().values()} == {(0, 0)}
    assert cancelled_per_grant(crowd, "on 16 keys") <= 1

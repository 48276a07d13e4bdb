"""The semaphore's table in memory: the conditions of lambda_src/semaphore/table.py without DynamoDB.

The tests of the protocol run on it for millions of steps, and so does the simulation of a pipeline: a wrong condition
here would be found there.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from semaphore import protocol
from semaphore.protocol import (
    Commit,
    Committed,
    Counter,
    Defaults,
    Effect,
    Enqueue,
    FindByExecution,
    Forget,
    Found,
    Holder,
    Known,
    Line,
    ListKeys,
    MarkTold,
    Permit,
    ReadAll,
    ReadLine,
    ReleaseLater,
    SetCounter,
    SetDefaults,
    Snapshot,
    Waiter,
    Withdraw,
)


class RefusedError(Exception):
    """What is given back is not what is held; the operation ends there."""


class Waiting:
    """Who stands in one line. Finds the first of many thousands at once."""

    def __init__(self) -> None:
        self._by_id: dict[str, Waiter] = {}
        self._order: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, permit_id: str) -> bool:
        return permit_id in self._by_id

    def __iter__(self) -> Iterator[Waiter]:
        """First come first."""
        return (self._by_id[permit_id] for _, permit_id in self._order)

    def first(self, most: int) -> list[Waiter]:
        return [self._by_id[permit_id] for _, permit_id in self._order[:most]]

    def add(self, waiter: Waiter) -> None:
        if waiter.permit.id not in self._by_id:
            self._by_id[waiter.permit.id] = waiter
            insort(self._order, (waiter.order, waiter.permit.id))

    def remove(self, permit: Permit) -> None:
        waiter = self._by_id.pop(permit.id, None)
        if waiter is not None:
            del self._order[bisect_left(self._order, (waiter.order, permit.id))]


class NotOfTableError(Exception):
    """The effect is none of the table."""


class MemoryTable:
    """Who holds, who waits, and how much is free, by key. Every effect is carried out at once and as a whole."""

    def __init__(self) -> None:
        self.counters: dict[str, Counter] = {}
        self.lines: defaultdict[str, Waiting] = defaultdict(Waiting)
        self.holders: defaultdict[str, dict[str, Holder]] = defaultdict(dict)
        self.defaults: Defaults | None = None

    def perform(self, effect: Effect, now: float) -> Any:
        """Carries out an effect, and returns the reply to it.

        Raises:
            RefusedError: what is given back has another weight than what is held.
            NotOfTableError: it is for Step Functions.
        """
        match effect:
            case ReadLine(key):
                return self.line(key, now)
            case Commit():
                return self.commit(effect)
            case Enqueue(waiter):
                self.lines[waiter.permit.key].add(waiter)
            case Withdraw(waiter):
                self.lines[waiter.permit.key].remove(waiter.permit)
            case ReleaseLater(holder, at):
                if self._is_same(holder) and self._stored(holder).release_at is None:
                    self._store(replace(self._stored(holder), release_at=at))
            case MarkTold(holder):
                if self._is_same(holder):
                    self._store(replace(self._stored(holder), told=True))
            case FindByExecution(execution):
                return self._find(execution, now)
            case ReadAll(key):
                return Snapshot(replace(self.line(key, now), defaults=self.defaults), list(self.holders[key].values()))
            case SetCounter():
                return self._set_counter(effect)
            case Forget(key, seen, defaults):
                # Nothing is held of it.
                if self.counters.get(key) == seen and seen.free == seen.limit and defaults == self.defaults:
                    del self.counters[key]
            case SetDefaults(limit=limit, declared=declared, paused=paused, refuses=refuses):
                old = self.defaults or Defaults(version=0)
                if limit is not None:
                    old = replace(old, limit=limit, declared=declared)
                if paused is not None:
                    old = replace(old, paused=paused, refuses=refuses)
                self.defaults = replace(old, version=old.version + 1)
            case ListKeys():
                return sorted({*self.counters, *(key for key, line in self.lines.items() if line)})
            case _:
                raise NotOfTableError(effect)
        return None

    def line(self, key: str, now: float) -> Line:
        counter = self.counters.get(key)
        return Line(
            counter=counter,
            defaults=None if counter else self.defaults,
            waiting=self.lines[key].first(protocol.MOST_GRANTS + 1),
            now=now,
        )

    def commit(self, commit: Commit) -> Committed | Known:
        line, held, granted = self.lines[commit.key], self.holders[commit.key], commit.granted
        if commit.released:
            holder = held.get(commit.released.id)
            if holder is None:
                return Committed.NOT_HELD
            if holder.permit != commit.released:
                raise RefusedError(commit.released)
        # Who holds and no longer waits was let in a moment ago by somebody else. Who holds and waits asked twice.
        known = [
            each.waiter
            for each in granted
            if each.permit.id in held and (not commit.from_line or each.permit.id in line)
        ]
        if known:
            return Known(known)
        if not self.holds(commit):
            return Committed.CHANGED
        if commit.from_line and any(each.permit.id not in line for each in granted):
            return Committed.CHANGED
        self._apply(commit, line, held)
        return Committed.YES

    def holds(self, commit: Commit) -> bool:
        """The conditions of the transaction on the counter."""
        counter, seen = self.counters.get(commit.key), commit.seen
        if commit.line.counter is None:
            return counter is None and commit.line.defaults == self.defaults
        if counter is None:
            return False
        return not commit.granted or (
            counter.limit == seen.limit
            and counter.free == seen.free
            and counter.next_start == seen.next_start
            and not counter.paused
        )

    def _apply(self, commit: Commit, line: Waiting, held: dict[str, Holder]) -> None:
        if commit.released:
            del held[commit.released.id]
        for holder in commit.granted:
            held[holder.permit.id] = holder
            if commit.from_line:
                line.remove(holder.permit)
        old = self.counters.get(commit.key) or commit.seen
        self.counters[commit.key] = replace(
            old,
            free=old.free + commit.change,
            next_start=commit.next_start if commit.granted else old.next_start,
            used_at=commit.line.now,
        )

    def _set_counter(self, effect: SetCounter) -> bool:
        seen, counter, wanted = effect.line.counter, self.counters.get(effect.key), effect.counter
        if seen is None:
            if counter is not None or effect.line.defaults != self.defaults:
                return False
            self.counters[effect.key] = wanted
            return True
        if counter is None or (counter.limit, counter.declared, counter.paused, counter.refuses) != (
            seen.limit,
            seen.declared,
            seen.paused,
            seen.refuses,
        ):
            return False
        self.counters[effect.key] = replace(
            counter,
            limit=wanted.limit,
            declared=wanted.declared,
            paused=wanted.paused,
            refuses=wanted.refuses,
            free=counter.free + wanted.limit - seen.limit,
        )
        return True

    def _find(self, execution: str, now: float) -> Found:
        return Found(
            waiting=[waiter for line in self.lines.values() for waiter in line if waiter.execution == execution],
            held=[
                holder
                for held in self.holders.values()
                for holder in held.values()
                if holder.waiter.execution == execution
            ],
            now=now,
        )

    def _stored(self, holder: Holder) -> Holder:
        return self.holders[holder.permit.key][holder.permit.id]

    def _store(self, holder: Holder) -> None:
        self.holders[holder.permit.key][holder.permit.id] = holder

    def _is_same(self, holder: Holder) -> bool:
        """Whether it is still the one that was read: the same id may be let in again if it asked twice."""
        held = self.holders[holder.permit.key].get(holder.permit.id)
        return held is not None and held.granted_at == holder.granted_at

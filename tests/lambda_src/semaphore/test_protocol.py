"""The protocol in a world where everything goes wrong, and broken protocols that this world must find out."""

import os
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from benchmarks.memory_table import MemoryTable
from semaphore import protocol
from semaphore.protocol import (
    Commit,
    Committed,
    Counter,
    EndOf,
    Enqueue,
    FindByExecution,
    Found,
    Holder,
    Line,
    Operation,
    Permit,
    ReadLine,
    Repair,
    Settings,
    Tell,
    Told,
    Waiter,
    Withdraw,
)
from tests.lambda_src.semaphore.soak import soak
from tests.lambda_src.semaphore.world import (
    KEYS,
    ViolationError,
    Visit,
    World,
    hold,
    run,
    run_without_deaths,
)

STEPS = 20_000
LIMITS = st.sampled_from((1, 2, 3, 5))
NUMBERS = st.integers(0, 2**16)


@pytest.fixture(autouse=True)
def small_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few are let in at once, so that lines are longer than what one transaction serves."""
    monkeypatch.setattr(protocol, "MOST_GRANTS", 2)


class Turmoil(RuleBasedStateMachine):
    """Hypothesis decides what happens, and finds the shortest story that breaks a promise."""

    steps = 0

    @initialize(
        seed=NUMBERS,
        limit=LIMITS,
        rate=st.sampled_from((None, 2.0)),
        grace=st.sampled_from((0, 4)),
        patience=st.sampled_from((1, 4)),
    )
    def begin(self, seed: int, limit: int, rate: float | None, grace: float, patience: float) -> None:
        settings = Settings(limit=limit, starts_per_second=rate, grace=grace, patience=patience)
        self.world = World(Random(seed), settings)

    @rule(
        key=st.sampled_from("aaab"), weight=st.sampled_from((1, 1, 2, 3)), waits=st.booleans(), many=st.integers(1, 4)
    )
    def arrive(self, key: str, weight: int, waits: bool, many: int) -> None:
        for _ in range(many):
            self.world.arrive(key, weight, waits=waits)

    @precondition(lambda self: self.world.calls)
    @rule(picks=st.lists(NUMBERS, min_size=1, max_size=25))
    def go_on(self, picks: list[int]) -> None:
        for pick in picks:
            if self.world.calls:
                self.world.advance(self.world.calls[pick % len(self.world.calls)])

    @precondition(lambda self: self.world.calls)
    @rule(pick=NUMBERS, after_effect=st.booleans())
    def die(self, pick: int, after_effect: bool) -> None:
        self.world.kill(self.world.calls[pick % len(self.world.calls)], after_effect=after_effect)

    @precondition(lambda self: self._going(lambda visit: visit.inside is not None))
    @rule(pick=NUMBERS)
    def leave(self, pick: int) -> None:
        inside = self._going(lambda visit: visit.inside is not None)
        self.world.leave(inside[pick % len(inside)])

    @precondition(lambda self: self.world.visits)
    @rule(pick=NUMBERS)
    def ask_again(self, pick: int) -> None:
        visits = list(self.world.visits.values())
        self.world.ask_again(visits[pick % len(visits)])

    @precondition(lambda self: self._going(lambda visit: not visit.done))
    @rule(pick=NUMBERS, event=st.booleans())
    def end(self, pick: int, event: bool) -> None:
        going = self._going(lambda visit: not visit.done)
        self.world.end(going[pick % len(going)], event=event)

    @precondition(lambda self: self._going(lambda visit: bool(visit.token)))
    @rule(pick=NUMBERS)
    def give_up(self, pick: int) -> None:
        waiting = self._going(lambda visit: bool(visit.token))
        self.world.give_up(waiting[pick % len(waiting)])

    @rule(key=st.sampled_from(KEYS))
    def sweep(self, key: str) -> None:
        self.world.sweep(key)

    @rule(key=st.sampled_from((*KEYS, None)), limit=LIMITS)
    def set_limit(self, key: str | None, limit: int) -> None:
        self.world.configure(key, limit=limit)

    @rule(key=st.sampled_from((*KEYS, None)), paused=st.booleans(), refuses=st.booleans())
    def pause_or_resume(self, key: str | None, paused: bool, refuses: bool) -> None:
        self.world.configure(key, paused=paused, refuses=paused and refuses)

    @rule(limit=st.sampled_from((2, 3, 5)))
    def deploy(self, limit: int) -> None:
        self.world.deploy(limit)

    @rule(seconds=st.sampled_from((0.01, 0.3, 3.0)))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @invariant()
    def everything_holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()
            Turmoil.steps += self.world.steps

    def _going(self, wanted: Callable[[Visit], bool]) -> list[Visit]:
        return [visit for visit in self.world.visits.values() if visit.running and wanted(visit)]


def test_nothing_that_happens_breaks_a_promise() -> None:
    Turmoil.steps = 0
    run_state_machine_as_test(
        Turmoil,
        settings=hypothesis_settings(
            max_examples=300,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Turmoil.steps >= STEPS


def test_many_worlds_at_random() -> None:
    """More of it than hypothesis has time for; SOAK_STEPS makes it longer."""
    steps = int(os.environ.get("SOAK_STEPS", "100000"))
    assert soak(steps, seed=int(os.environ.get("SOAK_SEED", "0"))) >= steps


# --- broken protocols -----------------------------------------------------------------------------------------------


def tells_before_it_commits(key: str, settings: Settings, *, caller: Waiter | None = None) -> Operation:
    line: Line = yield ReadLine(key)
    chosen = protocol._next(line, settings)
    if chosen:
        plan = protocol._commit(key, line, settings, chosen)
        yield Tell(plan.granted)
        yield plan


def releases_without_a_second_look(permit: Permit, settings: Settings) -> Operation:
    outcome: object = None
    while outcome not in (Committed.YES, Committed.NOT_HELD):
        line: Line = yield ReadLine(permit.key)
        chosen = [waiter for waiter in protocol._next(line, settings, freed=permit.weight) if waiter.permit != permit]
        plan = protocol._commit(permit.key, line, settings, chosen, released=permit)
        outcome = yield plan
    if outcome is Committed.YES:
        yield from protocol._tell(plan.granted, settings)


def looks_before_it_stands_in_line(waiter: Waiter, settings: Settings) -> Operation:
    yield from protocol._serve(waiter.permit.key, settings)
    yield Enqueue(waiter)


def turns_away_without_a_word(waiter: Waiter, settings: Settings) -> Operation:
    yield from protocol._withdraw(waiter, settings)


def withdraws_without_a_look(waiter: Waiter, settings: Settings) -> Operation:
    yield Withdraw(waiter)


def takes_from_who_was_told_by_another(holders: Sequence[Holder], settings: Settings) -> Operation:
    if holders:
        told: Sequence[Told] = yield Tell(holders)
        for holder, outcome in zip(holders, told, strict=True):
            if outcome is Told.NOBODY:
                yield from protocol.release(holder.permit, settings)


def leaves_permits_with_the_dead(holders: Sequence[Holder], settings: Settings) -> Operation:
    if holders:
        yield Tell(holders)


def sweeps_without_telling_again(holder: Holder, settings: Settings, now: float) -> Repair:
    if (yield EndOf(holder.waiter.execution)) is not None:
        return (yield from protocol.release(holder.permit, settings))
    return False


def knows_no_grace(execution: str, settings: Settings) -> Operation:
    found: Found = yield FindByExecution(execution)
    for holder in found.held:
        yield from protocol.release(holder.permit, settings)


def lets_the_light_pass_the_heavy(line: Line, settings: Settings, *, freed: int = 0) -> list[Waiter]:
    counter = line.counter or protocol.fresh(settings, line.defaults)
    room, chosen = counter.free + freed, []
    for waiter in line.waiting if not counter.paused else ():
        if protocol._weight(waiter, counter) <= room:
            room -= protocol._weight(waiter, counter)
            chosen.append(waiter)
    return chosen


def insists_on_the_weight(waiter: Waiter, counter: Counter) -> int:
    return waiter.permit.weight


def relies_on_others_also_later(key: str, settings: Settings, *, caller: Waiter | None = None) -> Operation:
    while True:
        line: Line = yield ReadLine(key)
        chosen = protocol._next(line, settings)
        if not chosen or (caller is not None and chosen[0].execution != caller.execution):
            return
        plan = protocol._commit(key, line, settings, chosen)
        outcome = yield plan
        if outcome is Committed.YES:
            yield from protocol._tell(plan.granted, settings)
            caller = None
        else:
            yield from protocol._clear(outcome)


BROKEN: list[tuple[str, Callable[..., Any], str]] = [
    ("_serve", tells_before_it_commits, "who is told has the permit"),
    ("release", releases_without_a_second_look, "nobody waits beside a free permit|nobody is forgotten"),
    ("acquire", looks_before_it_stands_in_line, "nobody waits beside a free permit"),
    ("_serve", relies_on_others_also_later, "nobody waits beside a free permit"),
    ("_turn_away", turns_away_without_a_word, "nobody is forgotten"),
    ("_withdraw", withdraws_without_a_look, "nobody waits beside a free permit"),
    ("_tell", takes_from_who_was_told_by_another, "who is inside has its permit"),
    ("_tell", leaves_permits_with_the_dead, "nobody waits beside a free permit|nobody is forgotten"),
    ("_check_holder", sweeps_without_telling_again, "nothing is held by the dead|nobody is forgotten"),
    ("release_execution", knows_no_grace, "who is inside has its permit"),
    ("_next", lets_the_light_pass_the_heavy, "first come, first served"),
    ("_weight", insists_on_the_weight, "nobody waits beside a free permit"),
]


@pytest.mark.parametrize(("part", "broken", "rule"), BROKEN, ids=[broken.__name__ for _, broken, _ in BROKEN])
def test_a_broken_protocol_is_found_out(
    part: str, broken: Callable[..., Any], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, part, broken)
    with pytest.raises(ViolationError, match=rule):
        everything()


def without_any(_table: MemoryTable, _commit: Commit) -> bool:
    return True


def without_what_is_free(table: MemoryTable, commit: Commit) -> bool:
    return (commit.line.counter is None) == (commit.key not in table.counters)


@pytest.mark.parametrize("conditions", [without_any, without_what_is_free])
def test_a_transaction_without_conditions_is_found_out(
    conditions: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryTable, "holds", conditions)
    with pytest.raises(ViolationError, match=r"above the limit|add up to the limit"):
        everything()


def everything() -> None:
    a_heavy_one_leaves_the_line()
    for seed in range(2000):
        run_without_deaths(seed, steps=200)
        run(seed, steps=300)


def a_heavy_one_leaves_the_line() -> None:
    """Too rare to wait for: the first in line is too heavy, and its execution is stopped."""
    world = World(Random(0), Settings(limit=3), faults=False)
    for weight in (2, 3, 1):
        world.arrive("a", weight)
        world.finish_calls()
        world.pass_time(1)
    _, heavy, light = world.visits.values()
    hold(light.inside is None, "first come, first served", light)
    world.end(heavy, event=True)
    world.finish_calls()
    world.check_nobody_is_overlooked()


def test_who_asks_during_a_pause_that_refuses_is_turned_away_and_who_waits_stays() -> None:
    world = World(Random(0), Settings(limit=1), faults=False)
    world.arrive("a")
    world.arrive("a")
    world.finish_calls()
    world.configure(None, paused=True, refuses=True)
    world.finish_calls()
    for key in KEYS:
        world.arrive(key)
    world.finish_calls()
    inside, waiting, *refused = world.visits.values()
    assert (inside.done, waiting.done, [one.done for one in refused]) == (False, False, [True, True])
    assert [one.execution for one in world.waiting("a")] == [waiting.execution]
    world.configure(None, paused=False)
    world.leave(inside)
    world.arrive("b")
    world.finish_calls()
    assert waiting.inside is not None
    *_, last = world.visits.values()
    assert last.inside is not None


def test_those_behind_a_heavy_one_get_in_when_it_leaves_the_line() -> None:
    a_heavy_one_leaves_the_line()


def a_holder(number: int, *, told: bool) -> Holder:
    permit = Permit(key="a", id=f"permit-{number}")
    waiter = Waiter(permit=permit, order=str(number), execution=f"execution-{number}", token=str(number), asked_at=0)
    return Holder(waiter=waiter, granted_at=0, told=told)


def asked_after(held: Sequence[Holder], *, turns: int, now: float) -> set[str]:
    """The executions that one sweep asks Step Functions about."""
    settings = Settings(limit=len(held), patience=1)
    counter = Counter(limit=len(held), free=0, declared=len(held))
    line = Line(counter=counter, defaults=None, waiting=[], now=now)
    sweeping = protocol.sweep("a", settings, turns=turns)
    next(sweeping)
    repairs: list[Repair] = []
    try:
        sweeping.send(protocol.Snapshot(line, held))
    except StopIteration as end:
        repairs = end.value
    effects = [next(repair) for repair in repairs]
    return {effect.execution for effect in effects if isinstance(effect, EndOf)}


def test_more_holders_than_a_sweep_can_ask_after_take_turns() -> None:
    held = [a_holder(number, told=True) for number in range(50)]
    sweeps = [asked_after(held, turns=3, now=60.0 * minute) for minute in range(10, 13)]
    assert all(0 < len(each) < 50 for each in sweeps)
    assert sorted(name for each in sweeps for name in each) == sorted(one.waiter.execution for one in held)


def test_who_may_not_have_been_told_does_not_wait_for_a_turn() -> None:
    held = [a_holder(number, told=False) for number in range(50)]
    assert len(asked_after(held, turns=3, now=600.0)) == 50


@pytest.mark.parametrize(("outcome", "recovered"), [(Committed.YES, True), (Committed.NOT_HELD, False)])
def test_a_permit_that_was_given_back_before_counts_as_no_recovery(outcome: Committed, recovered: bool) -> None:
    line = Line(counter=Counter(limit=1, free=0, declared=1), defaults=None, waiting=[], now=0)
    operation, answers = protocol.release(Permit(key="a", id="permit"), Settings(limit=1)), iter((line, outcome, line))
    assert returned_by(operation, answers) is recovered


def returned_by(operation: Repair, answers: Iterator[object]) -> bool:
    effect = next(operation)
    try:
        while True:
            effect = operation.send(next(answers))
    except StopIteration as end:
        # The last look at the line has been taken.
        assert isinstance(effect, ReadLine)
        value: bool = end.value
        return value

"""A world for the protocol to go wrong in: a table, executions, functions that die, and clocks that disagree.

`World` keeps what DynamoDB and Step Functions would keep, and checks after every step what must always hold. Who drives
it decides what happens next: hypothesis in `test_protocol.py`, plain random numbers in `turmoil`.
"""

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random
from typing import Any

from benchmarks.memory_table import MemoryTable, RefusedError
from semaphore import protocol
from semaphore.protocol import (
    Commit,
    Committed,
    Effect,
    EndOf,
    Enqueue,
    FindByExecution,
    Found,
    Holder,
    IsInside,
    IsWaiting,
    Line,
    Permit,
    ReadLine,
    Refusal,
    Refuse,
    Settings,
    Tell,
    Told,
    Waiter,
)

SKEW = 0.5
"""By how many seconds a clock may be ahead or behind."""
KEYS = ("a", "b")
MOST_VISITS = 12
"""How many visits of the guarded part go on at once: enough to wait for each other, few enough to be quick."""


class ViolationError(AssertionError):
    """Something that must always hold does not."""


def hold(condition: object, rule: str, *facts: object) -> None:
    if not condition:
        raise ViolationError(f"{rule}: {facts}")


@dataclass
class Visit:
    """An execution that visits a guarded part, as Step Functions knows it."""

    execution: str
    key: str
    weight: int
    order: str
    waits: bool
    token: str = ""
    attempts: int = 0
    running: bool = True
    inside: Permit | None = None
    """What it was told it has, until it has begun to give it back."""
    ended_at: float = 0

    @property
    def done(self) -> bool:
        return not self.token and self.inside is None


@dataclass
class Call:
    """A call of the function that is under way."""

    operation: Generator[Effect, Any, Any]
    skew: float
    effect: Effect
    visit: Visit | None = None
    torn: Line | None = None


@dataclass(frozen=True, kw_only=True)
class SeenLine(Line):
    """A line that remembers at which step it was read."""

    step: int


class BusyTable(MemoryTable):
    """A table on which now and then another transaction is under way."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world

    def holds(self, commit: Commit) -> bool:
        return super().holds(commit) and not (self._world.faults and self._world.rng.random() < 0.05)


@dataclass
class World:
    """Everything there is. `rng` decides what nobody has a say in: clocks, torn reads, lost replies."""

    rng: Random
    settings: Settings
    now: float = 1000.0
    steps: int = 0
    table: MemoryTable = field(init=False)
    since: dict[str, int] = field(default_factory=dict)
    """At which step who stands in line came there."""
    starts: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in KEYS})
    visits: dict[str, Visit] = field(default_factory=dict)
    tokens: dict[str, Visit] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    faults: bool = True

    def __post_init__(self) -> None:
        self.table = BusyTable(self)

    # --- what people, schedules and Step Functions do ---------------------------------------------------------------

    def arrive(self, key: str, weight: int = 1, *, waits: bool = True, late: float = 0) -> None:
        number = len(self.visits)
        # Executions that start at the same time are common: a schedule, a burst.
        order = f"{self.now - late:012.1f}"
        visit = Visit(f"execution-{number}", key, min(weight, self.settings.limit), order, waits)
        self.visits[visit.execution] = visit
        self._ask(visit)

    def _ask(self, visit: Visit) -> None:
        visit.attempts += 1
        visit.token = f"{visit.execution}.{visit.attempts}"
        self.tokens[visit.token] = visit
        self._acquire(visit)

    def ask_again(self, visit: Visit) -> None:
        """The same call once more: at once, or long after."""
        self._acquire(visit)

    def _acquire(self, visit: Visit) -> None:
        token = f"{visit.execution}.{visit.attempts}"
        skew = self._skew()
        waiter = Waiter(
            permit=Permit(key=visit.key, id=token, weight=visit.weight),
            order=visit.order,
            execution=visit.execution,
            token=token,
            asked_at=self.now + skew,
        )
        if visit.waits:
            self.call(protocol.acquire(waiter, self.settings), visit, skew)
        else:
            self.call(protocol.acquire_now(waiter, self.settings, fail=False), visit, skew)

    def leave(self, visit: Visit) -> None:
        """The job is done, and Release is called."""
        hold(visit.inside is not None, "only who is inside leaves")
        assert visit.inside is not None
        self.left.add(visit.inside.id)
        permit, visit.inside = visit.inside, None
        self.call(protocol.release(permit, self.settings), visit)

    def give_up(self, visit: Visit) -> None:
        """The state that waits runs out of time; the execution catches that and goes on."""
        visit.token = ""

    def end(self, visit: Visit, *, event: bool) -> None:
        """The execution fails, is stopped, or runs out of time. The event about it may get lost."""
        if visit.running:
            visit.running, visit.ended_at, visit.token = False, self.now, ""
        if event:
            self.call(protocol.release_execution(visit.execution, self.settings))

    def sweep(self, key: str) -> None:
        self.call(protocol.sweep(key, self.settings))

    def configure(
        self, key: str | None, *, limit: int | None = None, paused: bool | None = None, refuses: bool = False
    ) -> None:
        if key is None:
            self.call(protocol.configure_all(self.settings, limit=limit, paused=paused, refuses=refuses))
        else:
            self.call(protocol.configure(key, self.settings, limit=limit, paused=paused, refuses=refuses))

    def deploy(self, limit: int) -> None:
        self.settings = replace(self.settings, limit=limit)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    # --- calls of the function --------------------------------------------------------------------------------------

    def _skew(self) -> float:
        return self.rng.uniform(-SKEW, SKEW)

    def call(self, operation: Generator[Effect, Any, Any], visit: Visit | None = None, skew: float = 0) -> None:
        try:
            self.calls.append(Call(operation, skew or self._skew(), next(operation), visit))
        except StopIteration as end:
            self._spawn(end.value)

    def _spawn(self, more: object) -> None:
        for operation in more if isinstance(more, list) else ():
            self.call(operation)

    def advance(self, call: Call) -> None:
        """Carries out one effect of a call."""
        self.steps += 1
        if isinstance(call.effect, ReadLine) and call.torn is None and self.faults and self.rng.random() < 0.3:
            # A query is no snapshot: the counter, or the line, is read now, and the rest a moment later.
            call.torn = self._line(call.effect.key, call.skew)
        else:
            try:
                reply = self.perform(call.effect, call)
            except RefusedError:
                self.calls.remove(call)
            else:
                call.torn = None
                self._go_on(call, reply)
        self.check()

    def _go_on(self, call: Call, reply: object) -> None:
        try:
            call.effect = call.operation.send(reply)
        except StopIteration as end:
            self.calls.remove(call)
            self._spawn(end.value)

    def kill(self, call: Call, *, after_effect: bool) -> None:
        """The function dies: before the effect, or after it and before it learns of it."""
        self.steps += 1
        if after_effect:
            with suppress(RefusedError):
                self.perform(call.effect, call)
        elif isinstance(call.effect, Tell):
            # In the midst of it.
            self.perform(Tell(call.effect.holders[: self.rng.randrange(len(call.effect.holders))]), call)
        self.calls.remove(call)
        visit = call.visit
        if visit is not None and visit.running:
            retried = self.rng.random() < 0.7
            if visit.token:
                # Acquire failed, and with it the token. Step Functions tries again, or the execution goes another way.
                visit.token = ""
                if retried:
                    self._ask(visit)
            elif visit.inside is None and self.told.get(f"{visit.execution}.{visit.attempts}"):
                # Release failed.
                if retried:
                    permit = Permit(key=visit.key, id=f"{visit.execution}.{visit.attempts}", weight=self._given(visit))
                    self.call(protocol.release(permit, self.settings), visit)
                else:
                    self.end(visit, event=self.rng.random() < 0.5)
        self.check()

    def _given(self, visit: Visit) -> int:
        return int(self.told[f"{visit.execution}.{visit.attempts}"])

    # --- effects ----------------------------------------------------------------------------------------------------

    def perform(self, effect: Effect, call: Call) -> object:
        match effect:
            case Enqueue(waiter):
                if waiter.permit.id not in self.table.lines[waiter.permit.key]:
                    self.since[waiter.permit.id] = self.steps
            case ReadLine(key):
                return self._read_line(key, call)
            case Commit():
                return self._commit(effect)
            case Tell(holders):
                return [self._tell(holder) for holder in holders]
            case Refuse(waiter, why):
                visit = self.tokens[waiter.token]
                hold(visit.waits == (why is Refusal.PAUSED), "who would wait is refused by a pause only", effect)
                if visit.token == waiter.token:
                    visit.token = ""
                return None
            case IsWaiting(waiter):
                return self.tokens[waiter.token].token == waiter.token
            case IsInside(holder):
                return holder.permit.id in self.told and holder.permit.id not in self.left
            case EndOf(execution):
                visit = self.visits[execution]
                return None if visit.running else visit.ended_at
            case FindByExecution():
                return self._find(effect, call)
        return self.table.perform(effect, self.now + call.skew)

    def waiting(self, key: str) -> list[Waiter]:
        return list(self.table.lines[key])

    def _line(self, key: str, skew: float) -> SeenLine:
        line = self.table.line(key, self.now + skew)
        return SeenLine(
            counter=line.counter, defaults=line.defaults, waiting=line.waiting, now=line.now, step=self.steps
        )

    def _read_line(self, key: str, call: Call) -> Line:
        line = self._line(key, call.skew)
        if call.torn is None:
            return line
        assert isinstance(call.torn, SeenLine)
        if self.rng.random() < 0.5:
            counter = call.torn.counter
            return replace(line, counter=counter, defaults=None if counter else self.table.defaults)
        return replace(line, waiting=call.torn.waiting, step=call.torn.step)

    def _commit(self, commit: Commit) -> object:
        key, held, waiting = commit.key, set(self.table.holders[commit.key]), self.waiting(commit.key)
        outcome = self.table.commit(commit)
        if outcome is Committed.YES and commit.granted:
            self._check_order(commit, waiting)
            hold(not any(each.permit.id in held for each in commit.granted), "nobody is let in twice", commit)
            hold(self.table.counters[key].free >= 0, "nobody is let in above the limit", commit)
            self.starts[key] += [each.start_at for each in commit.granted if each.start_at is not None]
            self._check_starts(key)
        return outcome

    def _tell(self, holder: Holder) -> Told:
        visit, permit = self.tokens[holder.waiter.token], holder.permit
        lost = self.faults and self.rng.random() < 0.03
        if lost and self.rng.random() < 0.5:
            return Told.UNKNOWN
        if visit.token != holder.waiter.token:
            return Told.UNKNOWN if lost else Told.NOBODY
        hold(visit.running, "nobody acquires after the end", visit)
        visit.token, visit.inside = "", permit
        hold(permit.id not in self.told, "nobody is let in twice", permit)
        self.told[permit.id] = str(permit.weight)
        stored = self.table.holders[permit.key].get(permit.id)
        hold(stored is not None, "who is told has the permit", permit)
        assert stored is not None
        hold(stored.start_at == holder.start_at, "who is told keeps its start", stored, holder)
        return Told.UNKNOWN if lost else Told.YES

    def _find(self, effect: FindByExecution, call: Call) -> Found:
        found: Found = self.table.perform(effect, self.now + call.skew)
        # An index is a little behind its table.
        missed = self.faults and self.rng.random() < 0.1
        return replace(found, waiting=[], held=[]) if missed else found

    # --- what must always hold --------------------------------------------------------------------------------------

    def check(self) -> None:
        for key in KEYS:
            weights = sum(holder.permit.weight for holder in self.table.holders[key].values())
            counter = self.table.counters.get(key)
            if counter is None:
                hold(not weights, "what is held is counted", key, self.table.holders[key])
            else:
                hold(
                    counter.free + weights == counter.limit, "held and free add up to the limit", key, counter, weights
                )
        for visit in self.visits.values():
            if visit.inside is None:
                continue
            # Until it ends, and then for the grace period, though clocks differ by twice the skew.
            kept = visit.running or self.now < visit.ended_at + self.settings.grace - 2 * SKEW
            if kept:
                held = self.table.holders[visit.key].get(visit.inside.id)
                hold(held is not None and held.permit == visit.inside, "who is inside has its permit", visit)

    def _check_order(self, commit: Commit, waiting: Sequence[Waiter]) -> None:
        """Nobody is passed over who stood in line when it was read. Who came after that could not be seen."""
        assert isinstance(commit.line, SeenLine)
        granted = {holder.permit.id for holder in commit.granted}
        last = max((holder.waiter.order, holder.permit.id) for holder in commit.granted)
        for waiter in waiting:
            if waiter.permit.id in granted or self.since[waiter.permit.id] > commit.line.step:
                continue
            if commit.released and waiter.permit.id == commit.released.id:
                continue
            ahead = not commit.from_line or (waiter.order, waiter.permit.id) < last
            hold(not ahead, "first come, first served", waiter, commit.granted)

    def _check_starts(self, key: str) -> None:
        rate = self.settings.starts_per_second
        if rate:
            last = sorted(self.starts[key][-20:])
            hold(all(b - a >= 1 / rate - 1e-6 for a, b in pairwise(last)), "starts are paced", last)

    # --- when everything quiets down --------------------------------------------------------------------------------

    def finish_calls(self) -> None:
        rounds = 0
        while self.calls:
            self.advance(self.rng.choice(self.calls))
            rounds += 1
            hold(rounds < 200_000, "calls come to an end", self.calls)

    def settle(self) -> None:
        """No faults any more: after two sweeps nobody waits beside a free permit, and the dead hold nothing."""
        self.faults = False
        self.finish_calls()
        self.configure(None, paused=False)
        for key in KEYS:
            if key in self.table.counters:
                self.configure(key, paused=False)
        self.finish_calls()
        self._sweep_twice()
        self._check_settled()
        rounds = 0
        while inside := [visit for visit in self.visits.values() if visit.inside and visit.running]:
            for visit in inside:
                self.leave(visit)
            self.finish_calls()
            rounds += 1
            hold(rounds < 10_000, "everybody gets a turn", self.table.lines)
        self._sweep_twice()
        self._check_settled()
        hold(not any(visit.token for visit in self.visits.values()), "nobody is forgotten", self.visits)
        hold(not any(self.table.holders.values()), "nothing stays held", self.table.holders)

    def _sweep_twice(self) -> None:
        for _ in range(2):
            self.pass_time(self.settings.patience + self.settings.grace + 2 * SKEW + 1)
            for key in KEYS:
                self.sweep(key)
            self.finish_calls()

    def check_nobody_is_overlooked(self) -> None:
        for key in KEYS:
            line = self.waiting(key)
            counter = self.table.counters.get(key) or protocol.fresh(self.settings, self.table.defaults)
            if line and not counter.paused:
                weight = min(line[0].permit.weight, counter.limit)
                hold(counter.free < weight, "nobody waits beside a free permit", key, counter, line[0])

    def _check_settled(self) -> None:
        self.check_nobody_is_overlooked()
        for key in KEYS:
            counter = self.table.counters.get(key)
            if counter is not None:
                hold(counter.declared == self.settings.limit, "a new limit in the code arrives", counter)
            for holder in self.table.holders[key].values():
                visit = self.visits[holder.waiter.execution]
                hold(
                    visit.running and visit.inside is not None and visit.inside.id == holder.permit.id,
                    "nothing is held by the dead",
                    holder,
                    visit,
                )


# --- driven by random numbers ---------------------------------------------------------------------------------------


def random_world(rng: Random) -> World:
    return World(
        rng,
        Settings(
            limit=rng.choice((1, 2, 3, 5)),
            starts_per_second=rng.choice((None, None, 2.0)),
            grace=rng.choice((0, 0, 4)),
            patience=rng.choice((1, 4)),
        ),
    )


def turmoil(world: World, steps: int, *, deaths: bool = True) -> None:
    """Whatever can happen, at random, until so many steps are done. Without deaths nothing gets lost or repaired."""
    rng = world.rng
    end = world.steps + steps
    while world.steps < end:
        world.now += rng.random() * 0.1
        if world.calls and rng.random() < 0.75:
            call = rng.choice(world.calls)
            if deaths and rng.random() < 0.02:
                world.kill(call, after_effect=rng.random() < 0.5)
            else:
                world.advance(call)
        else:
            happen(world, rng, repairs=deaths)


def happen(world: World, rng: Random, *, repairs: bool = True) -> None:
    """One thing that people, schedules or Step Functions do."""
    going = [visit for visit in world.visits.values() if visit.running and not visit.done]
    inside = [visit for visit in going if visit.inside]
    waiting = [visit for visit in going if visit.token]
    dice = rng.random()
    if dice < 0.45:
        if len(going) < MOST_VISITS:
            weight, late = rng.choice((1, 1, 1, 2, 3)), rng.choice((0, 0, 0.3))
            world.arrive(rng.choice("aaab"), weight, waits=rng.random() < 0.85, late=late)
    elif dice < 0.8:
        if inside:
            world.leave(rng.choice(inside))
    elif dice < 0.84:
        if world.visits:
            world.ask_again(rng.choice(list(world.visits.values())[-8:]))
    elif dice < 0.88:
        if going:
            world.end(rng.choice(going), event=rng.random() < 0.5)
    elif dice < 0.90:
        if waiting:
            world.give_up(rng.choice(waiting))
    elif dice < 0.95:
        for key in KEYS if repairs else ():
            world.sweep(key)
    elif dice < 0.97:
        world.configure(rng.choice(("a", "b", None)), limit=rng.choice((1, 2, 3, 5)))
    elif dice < 0.99:
        paused = rng.random() < 0.3
        world.configure(rng.choice(("a", "b", None)), paused=paused, refuses=paused and rng.random() < 0.5)
    elif dice < 0.993:
        world.deploy(rng.choice((2, 3, 5)))
    else:
        world.pass_time(3)
    world.check()


def run(seed: int, steps: int) -> int:
    """One world from its beginning to a good end. Returns how many steps it took."""
    world = random_world(Random(seed))
    turmoil(world, steps)
    world.settle()
    return world.steps


def run_without_deaths(seed: int, steps: int) -> int:
    """Where nobody dies, nobody is overlooked, also without a sweeper."""
    world = random_world(Random(seed))
    turmoil(world, steps, deaths=False)
    world.faults = False
    world.finish_calls()
    world.check_nobody_is_overlooked()
    return world.steps

"""The protocol of the semaphore: who holds a permit, who waits, and who is next.

Pure: no I/O, no clock, no randomness. Each operation is a generator that yields what is to be done next (an effect)
and is sent what came of it. The edge carries the effects out against DynamoDB and Step Functions; the tests interleave
operations, repeat them, and abandon them before and after any effect, as AWS does with functions.

What makes it safe:

- *Never too many.* Every change of who holds what is one transaction that also moves the counter, under conditions on
  the counter itself. So what is held and what is free always add up to the limit.
- *Nobody is overlooked.* Who asks writes itself into the line before it reads the counter; who gives back writes the
  counter before it reads the line for the last time. Reads are consistent, so of two that meet at least one sees the
  other. Whatever may let somebody in (a permit given back, a higher limit, a resumed key, somebody who left the line)
  is followed by a look at the line by the one who did it.
- *Nothing is forgotten.* A permit is committed before its holder is told, and the token stays with it: who dies in
  between has lost nothing, the sweeper tells again. Telling first could tell two holders of one permit.
- *Nothing is kept by the dead.* A holder that cannot be told any more gives its permit back at once. One that was told
  keeps it until it gives it back itself, or its execution is seen to have ended.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any
from zlib import crc32

MOST_GRANTS = 25
"""How many are let in by one transaction. It takes 100 actions, and a grant is two of them (out of the line, into the
holders): https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html"""

SWEEP_EVERY = 60
"""Seconds."""


# --- what there is --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Permit:
    """What a holder has, and gives back.

    Args:
        key: What the limit is counted for: one line and one counter per key.
        id: Tells this visit of a guarded part from every other; the same again when the same call is repeated.
        weight: How much of the limit it takes.
    """

    key: str
    id: str
    weight: int = 1


@dataclass(frozen=True, kw_only=True)
class Waiter:
    """Who asks for a permit.

    Args:
        permit: What is asked for.
        order: When the execution started, as text that sorts: first come, first served.
        execution: The ARN of the execution.
        token: The task token by which it is told.
        asked_at: When it asked, in seconds since the epoch.
    """

    permit: Permit
    order: str
    execution: str
    token: str
    asked_at: float


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has a permit.

    Args:
        waiter: Who asked for it, with the weight that it was given.
        granted_at: When it was let in, in seconds since the epoch.
        start_at: When it may start, where starts are paced.
        told: Whether it is known to have been told. Not written in the ordinary course of things, which saves a write
            per permit: only the sweeper wants to know.
        release_at: When its permit is to be taken back, once its execution has ended without giving it back.
    """

    waiter: Waiter
    granted_at: float
    start_at: float | None = None
    told: bool = False
    release_at: float | None = None

    @property
    def permit(self) -> Permit:
        return self.waiter.permit


@dataclass(frozen=True, kw_only=True)
class Counter:
    """How much there is of a key, and how much of it is free.

    Args:
        limit: How much may be held at once.
        free: The limit less what is held: negative while more is held than a limit that was lowered.
        declared: The limit in the code of the deployment that last set it. An operator's limit stays until that
            number changes.
        paused: Whether nobody is let in.
        refuses: Whether, while it is paused, who asks is refused instead of standing in line.
        next_start: When the next holder may start, where starts are paced.
        used_at: When a permit was last handed out or given back.
    """

    limit: int
    free: int
    declared: int
    paused: bool = False
    refuses: bool = False
    next_start: float = 0
    used_at: float = 0


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What an operator said about every key, for keys that come into use later.

    Args:
        version: Another one after each change.
        limit: The limit; `None` is the one in the code.
        declared: The limit in the code when the operator set it.
        paused: Whether a new key starts paused.
        refuses: Whether it refuses while it is paused.
    """

    version: int
    limit: int | None = None
    declared: int | None = None
    paused: bool = False
    refuses: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the deployment says.

    Args:
        limit: How much of each key may be held at once.
        starts_per_second: How many holders of a key may start per second; `None` is as many as there are permits.
        grace: For how long a permit is kept after its execution ended without giving it back, in seconds: a container
            that was told to stop may run on for a while.
        patience: The sweeper leaves alone what is younger, in seconds: somebody is still at it. Longer than the
            function may run, or the sweeper tells a holder whom its own function is about to tell.
    """

    limit: int
    starts_per_second: float | None = None
    grace: float = 0
    patience: float = 60


# --- effects: what an operation asks of the edge --------------------------------------------------------------------


@dataclass(frozen=True)
class Enqueue:
    """Puts a waiter into the line, unless it stands there already. Reply: None."""

    waiter: Waiter


@dataclass(frozen=True)
class Withdraw:
    """Takes a waiter out of the line. Reply: None, also when it has left."""

    waiter: Waiter


@dataclass(frozen=True)
class ReadLine:
    """Reads the counter and the head of the line, consistently. Reply: `Line`."""

    key: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """What `ReadLine` found.

    Args:
        counter: `None` while nobody was ever let in.
        defaults: What a new counter starts with. `ReadLine` reads them only where there is no counter.
        waiting: The first in line, in order; at least `MOST_GRANTS` if there are as many.
        now: When, in seconds since the epoch.
    """

    counter: Counter | None
    defaults: Defaults | None
    waiting: Sequence[Waiter]
    now: float


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One transaction: takes `released` back, lets `granted` in, and moves the counter. Reply: `Committed` or `Known`.

    It holds only if `released` is held and none of `granted` is. If anybody is let in, also only if all of them still
    stand in line (unless `from_line` is false: they never did), and the counter's limit, what is free, its pause and
    its next start are those in `seen`.

    Args:
        key: The key.
        line: What the decision rests on. Without a counter it is made, provided that the defaults are as read.
        seen: The counter in it, or the one to be made.
        granted: Whom to let in.
        released: What is given back.
        next_start: When the next holder may start.
        from_line: Whether those let in stood in line.
    """

    key: str
    line: Line
    seen: Counter
    granted: Sequence[Holder] = ()
    released: Permit | None = None
    next_start: float = 0
    from_line: bool = True

    @property
    def change(self) -> int:
        """By how much the free permits grow."""
        back = self.released.weight if self.released else 0
        return back - sum(holder.permit.weight for holder in self.granted)

    @property
    def takes_all(self) -> bool:
        """Whether nothing is free after it. Only known if somebody was let in: then the counter was as seen."""
        return bool(self.granted) and self.seen.free + self.change <= 0


class Committed(Enum):
    """What came of a `Commit`."""

    YES = auto()
    NOT_HELD = auto()
    """`released` is not held (any more): somebody gave it back before."""
    CHANGED = auto()
    """Something that the decision rests on has changed: look again."""


@dataclass(frozen=True)
class Known:
    """What else may come of a `Commit`: these have a permit already. They asked twice, and stand in line again."""

    waiters: Sequence[Waiter]


@dataclass(frozen=True)
class Tell:
    """Tells holders that they have their permits. Reply: a `Told` for each."""

    holders: Sequence[Holder]


class Told(Enum):
    """What came of a `Tell`."""

    YES = auto()
    NOBODY = auto()
    """Nobody waits for it (any more): it was told before, gave up waiting, or ended."""
    UNKNOWN = auto()
    """The call got no clear answer. The sweeper will see."""


class Refusal(Enum):
    """How somebody is told that there is no permit now."""

    SKIP = auto()
    """By an answer: the work is left out."""
    BUSY = auto()
    """By a failure: no permit is free."""
    PAUSED = auto()
    """By a failure: nobody is let in for now, and nobody is to wait."""


@dataclass(frozen=True)
class Refuse:
    """Tells who asked that there is no permit now. Reply: None."""

    waiter: Waiter
    why: Refusal


@dataclass(frozen=True)
class IsWaiting:
    """Asks Step Functions about a token. Reply: whether somebody still waits for it."""

    waiter: Waiter


@dataclass(frozen=True)
class IsInside:
    """Asks the history of the execution. Reply: whether it was told of the permit and has not begun to give it back."""

    holder: Holder


@dataclass(frozen=True)
class EndOf:
    """Asks Step Functions about an execution. Reply: when it ended, in seconds since the epoch; None while it runs."""

    execution: str


@dataclass(frozen=True)
class FindByExecution:
    """Finds what an execution waits for and holds. Reply: `Found`. May miss what was written a moment ago."""

    execution: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """What `FindByExecution` found, and when."""

    waiting: Sequence[Waiter]
    held: Sequence[Holder]
    now: float


@dataclass(frozen=True)
class ReleaseLater:
    """Notes when a permit is to be taken back, unless that is noted or the holder has changed. Reply: None."""

    holder: Holder
    at: float


@dataclass(frozen=True)
class MarkTold:
    """Notes that a holder has been told, unless the holder has changed. Reply: None."""

    holder: Holder


@dataclass(frozen=True)
class ReadAll:
    """Reads the counter, the defaults, the head of the line and all holders of a key. Reply: `Snapshot`."""

    key: str


@dataclass(frozen=True)
class Snapshot:
    """What `ReadAll` found."""

    line: Line
    held: Sequence[Holder]


@dataclass(frozen=True, kw_only=True)
class SetCounter:
    """Changes limit, declared limit and pause of a counter, and whether it refuses. Reply: whether it was done; not if
    these had changed.

    What is free moves with the limit, whatever it is by then. Without a counter in `line` it is made, provided that
    the defaults are as read.
    """

    key: str
    line: Line
    counter: Counter


@dataclass(frozen=True)
class Forget:
    """Deletes a counter that nothing is held of, if it and the defaults are as seen. Reply: None."""

    key: str
    seen: Counter
    defaults: Defaults | None


@dataclass(frozen=True, kw_only=True)
class SetDefaults:
    """Notes for new keys what an operator says; `None` leaves it as it is. Reply: None."""

    limit: int | None
    declared: int
    paused: bool | None
    refuses: bool = False


@dataclass(frozen=True)
class ListKeys:
    """Lists the keys that have a counter or somebody in line, consistently. Reply: a sequence of keys."""


Effect = (
    Enqueue
    | Withdraw
    | ReadLine
    | Commit
    | Tell
    | Refuse
    | IsWaiting
    | IsInside
    | EndOf
    | FindByExecution
    | ReleaseLater
    | MarkTold
    | ReadAll
    | SetCounter
    | Forget
    | SetDefaults
    | ListKeys
)
Operation = Generator[Effect, Any, None]
Repair = Generator[Effect, Any, bool]
"""An operation that may be part of a sweep. Returns whether a permit had to be recovered."""


# --- operations -----------------------------------------------------------------------------------------------------


def acquire(waiter: Waiter, settings: Settings) -> Operation:
    """Stands in line, and lets in whoever is first, if that is the caller; who is refused leaves the line again."""
    # Into the line first: who gives a permit back from now on sees the caller. Then the look: what was given back
    # before is seen by the caller.
    yield Enqueue(waiter)
    yield from _serve(waiter.permit.key, settings, caller=waiter)


def acquire_now(waiter: Waiter, settings: Settings, *, fail: bool) -> Operation:
    """Takes a permit if one is free and nobody waits for it; otherwise says so, without standing in line."""
    while True:
        line: Line = yield ReadLine(waiter.permit.key)
        counter = line.counter or fresh(settings, line.defaults)
        if line.waiting or counter.paused or _weight(waiter, counter) > counter.free:
            yield Refuse(waiter, Refusal.BUSY if fail else Refusal.SKIP)
            return
        plan = _commit(waiter.permit.key, line, settings, [waiter], from_line=False)
        outcome = yield plan
        if outcome is Committed.YES:
            yield from _tell(plan.granted, settings)
            return
        if isinstance(outcome, Known):
            # The same call again. If the first one died before it told, the sweeper tells.
            return


def release(permit: Permit, settings: Settings) -> Repair:
    """Gives a permit back and hands it to the next in line, in one transaction. Returns whether it was still held."""
    while True:
        line: Line = yield ReadLine(permit.key)
        twice = [waiter for waiter in line.waiting if waiter.permit.id == permit.id]
        if twice:
            # It asked twice and stands in line again, where nobody can be told of it any more. One transaction could
            # not both take its permit and give it one.
            yield Withdraw(twice[0])
            continue
        plan = _commit(permit.key, line, settings, _next(line, settings, freed=permit.weight), released=permit)
        outcome = yield plan
        if outcome in (Committed.YES, Committed.NOT_HELD):
            break
        yield from _clear(outcome)
    if outcome is Committed.YES:
        yield from _tell(plan.granted, settings)
        if plan.takes_all:
            # Nothing is free, so nobody can have come in vain since the line was read.
            return True
    # Now the counter is written, so this look sees everybody who came too early to see it. Also when the permit was
    # given back before: by a call that may have died before its look.
    yield from _serve(permit.key, settings)
    return outcome is Committed.YES


def release_execution(execution: str, settings: Settings) -> Operation:
    """Gives back what an execution that ended still holds, after the grace period, and takes it out of the line."""
    found: Found = yield FindByExecution(execution)
    for waiter in found.waiting:
        yield from _withdraw(waiter, settings)
    for holder in found.held:
        if settings.grace > 0:
            yield ReleaseLater(holder, found.now + settings.grace)
        else:
            yield from release(holder.permit, settings)


def sweep(key: str, settings: Settings, *, turns: int = 1) -> Generator[Effect, Any, list[Repair]]:
    """Finds what may have been lost: functions that died, events that never came, a limit that changed in the code.

    Returns the repairs, to be run apart: one that fails must not keep the others from their permits.

    Args:
        key: The key.
        settings: What the deployment says.
        turns: In how many sweeps each holder that is known to have been told is asked after once.
    """
    snapshot: Snapshot = yield ReadAll(key)
    young = snapshot.line.now - settings.patience
    repairs: list[Repair] = [
        _check_waiter(waiter, settings) for waiter in snapshot.line.waiting if waiter.asked_at <= young
    ]
    for holder in snapshot.held:
        if holder.release_at is not None:
            if holder.release_at <= snapshot.line.now:
                repairs.append(release(holder.permit, settings))
        elif holder.granted_at <= young and _is_its_turn(holder, turns, snapshot.line.now):
            repairs.append(_check_holder(holder, settings, snapshot.line.now))
    return [*repairs, _check_counter(key, snapshot, settings)]


def configure(
    key: str, settings: Settings, *, limit: int | None = None, paused: bool | None = None, refuses: bool = False
) -> Operation:
    """Sets the limit of a key, or pauses or resumes it, and lets in whom that allows. `None` leaves it as it is."""
    while True:
        line: Line = yield ReadLine(key)
        counter = line.counter or fresh(settings, line.defaults)
        if limit is not None:
            # Declared too: the operator has seen the deployment that is running, and means this limit to outlive it.
            counter = replace(counter, limit=limit, free=counter.free + limit - counter.limit, declared=settings.limit)
        if paused is not None:
            counter = replace(counter, paused=paused, refuses=refuses)
        if (yield SetCounter(key=key, line=line, counter=counter)):
            break
    yield from _serve(key, settings)


def configure_all(
    settings: Settings, *, limit: int | None = None, paused: bool | None = None, refuses: bool = False
) -> Generator[Effect, Any, list[Operation]]:
    """Does for every key, and for those that come into use later, what `configure` does for one.

    Returns the operations, one per key.
    """
    # First the defaults, then the list: a key that is not on it either starts with them, or finds them changed.
    yield SetDefaults(limit=limit, declared=settings.limit, paused=paused, refuses=refuses)
    keys: Sequence[str] = yield ListKeys()
    return [configure(key, settings, limit=limit, paused=paused, refuses=refuses) for key in keys]


# --- steps that operations share ------------------------------------------------------------------------------------


def _serve(key: str, settings: Settings, *, caller: Waiter | None = None) -> Operation:
    """Lets in whoever is first in line, while there is room.

    With a caller, only if the first in line is of its execution. Otherwise the first has a call of its own under way,
    or whoever made room for it has; as they go on until there is no more room, they serve those behind, too. Without
    this a burst of arrivals would fight over the same few permits, and most of its transactions would be cancelled.
    """
    while True:
        line: Line = yield ReadLine(key)
        if caller is not None and (line.counter or fresh(settings, line.defaults)).refuses:
            yield from _turn_away(caller, settings)
            return
        chosen = _next(line, settings)
        if not chosen or (caller is not None and chosen[0].execution != caller.execution):
            return
        # From here on the caller is one of those on whom others rely: it goes on until there is no more room.
        caller = None
        plan = _commit(key, line, settings, chosen)
        outcome = yield plan
        if outcome is not Committed.YES:
            yield from _clear(outcome)
            continue
        yield from _tell(plan.granted, settings)
        if plan.takes_all:
            return


def _tell(holders: Sequence[Holder], settings: Settings) -> Operation:
    """Tells those who were let in; who cannot be told gives the permit back at once."""
    if not holders:
        return
    told: Sequence[Told] = yield Tell(holders)
    for holder, outcome in zip(holders, told, strict=True):
        # Nobody waits also where the sweeper was faster: then it is inside, and the permit its own.
        if outcome is Told.NOBODY and not (yield IsInside(holder)):
            yield from release(holder.permit, settings)


def _clear(outcome: Committed | Known) -> Operation:
    if isinstance(outcome, Known):
        for waiter in outcome.waiters:
            yield Withdraw(waiter)


def _turn_away(waiter: Waiter, settings: Settings) -> Operation:
    """Refuses who asks during a pause. Those who came before it stay in line."""
    # Should somebody let it in just now, it has two answers, and the first one counts: a permit that it is not told of
    # goes on to the next.
    yield Refuse(waiter, Refusal.PAUSED)
    yield from _withdraw(waiter, settings)


def _withdraw(waiter: Waiter, settings: Settings) -> Operation:
    yield Withdraw(waiter)
    # It may have been first, and too heavy for what is free: then those behind it fit now.
    yield from _serve(waiter.permit.key, settings)


def _is_its_turn(holder: Holder, turns: int, now: float) -> bool:
    return not holder.told or crc32(holder.permit.id.encode()) % turns == int(now // SWEEP_EVERY) % turns


def _check_waiter(waiter: Waiter, settings: Settings) -> Repair:
    if not (yield IsWaiting(waiter)):
        yield from _withdraw(waiter, settings)
    return False


def _check_holder(holder: Holder, settings: Settings, now: float) -> Repair:
    ended: float | None = yield EndOf(holder.waiter.execution)
    if ended is not None:
        if ended + settings.grace > now:
            yield ReleaseLater(holder, ended + settings.grace)
            return False
        return (yield from release(holder.permit, settings))
    if holder.told:
        return False
    # Whoever let it in may have died before telling it, so it is told again: a token is good for one answer, and the
    # second finds nobody. Nobody is found, too, where it gave up waiting before it was told; its history knows which.
    told: Sequence[Told] = yield Tell([holder])
    if told[0] is Told.UNKNOWN:
        return False
    if told[0] is Told.NOBODY and not (yield IsInside(holder)):
        return (yield from release(holder.permit, settings))
    yield MarkTold(holder)
    return told[0] is Told.YES


def _check_counter(key: str, snapshot: Snapshot, settings: Settings) -> Repair:
    line = snapshot.line
    counter = line.counter
    if counter is not None and counter.declared != settings.limit:
        free = counter.free + settings.limit - counter.limit
        yield SetCounter(
            key=key, line=line, counter=replace(counter, limit=settings.limit, free=free, declared=settings.limit)
        )
    elif counter is not None and not snapshot.held and not line.waiting:
        idle_since = max(counter.used_at, counter.next_start)
        says_nothing = replace(counter, used_at=0, next_start=0) == fresh(settings, line.defaults)
        if says_nothing and idle_since + settings.patience <= line.now:
            # A key may be a file that is processed once: a counter that says what a new one would say is not kept.
            # Who stands in line by now finds it changed, and makes a new one.
            yield Forget(key, counter, line.defaults)
    yield from _serve(key, settings)
    return False


# --- decisions ------------------------------------------------------------------------------------------------------


def fresh(settings: Settings, defaults: Defaults | None) -> Counter:
    limit, paused, refuses = settings.limit, False, False
    if defaults is not None:
        paused, refuses = defaults.paused, defaults.refuses
        if defaults.limit is not None and defaults.declared == settings.limit:
            limit = defaults.limit
    return Counter(limit=limit, free=limit, declared=settings.limit, paused=paused, refuses=refuses)


def _weight(waiter: Waiter, counter: Counter) -> int:
    """A limit that was lowered below a weight must not leave it waiting for ever: it then takes the whole."""
    return min(waiter.permit.weight, counter.limit)


def _next(line: Line, settings: Settings, *, freed: int = 0) -> list[Waiter]:
    """Who is next: from the head of the line, in order, never past one that does not fit."""
    counter = line.counter or fresh(settings, line.defaults)
    if counter.paused:
        return []
    room = counter.free + freed
    chosen: list[Waiter] = []
    for waiter in line.waiting[:MOST_GRANTS]:
        room -= _weight(waiter, counter)
        if room < 0:
            break
        chosen.append(waiter)
    return chosen


def _commit(
    key: str,
    line: Line,
    settings: Settings,
    chosen: Sequence[Waiter],
    *,
    released: Permit | None = None,
    from_line: bool = True,
) -> Commit:
    seen = line.counter or fresh(settings, line.defaults)
    pause = 1 / settings.starts_per_second if settings.starts_per_second else None
    start = max(seen.next_start, line.now)
    granted = [
        Holder(
            waiter=replace(waiter, permit=replace(waiter.permit, weight=_weight(waiter, seen))),
            granted_at=line.now,
            start_at=None if pause is None else start + place * pause,
        )
        for place, waiter in enumerate(chosen)
    ]
    return Commit(
        key=key,
        line=line,
        seen=seen,
        granted=granted,
        released=released,
        next_start=seen.next_start if pause is None or not granted else start + len(granted) * pause,
        from_line=from_line,
    )

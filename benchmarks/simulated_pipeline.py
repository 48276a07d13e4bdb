"""A pipeline in simulated time: the library's own decisions, with AWS around them as far as its quotas go.

Real are the protocol of the semaphore, what the starter plans and how it names executions, and when the valve opens.
Simulated are the services: how long a call takes, what is throttled, which transactions meet, and what gets lost.
Whoever waits is one small object, and whoever is still in the buffer is none, so that a million of them fit.
"""

import re
import resource
import sys
from array import array
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import simpy

from benchmarks.memory_table import MemoryTable
from pipeline.objects import ObjectEvent, body_of, execution_name
from pipeline.patience import FIRST_PAUSE, LONGEST_PAUSE, MARGIN
from pipeline.plan import Start, plan
from pipeline.valve import KEY, decide
from semaphore import protocol
from semaphore.handler import MOST_LOOKS
from semaphore.protocol import (
    Commit,
    Committed,
    Effect,
    EndOf,
    Enqueue,
    FindByExecution,
    Holder,
    IsInside,
    IsWaiting,
    MarkTold,
    Permit,
    ReadAll,
    ReadLine,
    ReleaseLater,
    Settings,
    Tell,
    Told,
    Waiter,
    Withdraw,
)

Steps = Generator[simpy.Event, Any, Any]
"""Part of a process: yields what it waits for."""

QUOTAS = {
    "StartExecution": (1300, 300),
    "DescribeExecution": (300, 15),
    "GetExecutionHistory": (400, 20),
    "SendTaskSuccess": (3000, 500),
    "SendTaskHeartbeat": (3000, 500),
    "RunTask": (100, 20),
}
"""At once, and per second, in us-east-1: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html and,
for launches on Fargate, https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html"""

PUTS_PER_SECOND = 3500
"""For one prefix: https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html"""

BATCH = 10
"""Messages in a call of the starter."""
STARTER_TIMEOUT, SWEEP_TIMEOUT, CALL_TIMEOUT = 60.0, 60.0, 60.0
"""Seconds, as the constructs set them; the semaphore has one function for all it does."""
VISIBILITY = 6 * STARTER_TIMEOUT
MINUTE = 60.0
SWITCHING = 15.0
"""Seconds until an event source mapping does what it was told. An assumption."""
ATTEMPTS = 10
"""Of Acquire and Release, the first one included."""

ITEM = 1100
"""Bytes of a waiter or a holder: a task token has some 700 characters, ARN and keys the rest. An assumption."""
ITEM_WRITES = -(-ITEM // 1024)
INDEX_WRITES = ITEM_WRITES
"""Write units. The index by execution has all of the item."""

SECONDS = {"invoke": 0.015, "read": 0.005, "write": 0.006, "transaction": 0.015, "page": 0.03, "step functions": 0.03}
"""How long calls take on average: assumptions, each drawn between half of it and half as much again."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated. Times are in seconds, rates are probabilities.

    Args:
        name: What it is called.
        objects: How many are written, as fast as S3 takes them.
        limit: The pipeline's `max_concurrency`.
        starts_per_second: The pace.
        launch: How long a container takes to start: the least and the most.
        job: How long it works then, on average: from half of it to half as much again.
        starters: How many calls of the starter run at once.
        max_waiting: When the valve closes.
        grace: How long a permit is kept after its execution was stopped.
        deaths: Of a function, at each thing that it does.
        stops: Of an execution at work that somebody stops, or that runs out of time.
        stops_in_line: Of an execution that waits, the same.
        lost_events: Of the events that tell of that.
        duplicates: Of the messages that are delivered again.
        seed: Decides all that is drawn.
    """

    name: str
    objects: int
    limit: int = 500
    starts_per_second: float = 20
    launch: tuple[float, float] = (30, 60)
    job: float = 15
    starters: int = 5
    max_waiting: int = 10_000
    grace: float = 120
    deaths: float = 0.0001
    stops: float = 0.002
    stops_in_line: float = 0.001
    lost_events: float = 0.01
    duplicates: float = 0.001
    seed: int = 1

    @property
    def hold(self) -> float:
        """How long launch and job take on average."""
        return sum(self.launch) / 2 + self.job


class DiedError(Exception):
    """A function died, or ran out of time."""


class ThrottledError(Exception):
    """AWS refused a call as often as it was made."""


class Bucket:
    """A quota: so many at once, refilled at so many per second."""

    def __init__(self, size: float, rate: float) -> None:
        self._size, self._rate, self._left, self._at = size, rate, float(size), 0.0

    def takes(self, now: float) -> bool:
        self._left = min(self._size, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Queue:
    """Messages by the number of their object: those never received as spans of numbers, the others one by one."""

    def __init__(self) -> None:
        self._spans: deque[list[float]] = deque()
        self._again: deque[int] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._again)

    def send(self, first: int, count: int, now: float) -> None:
        self._spans.append([first, first + count, now])
        self._count += count

    def send_again(self, numbers: Sequence[int]) -> None:
        self._again.extend(numbers)

    def receive(self, most: int) -> list[int]:
        found = [self._again.popleft() for _ in range(min(most, len(self._again)))]
        while len(found) < most and self._spans:
            span = self._spans[0]
            taken = min(most - len(found), int(span[1] - span[0]))
            found.extend(range(int(span[0]), int(span[0]) + taken))
            span[0] += taken
            self._count -= taken
            if span[0] == span[1]:
                self._spans.popleft()
        return found

    def oldest(self, now: float) -> float:
        return now - self._spans[0][2] if self._spans else 0.0


@dataclass(slots=True, eq=False)
class Execution:
    """One that is open. Its token is empty unless it waits; `inside` is the id of the permit it was told of."""

    number: int
    name: str
    order: str
    attempts: int = 0
    token: str = ""
    inside: str = ""


@dataclass
class Measured:
    """What is counted while it runs."""

    calls: Counter[str] = field(default_factory=Counter)
    throttled: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    peaks: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    read_units: int = 0
    write_units: int = 0
    lambda_seconds: float = 0
    transitions: int = 0
    work_seconds: float = 0
    contended_seconds: float = 0
    held_seconds: float = 0
    working_seconds: float = 0
    oldest_object: float = 0
    longest_sweep: float = 0
    memory_early: float = 0

    def peak(self, name: str, value: int) -> None:
        if value > self.peaks[name]:
            self.peaks[name] = value


class SimulatedPipeline:
    """Everything from the bucket to the end of the last execution."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.settings = Settings(
            limit=scenario.limit, starts_per_second=scenario.starts_per_second, grace=scenario.grace, patience=30
        )
        self.env = simpy.Environment()
        self.table = MemoryTable()
        self.measured = Measured()
        self.finished_at: float | None = None
        self._random = Random(scenario.seed)
        self._quotas = {api: Bucket(*quota) for api, quota in QUOTAS.items()}
        self._queue = Queue()
        self._written = 0
        self._is_open = True
        self._opened = self.env.event()
        self._sent = self.env.event()
        self._open: dict[str, Execution] = {}
        # What Step Functions remembers of names: the beginning of the digest in that of each object.
        self._names = array("Q", bytes(8 * scenario.objects))
        self._endings = bytearray(scenario.objects)
        self._ended = 0
        # Of those that ended a moment ago: when, and inside of what permit.
        self._ends: dict[str, tuple[float, str]] = {}
        self._working = 0
        self._accounted_at = 0.0
        self._in_transaction = False
        self._all_ended = self.env.event()

    def run(self) -> None:
        """Until every execution has ended and the last sweep had its chance; or until all hope is lost."""
        s = self.scenario
        for process in (self._write(), self._sweep_every_minute(), self._look_at_the_valve()):
            self.env.process(process)
        for _ in range(s.starters):
            self.env.process(self._poll())
        hopeless = 3 * max(s.objects * s.hold / s.limit, s.objects / s.starts_per_second) + 4 * 3600
        self.env.run(until=self._all_ended | self.env.timeout(hopeless))
        self.finished_at = self.env.now if self._all_ended.triggered else None
        # Whoever was stopped last has its permit for the grace period.
        self.env.run(until=self.env.now + s.grace + 5 * MINUTE)

    @property
    def lost(self) -> int:
        """Objects of which no execution came to an end."""
        return self._endings.count(0)

    @property
    def twice(self) -> int:
        """Objects that were processed more than once."""
        return self.scenario.objects - self._endings.count(0) - self._endings.count(1)

    @property
    def still_held(self) -> int:
        return len(self.table.holders[KEY])

    # --- objects, buffer, valve -------------------------------------------------------------------------------------

    def _write(self) -> Steps:
        while self._written < self.scenario.objects:
            yield self.env.timeout(0.2)
            count = min(PUTS_PER_SECOND // 5, self.scenario.objects - self._written)
            self._account()
            self._queue.send(self._written, count, self.env.now)
            self._wake()
            self._written += count
            self.measured.peak("in the buffer", len(self._queue))

    def _look_at_the_valve(self) -> Steps:
        s = self.scenario
        while True:
            yield self.env.timeout(MINUTE)
            self.measured.oldest_object = max(self.measured.oldest_object, self._queue.oldest(self.env.now))
            yield from self._scan()
            self._count_function(2, 1.0)
            waiting = len(self.table.lines[KEY])
            opens = decide(is_open=self._is_open, waiting=waiting, most=s.max_waiting, paused=False)
            if opens != self._is_open:
                yield self.env.timeout(SWITCHING)
                self._is_open = opens
                self.measured.happened["valve opened" if opens else "valve closed"] += 1
                if opens:
                    self._opened.succeed()
                    self._opened = self.env.event()

    def _poll(self) -> Steps:
        while True:
            if not self._is_open:
                yield self._opened
            self._account()
            numbers = self._queue.receive(BATCH)
            self.measured.calls["ReceiveMessage"] += 1
            if numbers:
                yield from self._start_batch(numbers)
                self.measured.calls["DeleteMessageBatch"] += 1
            else:
                # Long polling: as soon as there is something, or after 20 seconds.
                yield self._sent | self.env.timeout(20)

    def _start_batch(self, numbers: Sequence[int]) -> Steps:
        began, lives = self.env.now, True
        yield self.env.timeout(self._draw("invoke"))
        for place, number in enumerate(numbers):
            if self._happens(self.scenario.deaths):
                # Nothing of the batch is deleted: what was started of it is recognised when it comes again.
                self._deliver_again(numbers)
                self.measured.happened["starters died"] += 1
                lives = False
                break
            decision = plan(body_of(_event(number)), bucket="incoming", ignored_prefixes=["results/"])
            assert isinstance(decision, Start)
            if not (yield from self._start(decision.event, until=began + STARTER_TIMEOUT - MARGIN)):
                self._deliver_again(numbers[place:])
                break
            if self._happens(self.scenario.duplicates):
                self._deliver_again([number])
        if lives:
            yield self.env.timeout(self._draw("invoke"))
        self._count_function(1, self.env.now - began)

    def _start(self, event: ObjectEvent, *, until: float) -> Generator[simpy.Event, Any, bool]:
        attempt = 0
        while not (yield from self._is_accepted("StartExecution")):
            yield self.env.timeout(self._random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt, 10))))
            attempt += 1
            if self.env.now >= until:
                return False
        name, number = execution_name(event), int(event.key[9:-4])
        digest = int(name[-40:-24], 16) or 1
        if self._names[number] == digest:
            self.measured.happened["duplicates recognised"] += 1
            return True
        self._names[number] = digest
        execution = Execution(number, name, f"{self.env.now:014.3f}")
        self._open[name] = execution
        self.measured.peak("open executions", len(self._open))
        self.env.process(self._acquire(execution))
        if self._happens(self.scenario.stops_in_line):
            self.env.process(self._stop_in_line(execution))
        return True

    def _deliver_again(self, numbers: Sequence[int]) -> None:
        def deliver() -> Steps:
            yield self.env.timeout(VISIBILITY)
            self._account()
            self._queue.send_again(numbers)
            self._wake()

        self.env.process(deliver())

    def _wake(self) -> None:
        self._sent.succeed()
        self._sent = self.env.event()

    # --- executions -------------------------------------------------------------------------------------------------

    def _acquire(self, execution: Execution) -> Steps:
        for attempt in range(ATTEMPTS):
            execution.attempts += 1
            execution.token = token = f"{execution.number}.{execution.attempts}"
            waiter = Waiter(
                permit=Permit(key=KEY, id=token),
                order=execution.order,
                execution=execution.name,
                token=token,
                asked_at=self.env.now,
            )
            self.measured.transitions += 1
            if (yield from self._call(protocol.acquire(waiter, self.settings))) or execution.token != token:
                return
            # The call failed, and with it its token.
            execution.token = ""
            yield self.env.timeout(self._random.uniform(0, min(MINUTE, 2**attempt)))
            if execution.name not in self._open:
                return
        self._end(execution, "failed")

    def _work(self, execution: Execution, holder: Holder) -> Steps:
        s, attempt = self.scenario, 0
        self.measured.transitions += 2
        if holder.start_at is not None and holder.start_at > self.env.now:
            yield self.env.timeout(holder.start_at - self.env.now)
        while not (yield from self._is_accepted("RunTask")):
            self.measured.transitions += 4
            yield self.env.timeout(self._random.uniform(0, min(2 * MINUTE, 5 * 2**attempt)))
            attempt += 1
        seconds = self._random.uniform(*s.launch) + s.job * self._random.uniform(0.5, 1.5)
        self._change_working(1)
        if self._happens(s.stops):
            seconds *= self._random.random()
            yield self.env.timeout(seconds)
            self._stop(execution)
            # The container may go on for a while.
            yield self.env.timeout(self._random.uniform(0, s.grace))
            self._change_working(-1)
            self.measured.work_seconds += seconds
            return
        yield self.env.timeout(seconds)
        self._change_working(-1)
        self.measured.work_seconds += seconds
        execution.inside = ""
        for attempt in range(ATTEMPTS):
            self.measured.transitions += 1
            if (yield from self._call(protocol.release(holder.permit, self.settings))):
                break
            yield self.env.timeout(self._random.uniform(0, min(MINUTE, 2**attempt)))
        self._end(execution, "succeeded")

    def _stop_in_line(self, execution: Execution) -> Steps:
        yield self.env.timeout(self._random.uniform(0, 10 * MINUTE))
        if execution.token:
            self._stop(execution)

    def _stop(self, execution: Execution) -> None:
        execution.token = ""
        self._end(execution, "stopped")
        if self._happens(self.scenario.lost_events):
            self.measured.happened["events lost"] += 1
        else:
            self.env.process(self._tell_of_the_end(execution.name))

    def _tell_of_the_end(self, name: str) -> Steps:
        yield self.env.timeout(1)
        for _ in range(3):
            if (yield from self._call(protocol.release_execution(name, self.settings))):
                return
            yield self.env.timeout(MINUTE)

    def _end(self, execution: Execution, how: str) -> None:
        del self._open[execution.name]
        self._ends[execution.name] = (self.env.now, execution.inside)
        self.measured.endings[how] += 1
        self._endings[execution.number] = min(255, self._endings[execution.number] + 1)
        self._ended += 1
        if self._ended == self.scenario.objects // 10:
            self.measured.memory_early = memory()
        if self._ended == self.scenario.objects:
            self._all_ended.succeed()

    # --- the semaphore's function -----------------------------------------------------------------------------------

    def _sweep_every_minute(self) -> Steps:
        while True:
            yield self.env.timeout(MINUTE)
            # To know when it was matters only within the grace period.
            old = self.env.now - self.scenario.grace - MINUTE
            self._ends = {name: end for name, end in self._ends.items() if end[0] > old}
            self.env.process(self._sweep())

    def _sweep(self) -> Steps:
        began = self.env.now
        until, recovered = began + SWEEP_TIMEOUT, 0
        try:
            yield self.env.timeout(self._draw("invoke"))
            yield from self._scan()
            repairs = yield from self._run(protocol.sweep(KEY, self.settings), until)
            for repair in repairs:
                try:
                    recovered += yield from self._run(repair, until)
                except ThrottledError:
                    self.measured.happened["repairs put off"] += 1
        except DiedError:
            self.measured.happened["sweeps cut short"] += 1
        self.measured.happened["sweeps"] += 1
        self.measured.happened["permits recovered"] += recovered
        self.measured.longest_sweep = max(self.measured.longest_sweep, self.env.now - began)
        self._count_function(1, self.env.now - began)

    def _call(self, operation: protocol.Operation | protocol.Repair) -> Generator[simpy.Event, Any, bool]:
        """A call of the function. Returns whether it came to its end."""
        began = self.env.now
        yield self.env.timeout(self._draw("invoke"))
        try:
            yield from self._run(operation, began + CALL_TIMEOUT)
        except (DiedError, ThrottledError):
            self.measured.happened["functions died"] += 1
            return False
        finally:
            self._count_function(1, self.env.now - began)
        return True

    def _run(self, operation: Generator[Effect, Any, Any], until: float) -> Steps:
        """As `semaphore.handler.Edge` does, in simulated time."""
        looks = 0
        try:
            effect = next(operation)
            while True:
                if self._happens(self.scenario.deaths):
                    if self._happens(0.5):
                        # It is done, and nobody learns of it.
                        yield from self._carry_out(effect)
                    raise DiedError
                outcome = yield from self._carry_out(effect)
                if self.env.now > until:
                    raise DiedError
                if outcome is Committed.CHANGED:
                    looks += 1
                    if looks > MOST_LOOKS:
                        raise DiedError
                    yield self.env.timeout(self._random.uniform(0, min(0.5, 0.02 * 2**looks)))
                effect = operation.send(outcome)
        except StopIteration as end:
            return end.value

    def _carry_out(self, effect: Effect) -> Steps:
        match effect:
            case Commit():
                return (yield from self._transact(effect))
            case Tell(holders):
                # Eight at a time.
                yield self.env.timeout(self._draw("step functions") * ((len(holders) - 1) // 8))
                told = []
                for place, holder in enumerate(holders):
                    told.append((yield from self._tell(holder, alone=place == 0)))
                return told
            case IsWaiting(waiter):
                yield from self._ask("SendTaskHeartbeat")
                execution = self._open.get(waiter.execution)
                return execution is not None and execution.token == waiter.token
            case IsInside(holder):
                yield from self._ask("GetExecutionHistory")
                return self._inside(holder.waiter.execution) == holder.permit.id
            case EndOf(name):
                yield from self._ask("DescribeExecution")
                return None if name in self._open else self._ends.get(name, (0.0, ""))[0]
        yield self.env.timeout(self._draw("read" if isinstance(effect, ReadLine | FindByExecution) else "write"))
        self._account()
        reply = self.table.perform(effect, self.env.now)
        self._count_table(effect, reply)
        return reply

    def _inside(self, name: str) -> str:
        """What its history says. Who was stopped at work has not begun to give back."""
        execution = self._open.get(name)
        return execution.inside if execution else self._ends.get(name, (0.0, ""))[1]

    def _transact(self, commit: Commit) -> Steps:
        self.measured.calls["TransactWriteItems"] += 1
        touched = (commit.released is not None) + len(commit.granted) * (2 if commit.from_line else 1)
        self.measured.write_units += touched * 2 * ITEM_WRITES + 2
        seconds = self._draw("transaction")
        if self._in_transaction:
            # Two that meet at the counter: one of them is cancelled.
            yield self.env.timeout(seconds)
            self.measured.happened["transactions that met"] += 1
            return Committed.CHANGED
        self._in_transaction = True
        yield self.env.timeout(seconds)
        self._in_transaction = False
        self._account()
        outcome = self.table.commit(commit)
        if outcome is Committed.YES:
            self.measured.write_units += touched * INDEX_WRITES
            self.measured.peak("holders", len(self.table.holders[KEY]))
        return outcome

    def _tell(self, holder: Holder, *, alone: bool) -> Steps:
        if alone:
            try:
                yield from self._ask("SendTaskSuccess")
            except ThrottledError:
                return Told.UNKNOWN
        else:
            self.measured.calls["SendTaskSuccess"] += 1
            if not self._quotas["SendTaskSuccess"].takes(self.env.now):
                return Told.UNKNOWN
        execution = self._open.get(holder.waiter.execution)
        if execution is None or execution.token != holder.waiter.token:
            return Told.NOBODY
        execution.token, execution.inside = "", holder.permit.id
        self.env.process(self._work(execution, holder))
        return Told.YES

    # --- calls, and what they cost ----------------------------------------------------------------------------------

    def _ask(self, api: str) -> Steps:
        """As boto3 does in its standard mode, with five attempts."""
        for attempt in range(5):
            if (yield from self._is_accepted(api)):
                return
            yield self.env.timeout(self._random.uniform(0, min(20, 2**attempt)))
        raise ThrottledError(api)

    def _is_accepted(self, api: str) -> Generator[simpy.Event, Any, bool]:
        yield self.env.timeout(self._draw("step functions"))
        self.measured.calls[api] += 1
        accepted = self._quotas[api].takes(self.env.now)
        if not accepted:
            self.measured.throttled[api] += 1
        return accepted

    def _scan(self) -> Steps:
        """The whole table is read, page by page."""
        size = ITEM * (len(self.table.lines[KEY]) + len(self.table.holders[KEY])) + 300
        pages = -(-size // 2**20)
        self.measured.calls["Scan"] += pages
        self.measured.read_units += -(-size // 4096)
        yield self.env.timeout(self._draw("page") * pages)

    def _count_table(self, effect: Effect, reply: Any) -> None:
        measured = self.measured
        match effect:
            case ReadLine():
                measured.calls["Query"] += 1
                measured.read_units += -(-(300 + ITEM * len(reply.waiting)) // 4096)
            case Enqueue():
                measured.calls["PutItem"] += 1
                measured.write_units += ITEM_WRITES + INDEX_WRITES
                measured.peak("waiting", len(self.table.lines[KEY]))
            case Withdraw():
                measured.calls["DeleteItem"] += 1
                measured.write_units += ITEM_WRITES + INDEX_WRITES
            case MarkTold() | ReleaseLater():
                measured.calls["UpdateItem"] += 1
                measured.write_units += ITEM_WRITES + INDEX_WRITES
            case FindByExecution():
                measured.calls["Query"] += 1
                measured.read_units += 1
            case ReadAll():
                measured.calls["Query"] += 2
                measured.calls["GetItem"] += 1
                measured.read_units += 1 + -(-ITEM * (len(reply.line.waiting) + len(reply.held)) // 4096)
            case _:
                measured.calls[type(effect).__name__] += 1

    def _count_function(self, calls: int, seconds: float) -> None:
        self.measured.calls["Invoke"] += calls
        self.measured.lambda_seconds += seconds

    def _change_working(self, change: int) -> None:
        self._account()
        self._working += change
        self.measured.peak("at work", self._working)

    def _account(self) -> None:
        """Before anything changes: what was held and done while somebody waited."""
        measured, now = self.measured, self.env.now
        if now > self._accounted_at and (self.table.lines[KEY] or len(self._queue)):
            seconds = now - self._accounted_at
            measured.contended_seconds += seconds
            measured.held_seconds += seconds * len(self.table.holders[KEY])
            measured.working_seconds += seconds * self._working
        self._accounted_at = now

    def _draw(self, kind: str) -> float:
        return SECONDS[kind] * (0.5 + self._random.random())

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability


def memory() -> float:
    """The most that this process ever had, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux counts the parent's memory into what getrusage says of a child.
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _event(number: int) -> ObjectEvent:
    return ObjectEvent(
        bucket="incoming",
        key=f"incoming/{number:07}.csv",
        version_id="",
        size=1000,
        etag=f"{number:032x}",
        sequencer=f"{number:016X}",
        time="2026-11-22T06:00:00Z",
        reason="PutObject",
    )

"""Runs failures again: takes them out of the spool, and looks after those that keep failing.

Nothing is deleted before what was decided for it is done: its restart was accepted, or it lies in the other queue. A
function that dies in between leaves a message that is delivered again, and then finds what was done: by the name of
the execution, which is taken once; by the number of redrives; by the way in the ledger.
"""

import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from pipeline.patience import MARGIN, Patience, TimeIsOverError
from spool import requests
from spool.decide import (
    NOT_LET_IN,
    Contents,
    Failure,
    Message,
    Way,
    by_error,
    is_exhausted,
    is_target,
    matching,
    sort_out,
    way_for,
)
from spool.envelope import Envelope
from spool.ledger import Ledger, dynamodb
from spool.machines import Machines, NeverAcceptedError, Outcome, Run, State, s3, stepfunctions
from spool.metrics import log, report
from spool.parallel import Pace, batches, meanwhile, side_by_side
from spool.queues import LONGEST_ATTRIBUTE, Queue, sqs
from spool.requests import MOST, Selection

CHUNK = 10
"""Failures that are settled, started and deleted together."""

CHUNKS = 4
"""How many chunks are under way at once."""

SLOW = 5.0
"""Starts per second up to which one after the other is quick enough: so they are in order."""

RESERVE = 15.0
"""Seconds at the end in which nothing is started any more: for deleting what was, and giving back the rest."""

LOOK = 2.0
"""Seconds between looks at the first executions."""

LONGEST_LOOK = 60
"""Seconds for which a message that is only looked at is hidden, if it is not given back."""

MOST_TOLD = 50
"""How many failures an answer tells of one by one."""


Item = TypeVar("Item")


class ReprocessError(Exception):
    """AWS refused something; all else was done, and what was refused is still there."""


class AnyQueue(Protocol):
    """See `queues.Queue`."""

    def count(self) -> int: ...
    def receive(self, most: int, *, seconds: int, enough: int | None = None) -> list[Message]: ...
    def delete(self, messages: Sequence[Message]) -> None: ...
    def give_back(self, messages: Sequence[Message]) -> None: ...
    def send(self, message: Message, notes: Mapping[str, str]) -> None: ...


class AnyLedger(Protocol):
    """See `ledger.Ledger`."""

    def settle(self, wanted: Sequence[tuple[Envelope, Way]]) -> list[Way]: ...
    def history(self, envelope: Envelope, *, after: int = 0) -> list[dict[str, str]]: ...
    def pardoned(self, id_: str) -> int: ...
    def pardon(self, id_: str, attempt: int) -> None: ...


class AnyMachines(Protocol):
    """See `machines.Machines`."""

    def restart(self, envelope: Envelope) -> Run: ...
    def redrive(self, envelope: Envelope) -> Run: ...
    def describe(self, execution: str) -> State | None: ...


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the deployment says.

    Args:
        targets: The ARNs of the state machines that may be started.
        mode: `restart` or `redrive`.
        most: How many failures are run again unless the event says.
        most_attempts: After so many a failure goes to the quarantine, the first counts.
        ramp: How many are run first, and watched.
        ramp_seconds: For how long.
        key_path: Where an input has its business key.
        workers: How many things are done at once; 1 is one after the other.
    """

    targets: Collection[str]
    mode: str = "restart"
    most: int = 10
    most_attempts: int = 3
    ramp: int = 0
    ramp_seconds: float = 60
    key_path: str = ""
    workers: int = CHUNK

    @classmethod
    def from_environment(cls) -> "Settings":
        return cls(
            targets=json.loads(os.environ["TARGETS"]),
            mode=os.environ["MODE"],
            most=int(os.environ["MOST"]),
            most_attempts=int(os.environ["MOST_ATTEMPTS"]),
            ramp=int(os.environ["RAMP"]),
            ramp_seconds=float(os.environ["RAMP_SECONDS"]),
            key_path=os.environ["KEY_PATH"],
            workers=1 if 0 < float(os.environ["STARTS_PER_SECOND"]) <= SLOW else CHUNK,
        )


def handle(event: object, context: Any) -> dict[str, Any]:
    """Does what an event asks for, and tells what was done.

    The event's `action`, with what else it takes (see `requests`):
        list: What lies in the spool and in the quarantine, by error.
        reprocess: Runs the oldest failures again, up to `max`.
        park: Moves failures to the quarantine.
        release: Moves them back, with all attempts before them.
        drop: Deletes one of the quarantine.

    Environment: `QUEUE_URL`, `QUARANTINE_URL`, `TABLE_NAME`, `TARGETS` (a JSON list of ARNs), `MODE`, `MOST`,
    `STARTS_PER_SECOND` (0 is no limit), `MOST_ATTEMPTS`, `RAMP`, `RAMP_SECONDS`, `KEY_PATH` (may be empty), `SPOOL`
    (the name in metrics). The function's timeout has to be longer than `patience.MARGIN` and `RESERVE`.

    Raises:
        InvalidRequestError: the event makes no sense.
        ReprocessError: AWS refused something; all else was done.
    """
    request = event if isinstance(event, dict) else requests.refuse("the event must be an object", event)
    action = request.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        requests.refuse(f"the event needs an action, one of {', '.join(ACTIONS)}", request)

    def remaining() -> float:
        return float(context.get_remaining_time_in_millis()) / 1000

    def remaining_for_starts() -> float:
        return remaining() - RESERVE

    patience = Patience(remaining)
    pace = Pace(float(os.environ["STARTS_PER_SECOND"]), remaining_for_starts)
    reprocessor = Reprocessor(
        spool=Queue(sqs(), os.environ["QUEUE_URL"], patience),
        quarantine=Queue(sqs(), os.environ["QUARANTINE_URL"], patience),
        ledger=Ledger(dynamodb(), os.environ["TABLE_NAME"], patience),
        machines=Machines(stepfunctions(), s3(), Patience(remaining_for_starts), pace.wait),
        settings=Settings.from_environment(),
        remaining=remaining,
    )
    try:
        return ACTIONS[action](reprocessor, request)
    finally:
        report(reprocessor.counts, seconds=reprocessor.seconds)


@dataclass(kw_only=True)
class Taken:
    """Messages that nobody else sees for now."""

    queue: AnyQueue
    contents: Contents
    left: dict[str, Message]
    """What is still to be given back."""
    may_be_more: bool = False
    """Whether nobody has looked yet what the queue has besides."""

    def delete(self, messages: Sequence[Message]) -> None:
        if messages:
            self.queue.delete(messages)
        for message in messages:
            self.left.pop(message.id, None)


@dataclass(kw_only=True)
class Reprocessor:
    """Carries out one request.

    Args:
        remaining: The seconds that are left to the function.
        clock: Seconds since the epoch.
        sleep: Waits for seconds.
    """

    spool: AnyQueue
    quarantine: AnyQueue
    ledger: AnyLedger
    machines: AnyMachines
    settings: Settings
    remaining: Callable[[], float]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""
    """Why nothing more is begun; empty while nothing speaks against it."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    # --- actions ----------------------------------------------------------------------------------------------------

    def list_(self, event: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(event) - {"action"}):
            requests.refuse("list takes nothing else", unknown)
        with self._taken(self.spool, seconds=LONGEST_LOOK) as taken:
            spooled = taken.contents
        with self._taken(self.quarantine, seconds=LONGEST_LOOK) as taken:
            parked = taken.contents
        strangers = sum(not is_target(each.envelope, self.settings.targets) for each in spooled.failures)
        self.counts["NotATarget"] = strangers
        return {
            "spooled": len(spooled.failures),
            "notATarget": strangers,
            "unreadable": len(spooled.unreadable),
            "errors": by_error(spooled.failures),
            "oldestSeconds": round(self.seconds["OldestFailureSeconds"]),
            "quarantined": len(parked.failures),
            "quarantinedErrors": by_error(parked.failures),
            "quarantinedUnreadable": [
                {"id": message.id, "why": why[:200]} for message, why in parked.unreadable[:MOST_TOLD]
            ],
        }

    def reprocess(self, event: Mapping[str, Any]) -> dict[str, Any]:
        selection = requests.reprocess_of(event, most=self.settings.most)
        counted = 0 if selection.dry_run else self.spool.count()
        # Which are the oldest shows only when all of them are there. Where all are meant, they need not wait for that.
        with self._taken(self.spool, enough=counted if 0 < counted <= selection.most else None) as taken:
            numbers, late = meanwhile(
                lambda: self._reprocess(taken, taken.contents, selection),
                lambda: self._take_more(taken),
                workers=self.settings.workers,
            )
            numbers.update(self._reprocess(taken, late, replace(selection, most=selection.most - numbers["chosen"])))
        self.counts["NotATarget"] = numbers["notATarget"]
        return self._answer(**numbers, dryRun=selection.dry_run)

    def _reprocess(self, taken: Taken, contents: Contents, selection: Selection) -> Counter[str]:
        """Runs again what is meant of the contents. How many there were of what."""
        meant = matching(contents.failures, selection, now=self.clock())
        targets = [each for each in meant if is_target(each.envelope, self.settings.targets)]
        chosen = targets[: selection.most]
        if selection.dry_run:
            for each in chosen:
                self._tell(each, f"would {self._way(each)}")
        else:
            self._each(taken, self._park_unreadable, contents.unreadable)
            self._run_all(taken, chosen)
        return Counter(
            found=len(contents.failures),
            matching=len(meant),
            notATarget=len(meant) - len(targets),
            unreadable=len(contents.unreadable),
            chosen=len(chosen),
        )

    def park(self, event: Mapping[str, Any]) -> dict[str, Any]:
        selection = requests.park_of(event)
        with self._taken(self.spool) as taken:
            meant = matching(taken.contents.failures, selection, now=self.clock())[: selection.most]
            self._each(taken, lambda failure: self._quarantine(failure, "parked by an operator"), meant)
        return self._answer(found=len(taken.contents.failures), chosen=len(meant))

    def release(self, event: Mapping[str, Any]) -> dict[str, Any]:
        id_ = requests.release_of(event)
        with self._taken(self.quarantine) as taken:
            chosen = [each for each in taken.contents.failures if id_ in (None, each.id)]
            self._each(taken, self._release, chosen)
        return self._answer(
            found=len(taken.contents.failures), unreadable=len(taken.contents.unreadable), chosen=len(chosen)
        )

    def drop(self, event: Mapping[str, Any]) -> dict[str, Any]:
        id_ = requests.drop_of(event)
        with self._taken(self.quarantine) as taken:
            chosen = [each for each in taken.contents.failures if each.id == id_]
            self._each(taken, self._drop, chosen)
            strange = [message for message, _ in taken.contents.unreadable if message.id == id_]
            taken.delete(strange)
            self._count("Dropped", len(strange))
        return self._answer(found=len(taken.contents.failures), chosen=len(chosen) + len(strange))

    # --- taking and giving back -------------------------------------------------------------------------------------

    @contextmanager
    def _taken(self, queue: AnyQueue, *, seconds: int | None = None, enough: int | None = None) -> Iterator[Taken]:
        """All that a queue has, or `enough` of it. What is not deleted by then is given back at the end."""
        messages = queue.receive(MOST, seconds=seconds or self._hidden(), enough=enough)
        if queue is self.spool:
            self._measure_age(messages)
        taken = Taken(
            queue=queue,
            contents=sort_out(messages, key_path=self.settings.key_path),
            left={message.id: message for message in messages},
            may_be_more=enough is not None and len(messages) >= enough,
        )
        try:
            yield taken
        finally:
            if taken.left:
                queue.give_back(list(taken.left.values()))

    def _take_more(self, taken: Taken) -> Contents:
        """What the queue has besides, if that is not known yet: what SQS did not count, or what came since."""
        if not taken.may_be_more:
            return Contents(failures=[], unreadable=[])
        first = taken.contents
        known = {each.id for failure in first.failures for each in failure.messages}
        known |= {message.id for message, _ in first.unreadable}
        messages = [one for one in self.spool.receive(MOST, seconds=self._hidden()) if one.id not in known]
        self._measure_age(messages)
        taken.left.update({message.id: message for message in messages})
        late = sort_out(messages, key_path=self.settings.key_path)
        # What was run again may have failed again by now. It waits for the next call, as do second copies.
        lines = {failure.id for failure in first.failures}
        return replace(late, failures=[failure for failure in late.failures if failure.id not in lines])

    def _hidden(self) -> int:
        """Seconds: for as long as this function may run, and a little longer."""
        return math.ceil(self.remaining()) + 30

    def _measure_age(self, messages: Sequence[Message]) -> None:
        age = max((self.clock() - message.sent_at for message in messages), default=0.0)
        self.seconds["OldestFailureSeconds"] = max(age, self.seconds.get("OldestFailureSeconds", 0.0))

    def _each(self, taken: Taken, work: Callable[[Item], Sequence[Message]], items: Sequence[Item]) -> None:
        """Does the work for each, and deletes the messages that it is done with. No trouble is another's trouble."""

        def attempt(item: Item) -> Sequence[Message]:
            if self.stopped:
                return []
            try:
                return work(item)
            except TimeIsOverError as problem:
                self.stopped = str(problem)
            except Exception as problem:
                self._problem(problem)
            return []

        for batch in batches(items, CHUNK):
            done = side_by_side(attempt, batch, workers=self.settings.workers)
            taken.delete([message for messages in done for message in messages])

    # --- running again ----------------------------------------------------------------------------------------------

    def _run_all(self, taken: Taken, chosen: Sequence[Failure]) -> None:
        tired = side_by_side(self._is_tired, chosen, workers=self.settings.workers)
        self._each(taken, self._park_exhausted, [each for each, is_ in zip(chosen, tired, strict=True) if is_])
        runnable = [each for each, is_ in zip(chosen, tired, strict=True) if is_ is False]
        ramp = self.settings.ramp if len(runnable) > self.settings.ramp else 0
        first, rest = runnable[:ramp], runnable[ramp:]
        if first:
            self._watch(self._run_chunk(taken, first))
        side_by_side(
            lambda chunk: self._run_chunk(taken, chunk),
            batches(rest, CHUNK),
            workers=min(CHUNKS, self.settings.workers),
        )

    def _run_chunk(self, taken: Taken, chunk: Sequence[Failure]) -> list[Run]:
        """Settles, starts and deletes some failures. What was started, now or by somebody before."""
        if self.stopped:
            return []
        try:
            ways = self.ledger.settle([(each.envelope, self._way(each)) for each in chunk])
        except TimeIsOverError as problem:
            self.stopped = str(problem)
            return []
        except Exception as problem:
            self._problem(problem)
            return []
        runs: list[Run] = []

        def run(pair: tuple[Failure, Way]) -> Sequence[Message]:
            failure, way = pair
            if way == "drop":
                # An operator dropped another copy of it.
                self._count("Dropped")
                return failure.messages
            try:
                found = self.machines.redrive(failure.envelope) if way == "redrive" else self._restart(failure)
            except NeverAcceptedError as problem:
                return self._quarantine(failure, f"it can never be started: {problem}")
            runs.append(found)
            self._tell(failure, found.outcome, execution=found.execution, instead=found.instead)
            self._count(COUNTED_AS[found.outcome])
            return [] if found.outcome is Outcome.NOT_YET else failure.messages

        self._each(taken, run, list(zip(chunk, ways, strict=True)))
        return runs

    def _way(self, failure: Failure) -> Way:
        return way_for(failure.envelope, mode=self.settings.mode)

    def _restart(self, failure: Failure) -> Run:
        run = self.machines.restart(failure.envelope)
        if self.settings.mode == "redrive":
            return replace(run, instead="caught in the state machine" if failure.envelope.caught else "settled before")
        return run

    def _watch(self, runs: Sequence[Run]) -> None:
        """Looks at what was started first until it ends, or was watched for long enough. Stops where it failed."""
        watched = [run for run in runs if run.outcome in (Outcome.RESTARTED, Outcome.REDRIVEN)]
        until = self.clock() + self.settings.ramp_seconds
        while watched and not self.stopped:
            try:
                states = side_by_side(
                    lambda run: self.machines.describe(run.execution), watched, workers=self.settings.workers
                )
            except TimeIsOverError as problem:
                self.stopped = str(problem)
                return
            except Exception as problem:
                self._problem(problem)
                return
            # A description may be of a moment ago, when the execution that was resumed had not been yet.
            now = [
                state if state and state.redrives >= run.redrives else None
                for run, state in zip(watched, states, strict=True)
            ]
            for run, state in zip(watched, now, strict=True):
                if state and state.failed:
                    self.stopped = f"the first of them failed again: {run.execution}"
            watched = [run for run, state in zip(watched, now, strict=True) if not state or state.status == "RUNNING"]
            if self.clock() >= until or self.remaining() <= RESERVE + MARGIN:
                return
            if watched and not self.stopped:
                self.sleep(LOOK)

    # --- the quarantine ---------------------------------------------------------------------------------------------

    def _is_tired(self, failure: Failure) -> bool | None:
        """Whether it was tried often enough; None where that cannot be found out."""
        attempt, most = failure.attempt, self.settings.most_attempts
        if not is_exhausted(attempt, pardoned=0, most_attempts=most):
            return False
        try:
            pardoned = self.ledger.pardoned(failure.id)
            earlier = [each["error"] for each in self.ledger.history(failure.envelope, after=pardoned)]
            not_let_in = sum(error in NOT_LET_IN for error in (*earlier, failure.envelope.error))
            return is_exhausted(attempt, pardoned=pardoned, most_attempts=most, not_let_in=not_let_in)
        except TimeIsOverError as problem:
            self.stopped = str(problem)
        except Exception as problem:
            self._problem(problem)
        return None

    def _park_exhausted(self, failure: Failure) -> Sequence[Message]:
        return self._quarantine(failure, f"it failed {failure.attempt} times")

    def _quarantine(self, failure: Failure, reason: str) -> Sequence[Message]:
        envelope = failure.envelope
        last = {
            "execution": envelope.execution,
            "error": envelope.error,
            "cause": envelope.cause[:500],
            "failedAt": envelope.failed_at,
        }
        history = [*self.ledger.history(envelope), last]
        notes = {
            "reason": reason[:500],
            "id": failure.id,
            "attempts": str(failure.attempt),
            "firstFailedAt": history[0]["failedAt"],
            "history": json.dumps(_short(history)),
        }
        self.quarantine.send(failure.messages[0], notes)
        self._count("Quarantined")
        self._tell(failure, "quarantined", reason=reason)
        return failure.messages

    def _park_unreadable(self, found: tuple[Message, str]) -> Sequence[Message]:
        message, why = found
        self.quarantine.send(message, {"reason": why[:500]})
        self._count("Quarantined")
        log("WARN", "a message that cannot be read was moved to the quarantine", messageId=message.id, reason=why)
        return [message]

    def _release(self, failure: Failure) -> Sequence[Message]:
        # Forgiven first: in the spool it may be found at once.
        self.ledger.pardon(failure.id, failure.attempt)
        self.spool.send(failure.messages[0], {})
        self._tell(failure, "released")
        return failure.messages

    def _drop(self, failure: Failure) -> Sequence[Message]:
        (way,) = self.ledger.settle([(failure.envelope, "drop")])
        self._count("Dropped")
        self._tell(failure, "dropped", reason="" if way == "drop" else f"a {way} had been settled for it before")
        return failure.messages

    # --- telling ----------------------------------------------------------------------------------------------------

    def _count(self, name: str, number: int = 1) -> None:
        if number:
            with self._lock:
                self.counts[name] += number

    def _tell(self, failure: Failure, outcome: str, **more: str) -> None:
        """Writes down what became of a failure: for the answer, and all of them in the log."""
        envelope = failure.envelope
        line = {
            "id": failure.id,
            "attempt": failure.attempt,
            "failed": envelope.execution,
            "error": envelope.error[:200],
            "outcome": str(outcome),
            **{name: text for name, text in more.items() if text},
        }
        log("INFO", "a failure of the spool", **line)
        self.told.append(line)

    def _problem(self, problem: Exception) -> None:
        error = f"{type(problem).__name__}: {problem}"
        log("ERROR", "a failure stays where it is", error=error)
        self.problems.append(error)

    def _answer(self, **numbers: int | bool) -> dict[str, Any]:
        """Raises `ReprocessError` where something was refused, so that somebody learns of it."""
        outcomes = Counter(line["outcome"] for line in self.told)
        if self.problems:
            texts = "; ".join(list(dict.fromkeys(self.problems))[:10])
            raise ReprocessError(f"refused {len(self.problems)} times, all else was done ({dict(outcomes)}): {texts}")
        return {
            **numbers,
            "outcomes": dict(outcomes),
            "stopped": self.stopped,
            "failures": self.told[:MOST_TOLD],
        }


COUNTED_AS = {
    Outcome.RESTARTED: "Restarted",
    Outcome.REDRIVEN: "Redriven",
    Outcome.BEFORE: "AlreadyStarted",
    Outcome.NOT_YET: "NotYet",
}

ACTIONS: dict[str, Callable[[Reprocessor, Mapping[str, Any]], dict[str, Any]]] = {
    "list": Reprocessor.list_,
    "reprocess": Reprocessor.reprocess,
    "park": Reprocessor.park,
    "release": Reprocessor.release,
    "drop": Reprocessor.drop,
}


def _short(history: list[dict[str, str]]) -> list[dict[str, str]]:
    """As much of the end of a history as an attribute takes."""
    while len(history) > 1 and len(json.dumps(history)) > LONGEST_ATTRIBUTE:
        history = history[1:]
    return history

"""A world for the reprocessor to go wrong in: queues that deliver twice, functions that die, and Step Functions.

The reprocessors are the real ones, with the real edges of SQS and Step Functions; their clients work on `World`. Each
reprocessor is a thread that stops before every request and goes on when it is told to, so a test decides about every
order of things. Only one of them ever moves.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, NoReturn, TypeVar

from botocore.exceptions import ClientError

from pipeline.patience import Patience, TimeIsOverError
from spool.decide import Way
from spool.envelope import Envelope, UnreadableError, read, write
from spool.machines import Machines
from spool.queues import Queue
from spool.reprocessor import ACTIONS, ReprocessError, Reprocessor, Settings

MACHINE = "arn:aws:states:eu-central-1:111122223333:stateMachine:work"
SPOOL, QUARANTINE = "spool", "quarantine"
START = 1_800_000_000.0

Answer = TypeVar("Answer")


class KilledError(BaseException):
    """The function's process has ended."""


class ViolationError(AssertionError):
    """Something that must always hold does not."""


def hold(condition: object, rule: str, *facts: object) -> None:
    if not condition:
        raise ViolationError(f"{rule}: {facts}")


def refuse(code: str, status: int = 400) -> NoReturn:
    response: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    raise ClientError(response, "request")


# --- what there is --------------------------------------------------------------------------------------------------


@dataclass
class Letter:
    """A message that lies in a queue."""

    id: str
    body: str
    hidden: bool = False
    receives: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Execution:
    """An execution, as Step Functions knows it."""

    arn: str
    name: str
    input: str
    status: str = "RUNNING"
    redrives: int = 0
    redrivable: bool = True
    caught: bool = False
    before: tuple[str, int] = ("RUNNING", 0)
    """Its status and its redrives until the last change."""
    tokens: set[str] = field(default_factory=set)

    def change(self, status: str, redrives: int) -> None:
        self.before = (self.status, self.redrives)
        self.status, self.redrives = status, redrives


@dataclass
class Known:
    """A failure that was spooled, and what was begun for it."""

    envelope: Envelope
    began: list[str] = field(default_factory=list)
    gone: str = ""
    """Who took it away for good: an operator who dropped it, or a purge."""


@dataclass
class World:
    """Everything there is. `rng` decides what nobody has a say in."""

    rng: Random
    now: float = START
    queues: dict[str, dict[str, Letter]] = field(default_factory=lambda: {SPOOL: {}, QUARANTINE: {}})
    executions: dict[str, Execution] = field(default_factory=dict)
    failures: dict[tuple[str, int], Known] = field(default_factory=dict)
    ways: dict[tuple[str, int], Way] = field(default_factory=dict)
    pardons: dict[str, int] = field(default_factory=dict)
    actors: list["Actor"] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    """Bodies that nobody can read, which must not get lost either."""
    faults: bool = True
    throttled: bool = False
    number: int = 0
    requests: list[str] = field(default_factory=list)
    violations: list[Exception] = field(default_factory=list)

    # --- what happens -----------------------------------------------------------------------------------------------

    def begin(self) -> Execution:
        """A fresh execution runs, with an input of its own."""
        self.number += 1
        # Numbers that would not survive being read and written, and text that looks like the end of the input.
        text = f'{{"order": "o-{self.number}", "price": 1.10, "big": 1e400, "text": "\\"}}, é \\ud83d"}}'
        name = f"run-{self.number}"
        return self.start(name, text)

    def start(self, name: str, text: str) -> Execution:
        execution = Execution(f"{MACHINE.replace('stateMachine', 'execution')}:{name}", name, text)
        self.executions[name] = execution
        return execution

    def fail(self, execution: Execution, *, caught: bool, copies: int = 1, error: str = "Down") -> None:
        execution.change("FAILED", execution.redrives)
        execution.caught = caught
        envelope = Envelope(
            input=execution.input,
            error=error,
            cause="the neighbour is down",
            state_machine=MACHINE,
            execution=execution.arn,
            execution_name=execution.name,
            execution_started_at="2027-01-15T08:00:00.000Z",
            failed_at=f"2027-01-15T08:{self.number % 60:02}:00.000Z",
            failed_state="Call",
            status="FAILED",
            redrive_count=execution.redrives,
            caught=caught,
        )
        self.failures[envelope.id, envelope.attempt] = Known(envelope)
        for _ in range(copies):
            self.put(SPOOL, write(envelope))

    def succeed(self, execution: Execution) -> None:
        execution.change("SUCCEEDED", execution.redrives)

    def put(self, queue: str, body: str, attributes: Mapping[str, Any] | None = None) -> None:
        self.number += 1
        self.queues[queue][f"m-{self.number}"] = Letter(f"m-{self.number}", body, attributes=attributes or {})

    def put_unreadable(self, body: str) -> None:
        self.others[body] = body
        self.put(SPOOL, body)

    def time_passes(self) -> None:
        """All that was taken and neither deleted nor given back is seen again."""
        for queue in self.queues.values():
            for letter in queue.values():
                letter.hidden = False

    def purge(self) -> None:
        self.queues[SPOOL].clear()
        for failure in self.failures.values():
            if not self._is_kept(failure) and not failure.began:
                failure.gone = "purged"
        for body in list(self.others):
            if all(letter.body != body for letter in self.queues[QUARANTINE].values()):
                del self.others[body]

    def call(self, event: dict[str, Any], *, mode: str = "restart", ramp: int = 0, workers: int = 1) -> "Actor":
        """A function is called; it stands before its first request."""
        options = Settings(targets=[MACHINE], mode=mode, most=1000, ramp=ramp, ramp_seconds=4, workers=workers)
        actor = Actor(self, event, options)
        self.actors.append(actor)
        actor.begin()
        return actor

    def run(self, event: dict[str, Any], **options: Any) -> dict[str, Any]:
        """A function is called, and nothing happens besides."""
        actor = self.call(event, **options)
        while not actor.ended:
            actor.step()
        self.actors.remove(actor)
        if actor.error is not None:
            raise actor.error
        return actor.answer

    def end(self) -> None:
        """All functions that are under way die."""
        for actor in self.actors:
            actor.kill()
        self.actors.clear()

    # --- what must always hold --------------------------------------------------------------------------------------

    def check(self) -> None:
        for failure in self.failures.values():
            hold(len(failure.began) <= 1, "no failure is run again twice", failure)
            if not failure.began and not failure.gone:
                hold(self._is_kept(failure), "no failure is nowhere", failure)
        for body in self.others:
            kept = any(letter.body == body for queue in self.queues.values() for letter in queue.values())
            hold(kept, "nothing is lost that cannot be read", body)
        for problem in self.violations:
            raise problem
        for actor in self.actors:
            hold(
                actor.error is None or isinstance(actor.error, ReprocessError | TimeIsOverError),
                "a reprocessor has a bug",
                repr(actor.error),
            )

    def _is_kept(self, failure: Known) -> bool:
        wanted = (failure.envelope.id, failure.envelope.attempt)
        return any(wanted == self._which(letter) for queue in self.queues.values() for letter in queue.values())

    def _which(self, letter: Letter) -> tuple[str, int] | None:
        try:
            envelope = read(letter.body)
        except UnreadableError:
            return None
        return (envelope.id, envelope.attempt)

    def bodies(self, queue: str) -> list[str]:
        return [letter.body for letter in self.queues[queue].values()]

    def restarted(self) -> list[str]:
        """The names of the executions that were started for failures, in order."""
        return [name for name in self.executions if name.startswith("again-")]


# --- a function that runs -------------------------------------------------------------------------------------------


class Actor:
    """A call of the reprocessor, which stops before each request."""

    def __init__(self, world: World, event: dict[str, Any], settings: Settings) -> None:
        self.world = world
        self.left = 900.0
        self.ended = False
        self.answer: dict[str, Any] = {}
        self.error: BaseException | None = None
        self._dies: Literal["", "before", "after"] = ""
        self._dead = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, args=(event,), daemon=True)
        patience = OwnTime(self)
        self.reprocessor = Reprocessor(
            spool=Queue(SqsClient(self), SPOOL, patience, workers=1),
            quarantine=Queue(SqsClient(self), QUARANTINE, patience, workers=1),
            ledger=MemoryLedger(self),
            machines=Machines(StatesClient(self), None, OwnTime(self, reserve=15)),
            settings=settings,
            remaining=lambda: self.left,
            clock=lambda: self.world.now,
            sleep=self.sleep,
        )

    def begin(self) -> None:
        self._thread.start()
        self._stopped.acquire()

    def step(self) -> None:
        """Makes one request."""
        if not self.ended:
            self._go.release()
            self._stopped.acquire()

    def kill(self, *, after: bool = False) -> None:
        """The function dies: before the request that it stands before, or after it and before it learns of that."""
        self._dies = "after" if after else "before"
        self.step()
        self._thread.join()

    def _work(self, event: dict[str, Any]) -> None:
        try:
            self.answer = ACTIONS[event["action"]](self.reprocessor, event)
        except KilledError:
            pass
        except BaseException as problem:
            self.error = problem
        self.ended = True
        self._stopped.release()

    def sleep(self, seconds: float) -> None:
        self.left -= seconds
        self.world.now += seconds
        # Others go on meanwhile.
        self.request("sleep", lambda: None)

    def request(self, name: str, work: Callable[[], Answer], *, part: Callable[[], None] | None = None) -> Answer:
        """Makes a request when it is told to. `part` is what may have been done when it dies in the midst of it."""
        if self._dead:
            raise KilledError
        self._stopped.release()
        self._go.acquire()
        self.left -= 0.05
        self.world.requests.append(name)
        if self._dies == "before":
            self._dead = True
            if part:
                part()
            raise KilledError
        try:
            return work()
        except ClientError:
            raise
        except Exception as problem:
            # The reprocessor would take it for trouble with AWS.
            self.world.violations.append(problem)
            raise
        finally:
            if self._dies == "after":
                self._dead = True
                # Whatever the answer was, it is not learned.
                raise KilledError


class OwnTime(Patience):
    """Pauses that cost the function its time, and the test none."""

    def __init__(self, actor: Actor, *, reserve: float = 0) -> None:
        super().__init__(lambda: actor.left - reserve)
        self._actor = actor

    def pause(self, attempt: int) -> None:
        self._actor.left -= min(5.0, 0.1 * 2**attempt)


# --- clients --------------------------------------------------------------------------------------------------------


class SqsClient:
    """SQS, as far as it is asked: at least once, and batches of which some entries fail."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._world = actor.world

    def get_queue_attributes(self, *, QueueUrl: str, **_: Any) -> dict[str, Any]:
        return self._actor.request("GetQueueAttributes", lambda: self._count(QueueUrl))

    def _count(self, url: str) -> dict[str, Any]:
        rng = self._world.rng
        count = sum(not letter.hidden for letter in self._world.queues[url].values())
        if self._world.faults and rng.random() < 0.3:
            # It is approximate.
            count = rng.randrange(count + 3)
        return {"Attributes": {"ApproximateNumberOfMessages": str(count)}}

    def receive_message(
        self, *, QueueUrl: str, MaxNumberOfMessages: int, VisibilityTimeout: int, **_: Any
    ) -> dict[str, Any]:
        return self._actor.request("ReceiveMessage", lambda: self._receive(QueueUrl, MaxNumberOfMessages))

    def _receive(self, url: str, most: int) -> dict[str, Any]:
        rng, faults = self._world.rng, self._world.faults
        letters = list(self._world.queues[url].values())
        # Now and then a message is seen although somebody else has it.
        seen = [letter for letter in letters if not letter.hidden or (faults and rng.random() < 0.02)]
        if faults:
            rng.shuffle(seen)
        for letter in seen[:most]:
            letter.hidden = True
            letter.receives += 1
        return {
            "Messages": [
                {
                    "MessageId": letter.id,
                    "Body": letter.body,
                    "ReceiptHandle": letter.id,
                    "Attributes": {
                        "SentTimestamp": str(int(self._world.now * 1000)),
                        "ApproximateReceiveCount": str(letter.receives),
                    },
                    "MessageAttributes": letter.attributes,
                }
                for letter in seen[:most]
            ]
        }

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        queue = self._world.queues[QueueUrl]
        return self._batch("DeleteMessageBatch", Entries, lambda letter: queue.pop(letter, None))

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        def show(letter: str) -> None:
            if letter in self._world.queues[QueueUrl]:
                self._world.queues[QueueUrl][letter].hidden = False

        return self._batch("ChangeMessageVisibilityBatch", Entries, show)

    def _batch(self, name: str, entries: list[dict[str, Any]], work: Callable[[str], object]) -> dict[str, Any]:
        rng = self._world.rng
        hold(1 <= len(entries) <= 10, "a batch is of 1 to 10", entries)

        def some() -> None:
            for entry in entries[: rng.randrange(len(entries) + 1)]:
                work(entry["ReceiptHandle"])

        def all_of_them() -> dict[str, Any]:
            failed = [entry for entry in entries if self._world.faults and rng.random() < 0.05]
            for entry in entries:
                if entry not in failed:
                    work(entry["ReceiptHandle"])
            return {
                "Failed": [
                    {"Id": entry["Id"], "SenderFault": rng.random() < 0.3, "Code": "InternalError"} for entry in failed
                ]
            }

        return self._actor.request(name, all_of_them, part=some)

    def send_message(self, *, QueueUrl: str, MessageBody: str, MessageAttributes: Mapping[str, Any]) -> dict[str, Any]:
        def send() -> dict[str, Any]:
            hold(len(MessageAttributes) <= 10, "SQS takes 10 attributes", MessageAttributes)
            self._world.put(QueueUrl, MessageBody, MessageAttributes)
            if self._world.faults and self._world.rng.random() < 0.05:
                # It is sent, and the answer gets lost.
                refuse("InternalError", 500)
            return {}

        return self._actor.request("SendMessage", send)


class StatesClient:
    """Step Functions, as far as it is asked: a name is taken once, and a redrive's token works once."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._world = actor.world

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:
        return self._actor.request("StartExecution", lambda: self._start(stateMachineArn, name, input))

    def _start(self, machine: str, name: str, text: str) -> dict[str, Any]:
        self._may_be_busy()
        hold(machine == MACHINE and len(name) <= 80, "only targets are started", machine, name)
        known = self._world.executions.get(name)
        if known is not None:
            if known.status == "RUNNING" and known.input == text:
                return {}
            refuse("ExecutionAlreadyExists")
        _, id_, attempt = name.split("-")
        failure = self._world.failures[id_, int(attempt) - 1]
        hold(text == failure.envelope.input, "the input is as it was", text, failure)
        self._world.start(name, text)
        failure.began.append(name)
        self._may_lose_the_answer()
        return {}

    def redrive_execution(self, *, executionArn: str, clientToken: str) -> dict[str, Any]:
        return self._actor.request("RedriveExecution", lambda: self._redrive(executionArn, clientToken))

    def _redrive(self, arn: str, token: str) -> dict[str, Any]:
        self._may_be_busy()
        execution = self._find(arn)
        if token in execution.tokens:
            return {}
        if execution.status != "FAILED" or not execution.redrivable:
            refuse("ExecutionNotRedrivable")
        known = self._failure_of(execution)
        execution.tokens.add(token)
        hold(not execution.caught, "what was caught would fail at once, and nobody would tell", execution)
        execution.change("RUNNING", execution.redrives + 1)
        known.began.append(f"{execution.name} redriven")
        self._may_lose_the_answer()
        return {}

    def _failure_of(self, execution: Execution) -> Known:
        return next(
            known
            for known in self._world.failures.values()
            if known.envelope.execution == execution.arn and known.envelope.redrive_count == execution.redrives
        )

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:
        def describe() -> dict[str, Any]:
            self._may_be_busy()
            execution = self._find(executionArn)
            # Descriptions are eventually consistent.
            is_late = self._world.faults and self._world.rng.random() < 0.1
            status, redrives = execution.before if is_late else (execution.status, execution.redrives)
            redrivable = status == "FAILED" and execution.redrivable
            return {
                "status": status,
                "redriveCount": redrives,
                "redriveStatus": "REDRIVABLE" if redrivable else "NOT_REDRIVABLE",
                "redriveStatusReason": "" if redrivable else "it is too old",
            }

        return self._actor.request("DescribeExecution", describe)

    def _find(self, arn: str) -> Execution:
        return self._world.executions.get(arn.rpartition(":")[2]) or refuse("ExecutionDoesNotExist")

    def _may_be_busy(self) -> None:
        if self._world.throttled or (self._world.faults and self._world.rng.random() < 0.1):
            refuse("ThrottlingException")
        if self._world.faults and self._world.rng.random() < 0.03:
            refuse("AccessDeniedException")

    def _may_lose_the_answer(self) -> None:
        if self._world.faults and self._world.rng.random() < 0.1:
            refuse("InternalServerException", 500)


class MemoryLedger:
    """The ledger; the real one is tested against a real table."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._world = actor.world

    def settle(self, wanted: Any) -> list[Way]:
        keys = [(envelope.id, envelope.attempt) for envelope, _ in wanted]
        hold(len(set(keys)) == len(keys) <= 25, "no failure twice in a transaction", keys)

        def settle() -> list[Way]:
            settled = [self._world.ways.setdefault(key, way) for key, (_, way) in zip(keys, wanted, strict=True)]
            for key, way in zip(keys, settled, strict=True):
                if way == "drop":
                    self._world.failures[key].gone = "dropped"
            return settled

        return self._actor.request("settle", settle)

    def history(self, envelope: Envelope, *, after: int = 0) -> list[dict[str, str]]:
        return self._actor.request("history", lambda: [])

    def pardoned(self, id_: str) -> int:
        return self._actor.request("pardoned", lambda: self._world.pardons.get(id_, 0))

    def pardon(self, id_: str, attempt: int) -> None:
        def pardon() -> None:
            self._world.pardons[id_] = max(attempt, self._world.pardons.get(id_, 0))

        self._actor.request("pardon", pardon)


def inputs(world: World, queue: str) -> list[str]:
    """Which orders lie in a queue."""
    return sorted(json.loads(body)["input"]["order"] for body in world.bodies(queue))

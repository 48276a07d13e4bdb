"""The functions against the embedded AWS: failures in, executions out."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from botocore.stub import ANY, Stubber

from embedded_aws import EmbeddedAws
from pipeline.patience import Patience, TimeIsOverError
from spool import inlet, machines, queues, reconciler, reprocessor, spooling
from spool.decide import Message
from spool.envelope import Envelope, read, write
from spool.parallel import Pace
from spool.queues import MOST_RECEIVES, Queue
from spool.reprocessor import ReprocessError
from spool.requests import InvalidRequestError
from tests.embedded_aws.machines import ending, make_machine, task
from tests.lambda_src.spool.tables import spool_table
from tests.lambda_src.spool.test_spool_envelope import envelope

SENDS = {
    "StartAt": "Work",
    "States": {"Work": task("sqs:sendMessage", {"QueueUrl.$": "$.queue", "MessageBody.$": "$.order"})},
}
"""Fails at its task while there is no such queue."""

GIVES_UP = {"StartAt": "Give up", "States": {"Give up": {"Type": "Fail", "Error": "Down", "Cause": "no answer"}}}


class Context:
    """A function's time: 60 seconds from the start."""

    def __init__(self) -> None:
        self._end = time.monotonic() + 60

    def get_remaining_time_in_millis(self) -> int:
        return round((self._end - time.monotonic()) * 1000)


class Account:
    """A spool and a state machine."""

    def __init__(self, aws: EmbeddedAws, table: str) -> None:
        self.aws, self.table = aws, table
        self.sqs, self.states, self.s3 = (aws.client(name) for name in ("sqs", "stepfunctions", "s3"))
        self.name = f"spool-{uuid4().hex[:8]}"
        self.spool = self.sqs.create_queue(QueueName=self.name)["QueueUrl"]
        self.quarantine = self.sqs.create_queue(QueueName=f"{self.name}-quarantine")["QueueUrl"]
        self.s3.create_bucket(Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.missing = self.spool.replace(self.name, f"{self.name}-work")
        self.machine = make_machine(aws, SENDS)

    def fail(self, order: str = "o-1", machine: str = "") -> str:
        """The ARN of an execution that has failed."""
        text = json.dumps({"order": order, "queue": self.missing})
        execution = self.states.start_execution(stateMachineArn=machine or self.machine, input=text)["executionArn"]
        assert ending(self.aws, execution).status == "FAILED"
        return str(execution)

    def recover(self) -> None:
        """The neighbour is back."""
        self.sqs.create_queue(QueueName=f"{self.name}-work")

    def put(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.spool, MessageBody=body)

    def look(self, url: str) -> list[dict[str, Any]]:
        """All messages of a queue, which stay visible."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
            if not (messages := page.get("Messages", [])):
                break
            found += messages
        for each in found:
            self.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"], VisibilityTimeout=0)
        return found

    def spooled(self) -> list[Envelope]:
        return [read(each["Body"]) for each in self.look(self.spool)]

    def executions(self) -> list[str]:
        """The names of those that were started again."""
        found = self.states.list_executions(stateMachineArn=self.machine, maxResults=1000)["executions"]
        return sorted(each["name"] for each in found if each["name"].startswith("again-"))


@pytest.fixture
def account(embedded_aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with spool_table(embedded_aws.client("dynamodb")) as table:
        here = Account(embedded_aws, table)
        variables = {
            "QUEUE_URL": here.spool,
            "QUARANTINE_URL": here.quarantine,
            "TABLE_NAME": table,
            "BUCKET": here.name,
            "SPOOL": "Orders",
            "BACK_SECONDS": "3600",
            "TARGETS": json.dumps([here.machine]),
            "MODE": "restart",
            "MOST": "10",
            "STARTS_PER_SECOND": "0",
            "MOST_ATTEMPTS": "3",
            "RAMP": "0",
            "RAMP_SECONDS": "5",
            "KEY_PATH": "$.order",
        }
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        for module in (spooling, reprocessor, reconciler):
            for service, client in (("sqs", here.sqs), ("stepfunctions", here.states), ("s3", here.s3)):
                if hasattr(module, service):
                    monkeypatch.setattr(module, service, lambda client=client: client)
            if hasattr(module, "dynamodb"):
                monkeypatch.setattr(module, "dynamodb", lambda: embedded_aws.client("dynamodb"))
        yield here


def tell(execution: str) -> bool:
    found: bool = inlet.handle({"detail": {"executionArn": execution, "status": "FAILED"}}, Context())["spooled"]
    return found


def ask(**event: Any) -> dict[str, Any]:
    return reprocessor.handle(event, Context())


# --- ways in ----------------------------------------------------------------------------------------------------------


def test_a_failure_is_kept_with_all_there_is_to_know(account: Account) -> None:
    execution = account.fail("o-7")

    assert tell(execution)

    (found,) = account.spooled()
    described = account.states.describe_execution(executionArn=execution)
    assert found.input == described["input"]
    assert (found.execution, found.state_machine, found.status) == (execution, account.machine, "FAILED")
    assert (found.error, found.cause) == (described["error"], described["cause"])
    assert (found.failed_state, found.caught, found.attempt) == ("Work", False, 1)


def test_the_same_failure_is_spooled_once(account: Account) -> None:
    execution = account.fail()

    assert [tell(execution), tell(execution)] == [True, False]

    assert len(account.spooled()) == 1


def test_an_execution_that_gave_up_itself_counts_as_caught(account: Account) -> None:
    assert tell(account.fail(machine=make_machine(account.aws, GIVES_UP)))

    (found,) = account.spooled()
    assert (found.error, found.cause, found.failed_state, found.caught) == ("Down", "no answer", "Give up", True)


def test_a_long_input_waits_in_the_bucket(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "LONGEST_BODY", 10_000)
    order = "é" * 5000
    tell(account.fail(order))

    (found,) = account.spooled()
    assert found.input is None
    account.recover()
    assert ask(action="reprocess")["outcomes"] == {"restarted": 1}
    (name,) = account.executions()
    started = account.states.describe_execution(executionArn=found.next_execution)
    assert (started["name"], json.loads(started["input"])["order"]) == (name, order)


def test_what_runs_or_ended_well_is_not_spooled(account: Account) -> None:
    account.recover()
    text = json.dumps({"order": "o-1", "queue": account.missing})
    execution = account.states.start_execution(stateMachineArn=account.machine, input=text)["executionArn"]
    assert ending(account.aws, execution).status == "SUCCEEDED"

    assert not tell(execution)
    assert not tell(f"{execution}-of-long-ago")


@pytest.mark.parametrize("event", [None, {}, {"detail": {}}, {"detail": {"executionArn": 1}}, []])
def test_an_event_of_something_else_is_refused(event: object, account: Account) -> None:
    with pytest.raises(InvalidRequestError, match="the event must be a status change of an execution"):
        inlet.handle(event, Context())


def test_the_reconciler_finds_what_no_event_told_of(account: Account) -> None:
    known, *unknown = [account.fail(f"o-{number}") for number in range(4)]
    tell(known)
    event = {"stateMachine": account.machine, "statuses": ["FAILED", "TIMED_OUT"]}

    assert reconciler.handle(event, Context()) == {"found": 4, "recovered": 3}
    assert reconciler.handle(event, Context()) == {"found": 4, "recovered": 0}
    assert {each.execution for each in account.spooled()} == {known, *unknown}


def test_the_reconciler_leaves_what_is_long_ago(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.fail()
    monkeypatch.setenv("BACK_SECONDS", "-10")

    found = reconciler.handle({"stateMachine": account.machine, "statuses": ["FAILED"]}, Context())
    assert found == {"found": 0, "recovered": 0}


@pytest.mark.parametrize("event", [None, {}, {"stateMachine": "arn"}, {"stateMachine": "arn", "statuses": ["RUNNING"]}])
def test_a_reconciler_needs_a_machine_and_endings(event: object, account: Account) -> None:
    with pytest.raises(InvalidRequestError):
        reconciler.handle(event, Context())


# --- ways out ---------------------------------------------------------------------------------------------------------


def test_failures_are_run_again_in_few_requests(account: Account) -> None:
    for number in range(40):
        account.put(write(envelope(state_machine=account.machine, execution=f"e-{number}")))
    account.recover()
    before = account.aws.requests()

    answer = ask(action="reprocess", max="all")

    assert answer["outcomes"] == {"restarted": 40}
    assert (answer["found"], answer["chosen"], answer["stopped"]) == (40, 40, "")
    assert len(account.executions()) == 40
    assert account.look(account.spool) == []
    made = account.aws.requests() - before
    assert made["states:StartExecution"] == 40
    # One receive, one start and one delete each would be 120.
    assert made.total() < 70


@pytest.mark.parametrize("counted", [0, 1, 7, 30])
def test_nothing_is_left_behind_however_many_sqs_counts(
    account: Account, monkeypatch: pytest.MonkeyPatch, counted: int
) -> None:
    for number in range(25):
        account.put(write(envelope(state_machine=account.machine, execution=f"e-{number}")))
    monkeypatch.setattr(Queue, "count", lambda _: counted)

    answer = ask(action="reprocess", max="all")

    assert (answer["found"], answer["outcomes"]) == (25, {"restarted": 25})
    assert account.look(account.spool) == []


def test_those_that_were_not_counted_do_not_add_to_the_number_that_is_wanted(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        account.put(write(envelope(state_machine=account.machine, execution=f"e-{number}")))
    monkeypatch.setattr(Queue, "count", lambda _: 10)

    assert ask(action="reprocess", max=12)["outcomes"] == {"restarted": 12}

    assert len(account.spooled()) == 13


def test_the_oldest_ones_come_first_and_the_rest_stays(account: Account) -> None:
    for number in range(5):
        here = envelope(
            state_machine=account.machine, execution=f"e-{number}", failed_at=f"2026-11-22T06:0{9 - number}Z"
        )
        account.put(write(here))

    answer = ask(action="reprocess", max=2)

    # They are started side by side, so either may be told first.
    assert {each["failed"] for each in answer["failures"]} == {"e-4", "e-3"}
    assert sorted(each.execution for each in account.spooled()) == ["e-0", "e-1", "e-2"]


def test_a_dry_run_tells_and_leaves_everything(account: Account) -> None:
    tell(account.fail("o-7"))

    answer = ask(action="reprocess", dryRun=True, key="o-7")

    assert answer["dryRun"] is True
    assert [each["outcome"] for each in answer["failures"]] == ["would restart"]
    assert account.executions() == []
    assert ask(action="reprocess", dryRun=True, key="o-8")["chosen"] == 0
    assert len(account.spooled()) == 1


def test_a_redrive_resumes_the_execution_itself(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODE", "redrive")
    execution = account.fail()
    tell(execution)
    account.recover()

    assert ask(action="reprocess")["outcomes"] == {"redriven": 1}

    assert ending(account.aws, execution).status == "SUCCEEDED"
    assert account.executions() == []
    assert account.spooled() == []


def test_what_cannot_be_redriven_is_restarted_and_the_answer_says_so(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODE", "redrive")
    account.put(write(envelope(state_machine=account.machine, execution=f"{account.machine}x")))
    account.put(write(envelope(state_machine=account.machine, execution="caught", caught=True)))

    answer = ask(action="reprocess")

    assert answer["outcomes"] == {"restarted": 2}
    assert {each["instead"] for each in answer["failures"]} == {
        "the execution is not known any more",
        "caught in the state machine",
    }


def test_what_keeps_failing_goes_to_the_quarantine_with_its_history(account: Account) -> None:
    execution = account.fail("o-7")
    for _ in range(2):
        tell(execution)
        assert ask(action="reprocess")["outcomes"] == {"restarted": 1}
        execution = f"{account.machine.replace('stateMachine', 'execution')}:{account.executions()[-1]}"
        assert ending(account.aws, execution).status == "FAILED"
    tell(execution)

    assert ask(action="reprocess")["outcomes"] == {"quarantined": 1}

    (parked,) = account.look(account.quarantine)
    notes = {name: each["StringValue"] for name, each in parked["MessageAttributes"].items()}
    assert (notes["reason"], notes["attempts"]) == ("it failed 3 times", "3")
    assert len(json.loads(notes["history"])) == 3
    assert notes["firstFailedAt"] == json.loads(notes["history"])[0]["failedAt"]
    assert ask(action="list")["quarantined"] == 1

    assert ask(action="release", id=notes["id"])["outcomes"] == {"released": 1}
    account.recover()
    assert ask(action="reprocess")["outcomes"] == {"restarted": 1}
    assert account.executions()[-1].endswith("-4")


def test_an_attempt_that_a_semaphore_did_not_let_in_is_none(account: Account) -> None:
    first = envelope(state_machine=account.machine, execution="first")
    names = ["first", *(f"again-{first.id}-{attempt}" for attempt in range(2, 7))]
    errors = ["Down", "Semaphore.Paused", "Semaphore.Busy", "Down", "Semaphore.WaitTimeout", "Down"]
    outcomes = []
    for name, error in zip(names, errors, strict=True):
        account.put(write(replace(first, execution=name, execution_name=name, error=error)))
        outcomes += ask(action="reprocess")["outcomes"]

    # The third "Down" is one too many.
    assert outcomes == ["restarted"] * 5 + ["quarantined"]


def test_what_cannot_be_read_goes_to_the_quarantine_and_can_be_dropped(account: Account) -> None:
    account.put("not <ours>")
    account.put(write(envelope(state_machine=account.machine)))

    assert ask(action="reprocess")["outcomes"] == {"restarted": 1}

    (parked,) = ask(action="list")["quarantinedUnreadable"]
    assert "the body must be a JSON object" in parked["why"]
    assert ask(action="drop", id=parked["id"], confirm=True)["chosen"] == 1
    assert account.look(account.quarantine) == []


def test_an_input_that_is_gone_goes_to_the_quarantine(account: Account) -> None:
    body = json.loads(write(envelope(state_machine=account.machine)))
    del body["input"]
    account.put(json.dumps({**body, "inputLocation": {"bucket": account.name, "key": "gone"}}))

    assert ask(action="reprocess")["outcomes"] == {"quarantined": 1}

    (parked,) = account.look(account.quarantine)
    assert "NoSuchKey" in parked["MessageAttributes"]["reason"]["StringValue"]


def test_a_state_machine_that_is_no_target_is_told_and_left(account: Account) -> None:
    account.put(write(envelope(state_machine="arn:other")))

    assert ask(action="reprocess")["notATarget"] == 1
    assert ask(action="list")["notATarget"] == 1
    assert len(account.spooled()) == 1


def test_what_is_refused_stays_and_is_told(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = f"{account.machine}-gone"
    monkeypatch.setenv("TARGETS", json.dumps([account.machine, gone]))
    account.put(write(envelope(state_machine=gone, execution="a")))
    account.put(write(envelope(state_machine=account.machine, execution="b")))

    with pytest.raises(ReprocessError, match=r"refused 1 times, .*'restarted': 1.*StateMachineDoesNotExist"):
        ask(action="reprocess")

    assert [each.execution for each in account.spooled()] == ["a"]


def test_it_stops_when_the_first_ones_fail_again(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMP", "2")
    monkeypatch.setattr(reprocessor, "LOOK", 0.05)
    for number in range(6):
        tell(account.fail(f"o-{number}"))

    answer = ask(action="reprocess")

    assert answer["outcomes"] == {"restarted": 2}
    assert "the first of them failed again" in answer["stopped"]
    assert len(account.spooled()) == 4

    account.recover()
    answer = ask(action="reprocess")
    assert (answer["outcomes"], answer["stopped"]) == ({"restarted": 4}, "")


def test_operators_park_what_they_name(account: Account) -> None:
    for number, error in enumerate(["Down", "Down", "Bug"]):
        account.put(write(envelope(state_machine=account.machine, execution=f"e-{number}", error=error)))

    assert ask(action="park", error="Down")["outcomes"] == {"quarantined": 2}

    listed = ask(action="list")
    assert [(each["error"], each["count"]) for each in listed["errors"]] == [("Bug", 1)]
    assert [(each["error"], each["count"]) for each in listed["quarantinedErrors"]] == [("Down", 2)]


def test_metrics_tell_what_was_done(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.put(write(envelope(state_machine=account.machine)))
    account.put("not ours")

    ask(action="reprocess")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = [line for line in lines if "_aws" in line]
    assert found["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "ConstructsLib/ErrorSpool"
    assert (found["Spool"], found["Restarted"], found["Quarantined"], found["NotATarget"]) == ("Orders", 1, 1, 0)
    assert 0 <= found["OldestFailureSeconds"] < 60


@pytest.mark.parametrize("event", [None, {}, {"action": "x"}, {"action": ["list"]}, {"action": "list", "max": 1}, []])
def test_a_request_that_makes_no_sense_is_refused(event: object, account: Account) -> None:
    with pytest.raises(InvalidRequestError):
        reprocessor.handle(event, Context())


# --- queues, and the pace ---------------------------------------------------------------------------------------------


@pytest.fixture
def queue(account: Account) -> Queue:
    return Queue(account.sqs, account.spool, Patience(lambda: 60))


def test_what_is_given_back_is_there_at_once(account: Account, queue: Queue) -> None:
    for number in range(25):
        account.put(str(number))

    taken = queue.receive(100, seconds=60)
    assert sorted(int(each.body) for each in taken) == list(range(25))
    assert queue.receive(100, seconds=60) == []
    queue.give_back(taken[:5])
    queue.delete(taken[5:])
    assert {each.body for each in queue.receive(100, seconds=60)} == {each.body for each in taken[:5]}


def test_it_does_not_look_for_more_than_is_enough(account: Account, queue: Queue) -> None:
    for number in range(25):
        account.put(str(number))
    before = account.aws.requests()["sqs:ReceiveMessage"]

    assert queue.count() == 25
    assert len(queue.receive(100, seconds=60, enough=25)) == 25

    assert account.aws.requests()["sqs:ReceiveMessage"] - before == 3
    assert queue.count() == 0


def test_a_message_that_was_received_often_is_replaced(account: Account, queue: Queue) -> None:
    account.put("old")
    (message,) = queue.receive(10, seconds=60)
    queue.give_back([Message(id=message.id, body="old", handle=message.handle, receives=MOST_RECEIVES)])

    (found,) = queue.receive(10, seconds=60)
    assert (found.body, found.receives) == ("old", 1)
    assert found.id != message.id


def test_what_a_batch_did_not_delete_is_deleted_again(account: Account, queue: Queue) -> None:
    messages = [Message(id=str(number), body="x", handle=f"h{number}") for number in range(3)]
    failed = [
        {"Id": "0", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"},
        {"Id": "2", "SenderFault": False, "Code": "InternalError"},
    ]
    with Stubber(account.sqs) as stub:
        stub.add_response(
            "delete_message_batch", {"Successful": [], "Failed": failed}, {"QueueUrl": ANY, "Entries": ANY}
        )
        again = [{"Id": "2", "ReceiptHandle": "h2"}]
        stub.add_response(
            "delete_message_batch", {"Successful": [], "Failed": []}, {"QueueUrl": account.spool, "Entries": again}
        )

        queue.delete(messages)

        stub.assert_no_pending_responses()


def test_notes_are_plain_and_never_make_a_message_too_long(account: Account, queue: Queue) -> None:
    message = Message(id="1", body="é", handle="h")
    queue.send(message, {"reason": "line\n\x00 é \U0001f389" + "x" * 9000, "empty": ""})

    (found,) = account.look(account.spool)
    (note,) = found["MessageAttributes"].values()
    assert note["StringValue"].startswith("line ? \\xe9 \\U0001f389xxx")
    assert len(note["StringValue"]) == queues.LONGEST_ATTRIBUTE
    assert queues._size("x" * 1_048_570, found["MessageAttributes"]) > queues.LONGEST_MESSAGE


def paced(per_second: float, left: float) -> tuple[Callable[[], None], list[float]]:
    """A pace in a time of its own, and the times at which it lets through."""
    now, through = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    pace = Pace(per_second, lambda: left - (now[0] - 100), clock=lambda: now[0], sleep=sleep)

    def wait() -> None:
        pace.wait()
        through.append(now[0] - 100)

    return wait, through


def test_starts_are_paced_until_the_time_is_over() -> None:
    wait, through = paced(2, left=8 + 1.2)

    for _ in range(3):
        wait()
    with pytest.raises(TimeIsOverError):
        wait()
    assert through == [0, 0.5, 1.0]


def test_without_a_pace_nobody_waits() -> None:
    wait, through = paced(0, left=0)
    for _ in range(100):
        wait()
    assert through == [0] * 100


def test_every_outcome_is_counted() -> None:
    assert set(reprocessor.COUNTED_AS) == set(machines.Outcome)

"""The function: events in, answers to Step Functions and metrics out. The table is real, Step Functions is a stub."""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from embedded_aws import EmbeddedAws
from semaphore import handler, step_functions
from semaphore.handler import ContendedError, SweepError, handle
from semaphore.protocol import Committed
from semaphore.requests import InvalidRequestError, permit_id
from semaphore.table import ForeignPermitError, Table
from tests.lambda_src.semaphore.tables import semaphore_table

EXECUTION = "arn:aws:states:eu-central-1:111122223333:execution:machine:run"
ORDER = "2026-11-22T06:00:00.123Z"
NAMES = {"InUse", "Waiting", "OldestWaiterSeconds", "Granted", "WaitSeconds", "Recovered", "Skipped"}


@pytest.fixture
def table(embedded_aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    """A table, and the environment that the function finds beside it."""
    client = embedded_aws.client("dynamodb")
    with semaphore_table(client) as name:
        environment = {
            "TABLE_NAME": name,
            "SEMAPHORE": "Launches",
            "LIMIT": "2",
            "STARTS_PER_SECOND": "",
            "GRACE_SECONDS": "0",
            "PATIENCE_SECONDS": "0",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
        }
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(handler, "dynamodb", lambda: client)
        yield Table(client, name)
    step_functions.stepfunctions.cache_clear()
    step_functions.messenger.cache_clear()


@pytest.fixture
def told(table: Table) -> Iterator[Stubber]:
    """What holders are told."""
    with Stubber(step_functions.messenger()) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def asked(table: Table) -> Iterator[Stubber]:
    """Everything else that Step Functions is asked or told."""
    with Stubber(step_functions.stepfunctions()) as stub:
        yield stub
        stub.assert_no_pending_responses()


def acquire(token: str = "token", **changes: Any) -> Any:
    event = {"action": "acquire", "token": token, "execution": EXECUTION, "order": ORDER, "key": "key", "weight": 1}
    return handle({**event, **changes}, None)


def permit(token: str = "token", **changes: Any) -> dict[str, Any]:
    return {"key": "key", "id": permit_id(token), "weight": 1, **changes}


class GrantOf:
    """Equals the output that tells of a permit, whenever its holder may start."""

    def __init__(self, expected: dict[str, Any]) -> None:
        self._expected = expected

    def __eq__(self, output: object) -> bool:
        told = json.loads(str(output))
        start_at = datetime.fromisoformat(told.pop("startAt"))
        return start_at.tzinfo is not None and told == {"granted": True, "permit": self._expected}

    def __hash__(self) -> int:
        return hash(self._expected["id"])


def granted(token: str = "token", **changes: Any) -> dict[str, Any]:
    return {"taskToken": token, "output": GrantOf(permit(token, **changes))}


def expect_told(stub: Stubber, token: str = "token", **changes: Any) -> None:
    stub.add_response("send_task_success", {}, granted(token, **changes))


def metrics(text: str) -> list[dict[str, Any]]:
    """The records in the embedded metric format, each checked against its specification."""
    records = [json.loads(line) for line in text.splitlines() if '"_aws"' in line]
    for record in records:
        (directive,) = record["_aws"]["CloudWatchMetrics"]
        assert isinstance(record["_aws"]["Timestamp"], int)
        assert directive["Namespace"] == "ConstructsLib/Semaphore"
        assert directive["Dimensions"] == [["Semaphore"]]
        assert record["Semaphore"] == "Launches"
        for metric in directive["Metrics"]:
            assert metric["Name"] in NAMES
            assert metric["Unit"] in ("Count", "Seconds")
            values = record[metric["Name"]]
            values = values if isinstance(values, list) else [values]
            assert 0 < len(values) <= 100
            assert all(isinstance(value, int | float) for value in values)
    return records


# --- acquire and release ----------------------------------------------------------------------------------------------


def test_a_free_permit_is_told_at_once(told: Stubber, capsys: pytest.CaptureFixture[str]) -> None:
    expect_told(told)

    assert acquire() == {}

    (record,) = metrics(capsys.readouterr().out)
    assert record["Granted"] == 1
    assert record["WaitSeconds"][0] < 5


def test_who_gives_back_lets_in_the_next(told: Stubber, table: Table) -> None:
    expect_told(told, "first", weight=2)
    acquire("first", weight=2)
    acquire("second")
    expect_told(told, "second")

    assert handle({"action": "release", "permit": permit("first", weight=2)}, None) == {"released": True}
    assert handle({"action": "release", "permit": permit("first", weight=2)}, None) == {"released": False}

    assert [holder.permit.id for holder in table.read_all("key").held] == [permit_id("second")]


def test_a_start_is_announced_where_starts_are_paced(told: Stubber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARTS_PER_SECOND", "0.5")
    told.add_response("send_task_success", {}, {"taskToken": "token", "output": ANY})

    acquire()

    told.assert_no_pending_responses()


@pytest.mark.parametrize("error", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_who_cannot_be_told_gives_the_permit_back(error: str, told: Stubber, asked: Stubber, table: Table) -> None:
    told.add_client_error("send_task_success", error)
    asked.add_response("get_execution_history", {"events": []})

    acquire()

    assert table.usage()["key"].in_use == 0


def test_who_was_told_by_another_keeps_it(told: Stubber, asked: Stubber, table: Table) -> None:
    told.add_client_error("send_task_success", "TaskTimedOut")
    asked.add_response("get_execution_history", {"events": [tells()]})

    acquire()

    assert table.usage()["key"].in_use == 1


def test_who_began_to_give_it_back_does_not_keep_it(told: Stubber, asked: Stubber, table: Table) -> None:
    told.add_client_error("send_task_success", "TaskTimedOut")
    asked.add_response("get_execution_history", {"events": [gives_back(), tells()]})

    acquire()

    assert table.usage()["key"].in_use == 0


def test_an_unclear_answer_is_left_to_the_sweeper(
    told: Stubber, asked: Stubber, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    told.add_client_error("send_task_success", "InternalServerError", http_status_code=500)
    acquire()
    assert table.usage()["key"].in_use == 1

    asked.add_response("describe_execution", description("RUNNING"), {"executionArn": EXECUTION})
    expect_told(told)
    assert handle({"action": "sweep"}, None) == {"keys": 1, "recovered": 1}

    assert metrics(capsys.readouterr().out)[-1]["Recovered"] == 1
    assert table.read_all("key").held[0].told


def test_a_holder_that_the_sweeper_cannot_tell_either_makes_it_fail(
    told: Stubber, asked: Stubber, table: Table
) -> None:
    told.add_client_error("send_task_success", "AccessDeniedException")
    acquire()
    told.add_client_error("send_task_success", "AccessDeniedException")
    asked.add_response("describe_execution", description("RUNNING"), {"executionArn": EXECUTION})

    with pytest.raises(SweepError, match="its holder cannot be told"):
        handle({"action": "sweep"}, None)

    assert not table.read_all("key").held[0].told


def test_throttled_telling_is_repeated(told: Stubber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    told.add_client_error("send_task_success", "ThrottlingException")
    expect_told(told)

    acquire()


def test_a_busy_semaphore_is_skipped(
    told: Stubber, asked: Stubber, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_told(told, "first", weight=2)
    acquire("first", weight=2, onBusy="skip")
    asked.add_response("send_task_success", {}, {"taskToken": "second", "output": '{"granted": false}'})

    acquire("second", onBusy="skip")

    assert metrics(capsys.readouterr().out)[-1]["Skipped"] == 1
    assert table.usage()["key"].waiting == 0


def test_a_busy_semaphore_fails_who_will_not_wait(told: Stubber, asked: Stubber) -> None:
    expect_told(told, "first", weight=2)
    acquire("first", weight=2)
    expect_failure(asked, "second", "Semaphore.Busy", "no permit is free for key")

    acquire("second", onBusy="fail")


def test_who_is_always_slower_gives_up(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(Table, "commit", lambda _table, _commit: Committed.CHANGED)

    with pytest.raises(ContendedError, match="others were faster 31 times"):
        acquire()


# --- bad events -------------------------------------------------------------------------------------------------------


def expect_failure(stub: Stubber, token: str, error: str, cause: str) -> None:
    stub.add_response("send_task_failure", {}, {"taskToken": token, "error": error, "cause": cause})


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"key": ""}, 'key must be text of 1 to 1024 bytes, got ""'),
        ({"key": None}, "key must be text of 1 to 1024 bytes, got null"),
        ({"key": 7}, "key must be text of 1 to 1024 bytes, got 7"),
        ({"weight": 0}, "weight must be a whole number of at least 1, got 0"),
        ({"weight": 1.5}, "weight must be a whole number of at least 1, got 1.5"),
        ({"weight": True}, "weight must be a whole number of at least 1, got true"),
        ({"order": "yesterday"}, 'order must be the start time of the execution, got "yesterday"'),
        ({"execution": None}, "execution must be the ARN of the execution, got null"),
        ({"onBusy": "panic"}, 'onBusy must be wait, skip or fail, got "panic"'),
    ],
)
def test_a_bad_request_fails_its_state(changes: Mapping[str, Any], cause: str, asked: Stubber) -> None:
    expect_failure(asked, "token", "Semaphore.InvalidRequest", cause)

    acquire(**changes)


def test_a_weight_above_the_limit_is_refused(asked: Stubber) -> None:
    cause = "weight must be at most the limit, 2, got 3"
    expect_failure(asked, "token", "Semaphore.WeightAboveLimit", cause)

    acquire(weight=3)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (None, "the event needs an action"),
        ({}, "the event needs an action"),
        ({"action": "destroy"}, "the event needs an action, one of acquire, release, ended"),
        ({"action": ["acquire"]}, "the event needs an action"),
        ({"action": "acquire"}, "acquire needs the task's token"),
        ({"action": "ended"}, "ended needs the ARN of an execution"),
        ({"action": "release"}, "permit must be what acquire returned, got null"),
        ({"action": "release", "permit": {"id": "x", "key": "key"}}, "permit must be one of this semaphore"),
        ({"action": "set-limit", "limit": 0}, "limit must be a whole number of at least 1"),
        ({"action": "set-limit", "limit": "5"}, "limit must be a whole number of at least 1"),
        ({"action": "pause", "key": 5}, "key must be text"),
    ],
)
def test_an_event_that_makes_no_sense_is_an_error(event: object, message: str, table: Table) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        handle(event, None)


def test_a_permit_that_was_tampered_with_is_an_error(told: Stubber) -> None:
    expect_told(told)
    acquire()

    with pytest.raises(ForeignPermitError, match="another weight"):
        handle({"action": "release", "permit": permit(weight=2)}, None)


# --- the end of an execution, the sweeper, the operator ---------------------------------------------------------------


def description(status: str, **times: datetime) -> dict[str, Any]:
    machine = EXECUTION.replace("execution", "stateMachine").rpartition(":")[0]
    start = datetime.now(UTC) - timedelta(hours=1)
    return {"executionArn": EXECUTION, "stateMachineArn": machine, "status": status, "startDate": start, **times}


def event_in_history(type_: str, **details: Any) -> dict[str, Any]:
    return {"timestamp": datetime.now(UTC), "type": type_, "id": 5, **details}


def tells() -> dict[str, Any]:
    output = json.dumps({"granted": True, "permit": permit()})
    details = {"resourceType": "lambda", "resource": "invoke.waitForTaskToken", "output": output}
    return event_in_history("TaskSucceeded", taskSucceededEventDetails=details)


def gives_back() -> dict[str, Any]:
    parameters = json.dumps({"FunctionName": "f", "Payload": {"action": "release", "permit": permit()}})
    details = {
        "resourceType": "lambda",
        "resource": "invoke",
        "region": "eu-central-1",
        "parameters": parameters,
    }
    return event_in_history("TaskScheduled", taskScheduledEventDetails=details)


def test_an_execution_that_ended_gives_back(told: Stubber, table: Table) -> None:
    expect_told(told, weight=2)
    acquire(weight=2)
    acquire("waiting")

    assert handle({"action": "ended", "execution": EXECUTION, "status": "ABORTED"}, None) == {"released": True}

    usage = table.usage()["key"]
    assert (usage.in_use, usage.waiting) == (0, 0)


def test_a_container_that_may_still_run_keeps_its_permit_for_a_while(
    told: Stubber, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRACE_SECONDS", "30")
    expect_told(told)
    acquire()

    assert handle({"action": "ended", "execution": EXECUTION}, None) == {"released": False}
    assert handle({"action": "sweep"}, None) == {"keys": 1, "recovered": 0}

    (holder,) = table.read_all("key").held
    assert holder.release_at == pytest.approx(time.time() + 30, abs=10)


def test_the_sweeper_finds_who_ended_without_an_event(
    told: Stubber, asked: Stubber, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_told(told)
    acquire()
    asked.add_response("describe_execution", description("ABORTED", stopDate=datetime.now(UTC)))

    assert handle({"action": "sweep"}, None) == {"keys": 1, "recovered": 1}

    record = metrics(capsys.readouterr().out)[-1]
    assert (record["InUse"], record["Waiting"], record["OldestWaiterSeconds"]) == (1, 0, 0)
    assert table.usage()["key"].in_use == 0


def test_the_sweeper_takes_the_dead_out_of_the_line(told: Stubber, asked: Stubber, table: Table) -> None:
    handle({"action": "pause"}, None)
    acquire()
    acquire("second")
    asked.add_response("send_task_heartbeat", {}, {"taskToken": ANY})
    asked.add_client_error("send_task_heartbeat", "TaskTimedOut")

    handle({"action": "sweep"}, None)

    assert table.usage()["key"].waiting == 1


def test_one_repair_that_fails_spoils_no_other(told: Stubber, asked: Stubber, table: Table) -> None:
    expect_told(told, "first")
    acquire("first")
    expect_told(told, "second", key="key-2")
    acquire("second", key="key-2")
    asked.add_client_error("describe_execution", "AccessDeniedException")
    asked.add_client_error("describe_execution", "ExecutionDoesNotExist")

    with pytest.raises(SweepError, match=r"failed 1 times, all else was done: key.*AccessDenied"):
        handle({"action": "sweep"}, None)

    assert sum(usage.in_use for usage in table.usage().values()) == 1


def test_what_an_operator_pauses_waits_until_it_is_resumed(told: Stubber, table: Table) -> None:
    answer = handle({"action": "pause"}, None)
    new_keys = {"limit": 2, "paused": True, "newWork": "wait"}
    assert answer == {"limitInCode": 2, "newKeys": new_keys, "keys": {}}
    acquire()
    assert handle({"action": "status", "key": "key"}, None)["keys"]["key"]["waiting"] == 1

    expect_told(told)
    keys = handle({"action": "resume"}, None)["keys"]

    now = {"inUse": 1, "waiting": 0, "limit": 2, "paused": False, "newWork": "wait", "oldestWaiterSeconds": 0}
    assert keys == {"key": now}


@pytest.mark.parametrize("known", [False, True])
def test_what_an_operator_has_fail_fails_until_it_is_resumed(
    known: bool, told: Stubber, asked: Stubber, table: Table
) -> None:
    if known:
        expect_told(told, "first", weight=2)
        acquire("first", weight=2)
        acquire("before")
    pause = {"action": "pause", "newWork": "fail"}
    answer = handle(pause, None)
    assert answer["newKeys"] == {"limit": 2, "paused": True, "newWork": "fail"}
    expect_failure(asked, "second", "Semaphore.Paused", "nobody is let in for key")
    acquire("second")
    # Who came before stays in line.
    assert handle({"action": "status", "key": "key"}, None)["keys"]["key"]["waiting"] == int(known)
    # The limit may be changed meanwhile, and the other kind of pause takes its place.
    handle({"action": "set-limit", "limit": 3}, None)
    expect_failure(asked, "third", "Semaphore.Paused", "nobody is let in for key")
    acquire("third")
    handle({"action": "pause"}, None)
    acquire("fourth", order=ORDER.replace("T06", "T07"))
    assert handle({"action": "status", "key": "key"}, None)["keys"]["key"]["waiting"] == 1 + int(known)
    handle(pause, None)
    if known:
        expect_told(told, "before")
    else:
        expect_told(told, "fourth")
    assert handle({"action": "resume"}, None)["newKeys"]["newWork"] == "wait"


def test_a_pause_says_wait_or_fail(table: Table) -> None:
    with pytest.raises(InvalidRequestError, match='newWork must be wait or fail, got "skip"'):
        handle({"action": "pause", "newWork": "skip"}, None)


def test_an_operators_limit_is_for_every_key_and_outlives_a_deployment(
    told: Stubber, asked: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_told(told, "first")
    acquire("first")
    answer = handle({"action": "set-limit", "limit": 1}, None)
    assert (answer["newKeys"]["limit"], answer["keys"]["key"]["limit"]) == (1, 1)

    def limits_after_a_sweep() -> tuple[int, int]:
        asked.add_response("describe_execution", description("RUNNING"))
        told.add_client_error("send_task_success", "InternalServerError", http_status_code=500)
        with pytest.raises(SweepError, match="cannot be told"):
            handle({"action": "sweep"}, None)
        answer = handle({"action": "status"}, None)
        return answer["newKeys"]["limit"], answer["keys"]["key"]["limit"]

    assert limits_after_a_sweep() == (1, 1)
    monkeypatch.setenv("LIMIT", "3")
    assert limits_after_a_sweep() == (3, 3)

"""The starter: batches of messages in, executions and dead letters out. Its table is real, the rest are stubs."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import NoCredentialsError
from botocore.stub import ANY, Stubber

from embedded_aws import EmbeddedAws
from pipeline import starter
from pipeline.objects import body_of, execution_input, execution_name, padded
from pipeline.patience import MARGIN
from tests.lambda_src.pipeline.events import BUCKET, ODD_KEYS, Time, object_event, record

MACHINE = "arn:aws:states:eu-central-1:111122223333:stateMachine:pipeline"
DEAD_LETTERS = "https://sqs.eu-central-1.amazonaws.com/111122223333/dead-letters"
NAMES = {"Started", "Duplicates", "Stale", "Ignored", "Rejected", "Delayed"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    variables = {
        "STATE_MACHINE_ARN": MACHINE,
        "DEAD_LETTERS_URL": DEAD_LETTERS,
        "BUCKET": BUCKET,
        "IGNORED_PREFIXES": '["out/", "tmp/"]',
        "MIN_SIZE": "2",
        "SEQUENCES_TABLE": "",
        "PIPELINE": "Uploads",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    yield
    for client in (starter.stepfunctions, starter.sqs, starter.dynamodb):
        client.cache_clear()


@pytest.fixture
def time_left(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch, seconds=MARGIN + 2)


@pytest.fixture
def machine(environment: None) -> Iterator[Stubber]:
    with Stubber(starter.stepfunctions()) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def dead_letters(environment: None) -> Iterator[Stubber]:
    with Stubber(starter.sqs()) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture(autouse=True)
def _nothing_else_is_called(machine: Stubber, dead_letters: Stubber) -> None:
    """Both are stubs in every test, so that what a test does not expect is an error."""


def expect_start(stub: Stubber, **changes: Any) -> None:
    event = object_event(**changes)
    expected = {
        "stateMachineArn": MACHINE,
        "name": execution_name(event),
        "input": json.dumps(execution_input(event)),
    }
    stub.add_response("start_execution", {"executionArn": "arn", "startDate": 0}, expected)


def refuse_start(stub: Stubber, code: str, status: int = 400) -> None:
    stub.add_client_error("start_execution", code, "because", http_status_code=status)


def expect_dead_letter(stub: Stubber, body: str, reason: object = ANY) -> None:
    attributes = {"reason": reason, "from": "starter"}
    expected = {
        "QueueUrl": DEAD_LETTERS,
        "MessageBody": body,
        "MessageAttributes": {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    }
    stub.add_response("send_message", {"MessageId": "1", "MD5OfMessageBody": "x"}, expected)


def handle(time_left: Time, *records: dict[str, Any]) -> list[str]:
    """The ids of the messages that have to come again."""
    answer = starter.handle({"Records": records}, time_left)
    assert set(answer) == {"batchItemFailures"}
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def counts(printed: list[dict[str, Any]]) -> dict[str, int]:
    """The one line of metrics, checked against the format."""
    (found,) = [line for line in printed if "_aws" in line]
    (directive,) = found["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "ConstructsLib/Pipeline"
    assert directive["Dimensions"] == [["Pipeline"]]
    assert found["Pipeline"] == "Uploads"
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert set(names) <= NAMES
    return {name: found[name] for name in names}


# --- starts -----------------------------------------------------------------------------------------------------------


def test_an_execution_is_started_for_each_object(
    time_left: Time, machine: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_start(machine, key="in/a.csv")
    expect_start(machine, key="in/b.csv")

    assert handle(time_left, record("1", key="in/a.csv"), record("2", key="in/b.csv")) == []

    assert counts(lines(capsys)) == {"Started": 2}


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_odd_key_reaches_its_execution_as_it_is(key: str, time_left: Time, machine: Stubber) -> None:
    expect_start(machine, key=key)

    assert handle(time_left, record("1", key=key)) == []


def test_an_event_that_was_delivered_before_starts_nothing(
    time_left: Time, machine: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_start(machine)
    refuse_start(machine, "ExecutionAlreadyExists")

    assert handle(time_left, record("1"), record("2")) == []

    assert counts(lines(capsys)) == {"Started": 1, "Duplicates": 1}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 400),
        ("ExecutionLimitExceeded", 400),
        ("InternalServerException", 500),
        ("ServiceUnavailable", 503),
    ],
)
def test_a_start_that_is_refused_for_the_moment_is_repeated(
    code: str, status: int, time_left: Time, machine: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse_start(machine, code, status)
    refuse_start(machine, code, status)
    expect_start(machine)

    assert handle(time_left, record("1")) == []

    assert counts(lines(capsys)) == {"Started": 1}
    assert time_left.slept == [0.1, 0.2]


def test_when_the_time_is_over_all_that_is_left_comes_again(
    time_left: Time, machine: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_start(machine, key="in/a.csv")
    for _ in range(5):  # 0.1, 0.2, 0.4, 0.8 and the rest of two seconds between and after them.
        refuse_start(machine, "ThrottlingException")

    left = [record("b", key="in/b.csv"), record("c", key="in/c.csv"), record("d", body="not JSON")]
    assert handle(time_left, record("a", key="in/a.csv"), *left) == ["b", "c", "d"]

    printed = lines(capsys)
    assert counts(printed) == {"Started": 1, "Delayed": 3}
    assert [line["messageId"] for line in printed if line.get("level") == "WARN"] == ["b", "c", "d"]
    assert "ThrottlingException" in printed[0]["error"]
    assert time_left.left == pytest.approx(MARGIN)


def test_after_a_call_that_took_all_the_time_nothing_more_is_asked(
    time_left: Time, machine: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_start(machine)
    machine.client.meta.events.register("provide-client-params.sfn.StartExecution", lambda **_: time_left.spend(5))

    assert handle(time_left, record("1"), record("2", key="in/b.csv")) == ["2"]

    printed = lines(capsys)
    assert counts(printed) == {"Started": 1, "Delayed": 1}
    assert printed[0]["error"] == "TimeIsOverError: the function's time is over: AWS was not asked"


@pytest.mark.parametrize("code", ["AccessDeniedException", "StateMachineDoesNotExist", "StateMachineDeleting", "Other"])
def test_a_start_that_is_refused_for_good_is_an_error_and_comes_again(
    code: str, time_left: Time, machine: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse_start(machine, code)
    expect_start(machine, key="in/b.csv")

    assert handle(time_left, record("1"), record("2", key="in/b.csv")) == ["1"]

    printed = lines(capsys)
    assert counts(printed) == {"Started": 1, "Delayed": 1}
    (error,) = [line for line in printed if line.get("level") == "ERROR"]
    assert error["messageId"] == "1"
    assert code in error["error"]


def test_missing_credentials_are_an_error_and_no_loss(
    time_left: Time, machine: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise NoCredentialsError

    machine.client.meta.events.register("provide-client-params.sfn.StartExecution", fail)

    assert handle(time_left, record("1")) == ["1"]

    assert lines(capsys)[0]["error"] == "NoCredentialsError: Unable to locate credentials"


# --- dead letters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["InvalidName", "InvalidExecutionInput"])
def test_what_step_functions_never_accepts_is_a_dead_letter(
    code: str, time_left: Time, machine: Stubber, dead_letters: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse_start(machine, code)
    reason = f"An error occurred ({code}) when calling the StartExecution operation: because"
    expect_dead_letter(dead_letters, body_of(object_event()), reason)

    assert handle(time_left, record("1")) == []

    assert counts(lines(capsys)) == {"Rejected": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("not JSON", "the message must be JSON: Expecting value: line 1 column 1 (char 0)"),
        ('{"Event": "s3:TestEvent"}', 'detail-type must be "Object Created", got nothing'),
        ("[" * 100_000, ANY),
        ('{"detail-type": "\u0001\u2028 ключ"}', ANY),
        (body_of(object_event(bucket="another")), "the bucket must be uploads, got another"),
        (body_of(object_event(bucket="Größe\x01")), r"the bucket must be uploads, got Gr\xf6\xdfe?"),
        (body_of(object_event(bucket="b" * 5000)), "the bucket must be uploads, got " + "b" * 468),
    ],
)
def test_poison_is_a_dead_letter_and_spoils_no_neighbour(
    body: str,
    reason: object,
    time_left: Time,
    machine: Stubber,
    dead_letters: Stubber,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expect_start(machine, key="in/a.csv")
    expect_dead_letter(dead_letters, body, reason)
    expect_start(machine, key="in/b.csv")

    records = [record("1", key="in/a.csv"), record("2", body=body), record("3", key="in/b.csv")]
    assert handle(time_left, *records) == []

    assert counts(lines(capsys)) == {"Started": 2, "Rejected": 1}


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("ThrottlingException", 400), ("Internal", 500)])
def test_poison_that_cannot_be_moved_comes_again(
    code: str,
    status: int,
    time_left: Time,
    machine: Stubber,
    dead_letters: Stubber,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dead_letters.add_client_error("send_message", code, http_status_code=status)
    expect_start(machine)

    assert handle(time_left, record("poison", body="not JSON"), record("good")) == ["poison"]

    assert counts(lines(capsys)) == {"Delayed": 1, "Started": 1}
    assert time_left.slept == []


def test_a_batch_of_nothing_but_poison_is_done(time_left: Time, dead_letters: Stubber) -> None:
    for _ in range(10):
        expect_dead_letter(dead_letters, "not JSON")

    assert handle(time_left, *(record(str(number), body="not JSON") for number in range(10))) == []


# --- what is not processed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": "in/folder/", "size": 0}, "a folder marker"),
        ({"key": "out/result.csv"}, "under the ignored prefix out/"),
        ({"key": "tmp/a"}, "under the ignored prefix tmp/"),
        ({"key": "in/small.csv", "size": 1}, "smaller than 2 bytes"),
    ],
)
def test_an_object_that_is_none_to_process_is_done_and_told_of(
    changes: dict[str, Any], reason: str, time_left: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    assert handle(time_left, record("1", **changes)) == []

    printed = lines(capsys)
    assert counts(printed) == {"Ignored": 1}
    assert (printed[0]["level"], printed[0]["reason"], printed[0]["key"]) == ("INFO", reason, changes["key"])


@pytest.mark.parametrize(
    "changes",
    [{"key": "in/folder/", "size": 2}, {"key": "in/out/a"}, {"key": "out"}, {"size": 2}, {"size": 10**13}],
)
def test_what_only_looks_like_it_is_processed(changes: dict[str, Any], time_left: Time, machine: Stubber) -> None:
    expect_start(machine, **changes)

    assert handle(time_left, record("1", **changes)) == []


def test_where_there_is_nothing_to_count_nothing_is_printed(
    time_left: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    assert handle(time_left) == []

    assert capsys.readouterr().out == ""


# --- stale events -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sequences(embedded_aws: EmbeddedAws, environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Reads the sequencer that is kept of a key."""
    client, name = embedded_aws.client("dynamodb"), f"sequences-{uuid4().hex[:8]}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
    )
    monkeypatch.setenv("SEQUENCES_TABLE", name)
    with monkeypatch.context() as patched:
        patched.setattr(starter, "dynamodb", lambda: client)
        yield lambda key: client.get_item(TableName=name, Key={"key": {"S": key}}, ConsistentRead=True)["Item"][
            "sequencer"
        ]["S"]
    client.delete_table(TableName=name)


def test_a_stale_event_is_dropped(
    time_left: Time, machine: Stubber, sequences: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_start(machine, sequencer="00B1")

    assert handle(time_left, record("1", sequencer="00B1"), record("2", sequencer="00A2")) == []

    printed = lines(capsys)
    assert counts(printed) == {"Started": 1, "Stale": 1}
    assert printed[0]["reason"] == "a newer event of the same key was here before"
    assert sequences("uploads/in/report.csv") == padded("00B1")


def test_newer_events_and_those_of_other_keys_go_on(time_left: Time, machine: Stubber, sequences: Any) -> None:
    good: list[dict[str, Any]] = [
        {"sequencer": "00B1"},
        {"sequencer": "00B101"},
        {"sequencer": "00C"},
        {"sequencer": "0001", "key": "in/another.csv"},
    ]
    for changes in good:
        expect_start(machine, **changes)

    assert handle(time_left, *(record(str(number), **changes) for number, changes in enumerate(good))) == []

    assert sequences("uploads/in/report.csv") == padded("00C")


def test_an_event_whose_start_failed_is_not_stale_when_it_comes_again(
    time_left: Time, machine: Stubber, sequences: Any
) -> None:
    refuse_start(machine, "AccessDeniedException")
    assert handle(time_left, record("1")) == ["1"]

    expect_start(machine)
    assert handle(time_left, record("1")) == []


def test_what_was_found_by_listing_is_never_stale(time_left: Time, machine: Stubber, sequences: Any) -> None:
    expect_start(machine, sequencer="00B1")
    expect_start(machine, sequencer="")

    assert handle(time_left, record("1", sequencer="00B1"), record("2", sequencer="")) == []

    assert sequences("uploads/in/report.csv") == padded("00B1")


@pytest.mark.parametrize("key", ODD_KEYS)
def test_the_table_takes_odd_keys(key: str, time_left: Time, machine: Stubber, sequences: Any) -> None:
    expect_start(machine, key=key)

    assert handle(time_left, record("1", key=key)) == []

    assert sequences(f"uploads/{key}") == padded(object_event().sequencer)


def test_a_busy_table_is_outlived(
    time_left: Time, machine: Stubber, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQUENCES_TABLE", "sequences")
    expect_start(machine)
    with Stubber(starter.dynamodb()) as table:
        table.add_client_error("update_item", "ProvisionedThroughputExceededException")
        table.add_response("update_item", {})

        assert handle(time_left, record("1")) == []

        table.assert_no_pending_responses()
    assert counts(lines(capsys)) == {"Started": 1}


def test_without_its_table_nothing_is_started(
    time_left: Time, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQUENCES_TABLE", "sequences")
    with Stubber(starter.dynamodb()) as table:
        table.add_client_error("update_item", "ResourceNotFoundException")

        assert handle(time_left, record("1")) == ["1"]

    printed = lines(capsys)
    assert counts(printed) == {"Delayed": 1}
    assert printed[0]["level"] == "ERROR"

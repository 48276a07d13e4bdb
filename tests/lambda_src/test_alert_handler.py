"""The alert function and the two services that it calls."""

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber

from alert import handler
from alert.message import alert_from
from tests.lambda_src.alert_cases import TASK_ID, container, not_placed, stopped_task
from tests.lambda_src.alert_events import APP_FAILED, SNS_LIMIT, ended, failed

TOPIC = "arn:aws:sns:eu-central-1:111122223333:alerts"


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Enough for the handler to make its clients, which live no longer than a test."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    monkeypatch.setenv("ALERT_TOPIC_ARN", TOPIC)
    yield
    handler.logs.cache_clear()
    handler.sns.cache_clear()


@pytest.fixture
def logs() -> Iterator[Stubber]:
    with Stubber(handler.logs()) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def sns() -> Iterator[Stubber]:
    with Stubber(handler.sns()) as stub:
        yield stub
        stub.assert_no_pending_responses()


def log_has(stub: Stubber, *lines: str) -> None:
    stub.add_response(
        "get_log_events",
        {"events": [{"timestamp": 1, "message": line, "ingestionTime": 1} for line in lines]},
        {
            "logGroupName": "/jobs/nightly",
            "logStreamName": f"report/app/{TASK_ID}",
            "limit": 20,
            "startFromHead": False,
        },
    )


def expect_message(stub: Stubber, *, kind: str, job: str, subject: object = ANY, text: object = ANY) -> None:
    attributes = {"kind": kind, "job": job}
    stub.add_response(
        "publish",
        {"MessageId": "1"},
        {
            "TopicArn": TOPIC,
            "Subject": subject,
            "Message": text,
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        },
    )


def test_a_failure_is_published_with_the_end_of_its_log(logs: Stubber, sns: Stubber) -> None:
    log_has(logs, "reading", "no such table: orders")
    text = alert_from(APP_FAILED).with_log(["reading", "no such table: orders"]).text
    expect_message(
        sns,
        kind="application",
        job="NightlyReport",
        subject="NightlyReport failed: application, exit code 3",
        text=text,
    )

    assert handler.handle(APP_FAILED, None)["text"] == text


def test_what_never_started_is_published_without_asking_for_a_log(logs: Stubber, sns: Stubber) -> None:
    expect_message(sns, kind="never started: no capacity", job="NightlyReport")

    record = handler.handle(failed("AmazonECS.Unknown", not_placed("RESOURCE:ENI")), None)

    assert "The work never started, so there is no log." in record["text"]


def test_a_log_that_cannot_be_read_does_not_stop_the_alert(logs: Stubber, sns: Stubber) -> None:
    logs.add_client_error("get_log_events", "ResourceNotFoundException", "The specified log group does not exist.")
    expect_message(sns, kind="application", job="NightlyReport")

    record = handler.handle(APP_FAILED, None)

    assert "The log could not be read: An error occurred (ResourceNotFoundException)" in record["text"]


def test_a_refusal_of_sns_is_raised_after_the_alert_is_logged(
    logs: Stubber, sns: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    log_has(logs)
    sns.add_client_error("publish", "AuthorizationError", "not authorized to perform: SNS:Publish")

    with pytest.raises(ClientError, match="AuthorizationError"):
        handler.handle(APP_FAILED, None)

    assert json.loads(capsys.readouterr().out)["kind"] == "application"


def test_without_a_topic_the_alert_is_one_json_line_in_the_log(
    logs: Stubber, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ALERT_TOPIC_ARN", raising=False)
    log_has(logs, "the end")

    record = handler.handle(APP_FAILED, None)

    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [record]


def test_a_long_log_keeps_its_end_and_fits_into_a_message(logs: Stubber, sns: Stubber) -> None:
    lines = ["€" * 100_000, "the end"]
    log_has(logs, *lines)
    expect_message(sns, kind="application", job="NightlyReport", text=alert_from(APP_FAILED).with_log(lines).text)

    text = handler.handle(APP_FAILED, None)["text"]

    assert "€\nthe end\n" in text
    assert len(text.encode()) < SNS_LIMIT


def test_the_rule_on_endings_is_published_as_well(logs: Stubber, sns: Stubber) -> None:
    expect_message(sns, kind="timed out", job="NightlyReport", subject="NightlyReport failed: timed out")

    assert handler.handle(ended("TIMED_OUT"), None)["kind"] == "timed out"


def test_a_success_is_published_as_well(logs: Stubber, sns: Stubber) -> None:
    event = failed("", "")
    event["Response"] = {"result": json.loads(stopped_task(container(exit_code=0)))}
    log_has(logs, "42 orders")
    expect_message(sns, kind="succeeded", job="NightlyReport", subject="NightlyReport succeeded, exit code 0")

    assert "42 orders" in handler.handle(event, None)["text"]


@pytest.mark.parametrize("event", [None, "text", [], {}, {"Response": 7, "Execution": [], "Job": None}])
def test_an_event_without_any_sense_is_published_as_well(event: object, logs: Stubber, sns: Stubber) -> None:
    expect_message(sns, kind="unknown", job="Unnamed job", subject="Unnamed job failed: unknown")

    assert handler.handle(event, None)["summary"] == "The event holds neither an error nor a result."

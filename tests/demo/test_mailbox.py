"""Alerts are read as they are delivered."""

import json

import pytest

from alert.message import alert_from
from demo.mailbox import Alert, Mailbox, alert_from_notification
from embedded_aws import EmbeddedAws


def test_an_alert_of_the_alert_function_is_understood() -> None:
    cause = {"Containers": [{"Name": "app", "ExitCode": 3}], "StopCode": "EssentialContainerExited"}
    event = {
        "Response": {"error": {"Error": "States.TaskFailed", "Cause": json.dumps(cause)}},
        "Job": {"name": "Report", "kind": "fargate", "containers": [{"name": "app", "essential": True}]},
    }
    made = alert_from(event).with_log(["reading", "", "nothing to read"])
    body = {
        "Subject": made.subject,
        "Message": made.text,
        "MessageAttributes": {"kind": {"Type": "String", "Value": str(made.kind)}},
    }
    alert = alert_from_notification(json.dumps(body))
    assert alert == Alert(made.subject, "application", made.text)
    assert alert.exit_code == "3"
    assert alert.log == "reading\n\nnothing to read"


def test_what_is_missing_is_none() -> None:
    alert = alert_from_notification(json.dumps({"Message": "something else"}))
    assert (alert.kind, alert.exit_code, alert.log) == ("none", "none", "none")


def test_alerts_are_found_by_execution(embedded_aws: EmbeddedAws) -> None:
    topic = embedded_aws.client("sns").create_topic(Name="alerts")["TopicArn"]
    mailbox = Mailbox(embedded_aws, topic)
    for name in ("first", "second"):
        embedded_aws.client("sns").publish(TopicArn=topic, Subject=name, Message=f"about execution:{name}")
    assert mailbox.alert_about("execution:second").subject == "second"
    assert mailbox.alert_about("execution:first").subject == "first"
    assert [alert.subject for alert in mailbox.alerts_about("execution:")] == ["first", "second"]
    with pytest.raises(TimeoutError, match="no alert"):
        mailbox.alert_about("execution:third", within=0.1)

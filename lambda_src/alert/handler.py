"""The edge of the alert function: reads the end of the job's log, logs the alert and publishes it."""

import json
import os
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from alert.message import Alert, LogStream, alert_from

LOG_LINES = 20


@cache
def logs() -> Any:
    return boto3.client("logs")


@cache
def sns() -> Any:
    return boto3.client("sns")


def handle(event: object, _context: object) -> dict[str, Any]:
    """Tells people about one job, and returns what it told them.

    Environment: `ALERT_TOPIC_ARN`, the SNS topic; without it the alert is only logged. What SNS raises is
    raised, so that the caller tries again.
    """
    alert = _with_log(alert_from(event))
    record = alert.to_dict()
    # One JSON object on one line: Logs Insights and metric filters find its fields by name.
    print(json.dumps(record))
    if topic := os.environ.get("ALERT_TOPIC_ARN"):
        _publish(alert, topic)
    return record


def _with_log(alert: Alert) -> Alert:
    """Without a log the alert is still worth sending, so nothing that goes wrong here is raised."""
    if alert.log_stream is None:
        return alert
    try:
        return alert.with_log(_last_lines(alert.log_stream))
    except (BotoCoreError, ClientError) as problem:
        return alert.without_log(str(problem))


def _last_lines(log: LogStream) -> list[str]:
    page = logs().get_log_events(logGroupName=log.group, logStreamName=log.stream, limit=LOG_LINES, startFromHead=False)
    return [event["message"] for event in page["events"]]


def _publish(alert: Alert, topic: str) -> None:
    attributes = {"kind": str(alert.kind), "job": alert.job}
    sns().publish(
        TopicArn=topic,
        Subject=alert.subject,
        Message=alert.text,
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    )

"""Amazon CloudWatch: alarms tell EventBridge of their states."""

import json
from datetime import UTC, datetime
from typing import Any

from ministack.services import cloudwatch, eventbridge

from embedded_aws.corrections.registry import AnyFunction, correction

_states: dict[str, dict[str, Any]] = {}
"""The state that was told last, by the ARN of the alarm."""


@correction(cloudwatch, "_dispatch_alarm_actions", "(alarm, old_state, new_state, reason)")
def a_change_of_an_alarm_is_an_event(
    stock: AnyFunction, alarm: dict[str, Any], old_state: str, new_state: str, reason: str
) -> None:
    """Stock: EventBridge does not hear of alarms.

    AWS: "CloudWatch Alarm State Change" whenever an alarm changes its state, also by SetAlarmState, and whether or not
    its actions are enabled.
    Document: CloudWatch User Guide, "Alarm events and EventBridge"; API Reference, "SetAlarmState".
    """
    arn = alarm["AlarmArn"]
    state = {"value": new_state, "reason": reason, "timestamp": _now()}
    if data := alarm.get("StateReasonData"):
        state["reasonData"] = data
    detail = {
        "alarmName": alarm["AlarmName"],
        "configuration": _configuration(alarm),
        "previousState": {**_states.get(arn, {}), "value": old_state},
        "state": state,
    }
    _states[arn] = state
    entry = {
        "Source": "aws.cloudwatch",
        "DetailType": "CloudWatch Alarm State Change",
        "Detail": json.dumps(detail),
        "Resources": [arn],
    }
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
    stock(alarm, old_state, new_state, reason)


def _now() -> str:
    now = datetime.now(UTC)
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}+0000"


def _configuration(alarm: dict[str, Any]) -> dict[str, Any]:
    """That of an alarm on one metric. Of the others only the description is told."""
    configuration: dict[str, Any] = {}
    if description := alarm.get("AlarmDescription"):
        configuration["description"] = description
    if name := alarm.get("MetricName"):
        dimensions = {each["Name"]: each["Value"] for each in alarm.get("Dimensions") or []}
        metric = {"name": name, "namespace": alarm["Namespace"], "dimensions": dimensions}
        stat = alarm.get("ExtendedStatistic") or alarm.get("Statistic")
        configuration["metrics"] = [
            {"metricStat": {"metric": metric, "period": alarm.get("Period"), "stat": stat}, "returnData": True}
        ]
    return configuration

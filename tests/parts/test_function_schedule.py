"""A function on a schedule, by either service of EventBridge."""

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs

from constructs_lib.parts.function_schedule import FunctionSchedule
from constructs_lib.parts.schedule_trigger import ScheduleLike
from tests.scheduled import template_of
from tests.templates import only

FUNCTION = "arn:aws:lambda:eu-central-1:111122223333:function:own"

SCHEDULES: dict[str, ScheduleLike] = {
    "rule": events.Schedule.rate(Duration.hours(1)),
    "schedule": scheduler.ScheduleExpression.rate(Duration.hours(1)),
}


def target_of(stack: cdk.Stack, kind: str, dead_letters: sqs.IQueue | None) -> dict[str, Any]:
    FunctionSchedule(
        stack,
        "Nightly",
        schedule=SCHEDULES[kind],
        function=lambda_.Function.from_function_attributes(stack, "Own", function_arn=FUNCTION, same_environment=True),
        event={"action": "look"},
        description="Looks.",
        dead_letters=dead_letters,
    )
    template = template_of(stack)
    if kind == "rule":
        [target] = only(template, "AWS::Events::Rule")["Targets"]
    else:
        target = only(template, "AWS::Scheduler::Schedule")["Target"]
    found: dict[str, Any] = target
    return found


@pytest.mark.parametrize("kind", SCHEDULES)
def test_it_calls_the_function_with_the_event(kind: str, stack: cdk.Stack) -> None:
    target = target_of(stack, kind, None)
    assert (target["Arn"], target["Input"]) == (FUNCTION, '{"action":"look"}')
    assert "DeadLetterConfig" not in target


@pytest.mark.parametrize("kind", SCHEDULES)
def test_what_cannot_be_called_is_kept_on_request(kind: str, stack: cdk.Stack) -> None:
    target = target_of(stack, kind, sqs.Queue(stack, "Queue"))
    assert target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0].startswith("Queue")

"""What holds new work back: schedules, and a breaker that counts failures."""

import re
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler

from constructs_lib import ConfigurationError, Hold, MaintenanceWindow, Semaphore
from tests.error_spools import NIGHT, express_machine, hold, imported_machine, machine
from tests.parts.test_error_spool import allowed, arn, by_id
from tests.parts.test_semaphore import FUNCTION, ROLE
from tests.rules.nag import findings
from tests.scheduled import template_of
from tests.templates import resources


def test_by_hand_it_takes_nothing_but_the_semaphore(app: cdk.App) -> None:
    held, alone = cdk.Stack(app, "Held"), cdk.Stack(app, "Alone")
    hold(held).watch(machine(held))
    Semaphore(alone, "Quota", limit=5)
    machine(alone)
    types = [sorted(one["Type"] for one in template_of(stack)["Resources"].values()) for stack in (held, alone)]
    assert types[0] == types[1]


# --- windows ----------------------------------------------------------------------------------------------


def test_a_window_pauses_and_resumes_the_semaphore(stack: cdk.Stack) -> None:
    hold(stack, windows=[NIGHT])
    template = template_of(stack)
    schedules = resources(template, "AWS::Scheduler::Schedule").values()
    assert {
        (one["ScheduleExpression"], one["ScheduleExpressionTimezone"], one["Target"]["Input"]) for one in schedules
    } == {
        ("cron(0 1 * * ? *)", "Europe/Berlin", '{"action":"pause","newWork":"wait"}'),
        ("cron(0 4 * * ? *)", "Europe/Berlin", '{"action":"resume"}'),
    }
    for one in schedules:
        assert one["Target"]["Arn"] == arn(template, "AWS::Lambda::Function", "Quota")
        # A lost "resume" would hold everything for good.
        assert one["Target"]["DeadLetterConfig"] == {"Arn": arn(template, "AWS::SQS::Queue", "HoldDeadLetters")}


def test_a_schedule_may_call_this_function_and_nothing_else(stack: cdk.Stack) -> None:
    hold(stack, windows=[NIGHT])
    template = template_of(stack)
    for action in ("Pause", "Resume"):
        assert allowed(template, f"Window1{action}") == {
            "lambda:InvokeFunction": [arn(template, "AWS::Lambda::Function", "Quota")],
            "sqs:SendMessage": [arn(template, "AWS::SQS::Queue", "HoldDeadLetters")],
        }


# --- breaker ----------------------------------------------------------------------------------------------


def test_the_breaker_hears_how_executions_end(stack: cdk.Stack) -> None:
    breaker = hold(stack, failures_in_a_row=3)
    for one in (machine(stack), imported_machine(stack)):
        breaker.watch(one)
        breaker.watch(one)
    template = template_of(stack)
    found = [one for one in resources(template, "AWS::Events::Rule").values() if "EventPattern" in one]
    assert len(found) == 2
    for rule in found:
        assert rule["EventPattern"]["detail"]["status"] == ["SUCCEEDED", "FAILED", "TIMED_OUT"]
        [target] = rule["Targets"]
        assert target == {"Arn": arn(template, "AWS::Lambda::Function", "HoldBreaker"), "Id": "Target0"}


def test_the_breaker_probes(stack: cdk.Stack) -> None:
    hold(stack, failures_in_a_row=3, probe_every=Duration.minutes(2))
    template = template_of(stack)
    probe = by_id(template, "AWS::Events::Rule", "HoldProbe")[1]
    assert probe["ScheduleExpression"] == "rate(2 minutes)"
    assert [one["Input"] for one in probe["Targets"]] == ['{"action":"probe"}']


def test_what_the_breaker_knows_and_may(stack: cdk.Stack) -> None:
    hold(stack, failures_in_a_row=3)
    template = template_of(stack)
    breaker = by_id(template, "AWS::Lambda::Function", "HoldBreaker")[1]
    assert breaker["Handler"] == "spool.breaker.handle"
    assert breaker["Environment"]["Variables"] == {
        "SEMAPHORE_FUNCTION": arn(template, "AWS::Lambda::Function", "Quota"),
        "TABLE_NAME": {"Ref": by_id(template, "AWS::DynamoDB::Table", "HoldCounter")[0]},
        "FAILURES": "3",
        "NEW_WORK": "wait",
        "REPROCESSOR_FUNCTION": "",
        "HOLD": "Stack/Hold",
    }
    table = arn(template, "AWS::DynamoDB::Table", "HoldCounter")
    assert allowed(template, "HoldBreakerRole") == {
        "dynamodb:GetItem": [table],
        "dynamodb:PutItem": [table],
        "dynamodb:UpdateItem": [table],
        "lambda:InvokeFunction": [arn(template, "AWS::Lambda::Function", "Quota")],
        "sqs:SendMessage": [arn(template, "AWS::SQS::Queue", "HoldDeadLetters")],
    }


def test_new_work_may_fail_instead_of_waiting(stack: cdk.Stack) -> None:
    hold(stack, failures_in_a_row=3, windows=[NIGHT], new_work="fail")
    template = template_of(stack)
    variables = by_id(template, "AWS::Lambda::Function", "HoldBreaker")[1]["Environment"]["Variables"]
    assert variables["NEW_WORK"] == "fail"
    schedules = resources(template, "AWS::Scheduler::Schedule").values()
    assert {one["Target"]["Input"] for one in schedules} == {
        '{"action":"pause","newWork":"fail"}',
        '{"action":"resume"}',
    }


def test_somebody_hears_when_work_is_held(stack: cdk.Stack) -> None:
    breaker = hold(stack, failures_in_a_row=3)
    assert set(breaker.alarms) == {"Opened", "BreakerFailing"}
    opened = by_id(template_of(stack), "AWS::CloudWatch::Alarm", "Opened")[1]
    assert (opened["Namespace"], opened["MetricName"], opened["Threshold"]) == ("ConstructsLib/Hold", "Opened", 1)
    assert opened["Dimensions"] == [{"Name": "Hold", "Value": "Stack/Hold"}]


def test_semaphore_hold_and_state_machine_may_be_in_three_stacks(app: cdk.App) -> None:
    shared, own, one = (cdk.Stack(app, name) for name in ("Shared", "Own", "One"))
    breaker = Hold(own, "Hold", semaphore=Semaphore(shared, "Quota", limit=5), failures_in_a_row=3, windows=[NIGHT])
    breaker.watch(machine(one))
    assert template_of(shared)
    assert [dependency.stack_name for dependency in own.dependencies] == ["Shared"]
    assert [dependency.stack_name for dependency in one.dependencies] == ["Own"]


def test_the_semaphore_of_another_app_is_held_alike(stack: cdk.Stack) -> None:
    semaphore = Semaphore.from_attributes(stack, "Semaphore", function_arn=FUNCTION, role_arn=ROLE)
    Hold(stack, "Hold", semaphore=semaphore, failures_in_a_row=3, windows=[NIGHT])
    template = template_of(stack)
    variables = by_id(template, "AWS::Lambda::Function", "HoldBreaker")[1]["Environment"]["Variables"]
    assert variables["SEMAPHORE_FUNCTION"] == FUNCTION
    assert {one["Target"]["Arn"] for one in resources(template, "AWS::Scheduler::Schedule").values()} == {FUNCTION}


def test_nag_finds_nothing(tmp_path: Path) -> None:
    def build(app: cdk.App) -> None:
        stack = cdk.Stack(app, "Stack")
        hold(stack, failures_in_a_row=3, windows=[NIGHT])

    assert findings(build, tmp_path) == []


# --- what cannot work -------------------------------------------------------------------------------------

RATE = events.Schedule.rate(Duration.hours(1))
A_WINDOW = "Pass MaintenanceWindow(start=scheduler.ScheduleExpression.cron(…), end=…)."

REJECTIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"semaphore": 5},
        "semaphore must be of type SharedSemaphore, got 5. Pass for example Semaphore(self, 'Neighbour', limit=5).",
    ),
    (
        {"failures_in_a_row": 1},
        "failures_in_a_row must be a whole number from 2 to 1000, got 1. Pass for example 2.",
    ),
    (
        {"probe_every": Duration.seconds(90)},
        "probe_every must be in whole minutes, got Duration of 1 minute 30 seconds. "
        "Pass for example Duration.minutes(5).",
    ),
    (
        {"new_work": "skip"},
        "new_work must be 'wait' or 'fail', got 'skip'. Leave it out to have it wait.",
    ),
    ({"windows": ["nightly"]}, f"windows must be of type MaintenanceWindow, got 'nightly'. {A_WINDOW}"),
    (
        {
            "windows": [
                MaintenanceWindow(
                    start=scheduler.ScheduleExpression.expression("cron(0 25 * * ? *)"),
                    end=scheduler.ScheduleExpression.rate(Duration.days(1)),
                )
            ]
        },
        "windows must be a schedule expression: hours '25' is not within 0-23, got 'cron(0 25 * * ? *)'. "
        "Write for example rate(5 minutes) or cron(0 3 * * ? *).",
    ),
]


@pytest.mark.parametrize(("options", "message"), REJECTIONS, ids=[message[:40] for _, message in REJECTIONS])
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str, stack: cdk.Stack) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Hold: {message}')}$"):
        hold(stack, **options)


def test_a_window_of_a_rule_is_refused(stack: cdk.Stack) -> None:
    """A rule knows no time zones, so nobody's window is one."""
    window = MaintenanceWindow(start=RATE, end=RATE)  # type: ignore[arg-type] # what Python lets through
    with pytest.raises(
        ConfigurationError, match=r"^Stack/Hold: windows must be of type ScheduleExpression, got .* Pass Maintenance"
    ):
        hold(stack, windows=[window])


def test_an_express_workflow_is_refused(stack: cdk.Stack) -> None:
    message = (
        "Stack/Hold: state_machine must be a Standard workflow: nobody is told how an Express one ends, "
        "got 'Stack/Fast'. Leave out state_machine_type."
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        hold(stack, failures_in_a_row=3).watch(express_machine(stack))


def test_two_reprocessors_for_one_hold_are_refused(stack: cdk.Stack) -> None:
    breaker = hold(stack, failures_in_a_row=3)
    functions = [
        lambda_.Function(
            stack,
            f"Function{number}",
            runtime=lambda_.Runtime.PYTHON_3_14,
            handler="index.handle",
            code=lambda_.Code.from_inline("handle = None"),
        )
        for number in range(2)
    ]
    breaker.drain_by(functions[0])
    message = (
        "Stack/Hold: hold must belong to one reprocessor only, got 'Stack/Function1'. "
        "Make another Hold; this one belongs to Stack/Function0."
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        breaker.drain_by(functions[1])


def test_an_id_that_is_taken_is_refused(stack: cdk.Stack) -> None:
    semaphore = hold(stack).semaphore
    message = "Stack: id must be unique within its scope, got 'Hold'. Give this construct another id."
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        Hold(stack, "Hold", semaphore=semaphore)

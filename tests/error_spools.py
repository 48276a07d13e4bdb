"""A spool, state machines that fail into it, and a reprocessor: what most tests of them start from."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as cloudwatch_actions
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn

from constructs_lib import ErrorSpool, ErrorSpoolReprocessor, Hold, MaintenanceWindow, Semaphore
from tests.parts.test_guard import work

ELSEWHERE = "arn:aws:states:eu-central-1:111122223333:stateMachine:elsewhere"

NIGHT = MaintenanceWindow(
    start=scheduler.ScheduleExpression.cron(minute="0", hour="1", time_zone=cdk.TimeZone.EUROPE_BERLIN),
    end=scheduler.ScheduleExpression.cron(minute="0", hour="4", time_zone=cdk.TimeZone.EUROPE_BERLIN),
)


def machine(stack: cdk.Stack, id_: str = "Machine", **options: Any) -> sfn.StateMachine:
    """A state machine that knows nothing of this library."""
    definition = sfn.DefinitionBody.from_chainable(work(stack, f"{id_} work"))
    return sfn.StateMachine(stack, id_, definition_body=definition, **options)


def express_machine(stack: cdk.Stack) -> sfn.StateMachine:
    return machine(stack, "Fast", state_machine_type=sfn.StateMachineType.EXPRESS)


def imported_machine(stack: cdk.Stack) -> sfn.IStateMachine:
    return sfn.StateMachine.from_state_machine_arn(stack, "Elsewhere", ELSEWHERE)


def spool(stack: cdk.Stack, id_: str = "Spool", **options: Any) -> ErrorSpool:
    return ErrorSpool(stack, id_, **options)


def reprocessor(stack: cdk.Stack, id_: str = "Reprocessor", **options: Any) -> ErrorSpoolReprocessor:
    """The construct with what it requires; `options` add to that or replace it."""
    given = dict(options)
    if "targets" not in given:
        given["targets"] = [machine(stack)]
    if "spool" not in given:
        given["spool"] = spool(stack)
        for target in given["targets"]:
            given["spool"].attach(target)
    return ErrorSpoolReprocessor(stack, id_, **given)


def hold(stack: cdk.Stack, **options: Any) -> Hold:
    gate = Semaphore(stack, "Quota", limit=5)
    return Hold(stack, "Hold", **{"semaphore": gate, **options})


def full_options(stack: cdk.Stack) -> dict[str, Any]:
    """Every option of the reprocessor, its spool and its hold set to something else than its default."""
    on_call = sns.Topic(stack, "OnCall")
    actions = [cloudwatch_actions.SnsAction(on_call)]
    one_week = logs.RetentionDays.ONE_WEEK
    kept = spool(
        stack,
        key="$.order.id",
        retention=Duration.days(7),
        expiry_alarm=Duration.days(5),
        waiting_alarm=Duration.hours(1),
        reconcile_every=Duration.minutes(5),
        reconcile_back=Duration.hours(2),
        removal_policy=cdk.RemovalPolicy.DESTROY,
        log_retention=one_week,
        alarm_actions=actions,
    )
    targets = [machine(stack), imported_machine(stack)]
    for target in targets:
        kept.attach(target, aborted=True)
    neighbour = cloudwatch.Alarm(
        stack,
        "Neighbour",
        metric=cloudwatch.Metric(namespace="Neighbour", metric_name="Errors"),
        threshold=1,
        evaluation_periods=1,
    )
    return {
        "spool": kept,
        "targets": targets,
        "mode": "redrive",
        "max_reprocess": 50,
        "starts_per_second": 0.5,
        "max_attempts": 5,
        "schedule": scheduler.ScheduleExpression.rate(Duration.hours(1)),
        "when_alarm_ok": neighbour,
        "ramp": 1,
        "ramp_wait": Duration.minutes(2),
        "hold": hold(
            stack,
            failures_in_a_row=5,
            probe_every=Duration.minutes(10),
            windows=[NIGHT],
            new_work="fail",
            log_retention=one_week,
            alarm_actions=actions,
        ),
        "log_retention": one_week,
        "alarm_actions": actions,
    }


def full(stack: cdk.Stack) -> ErrorSpoolReprocessor:
    everything = reprocessor(stack, **full_options(stack))
    cloudwatch.Dashboard(stack, "Dashboard").add_widgets(*everything.dashboard_widgets())
    return everything

"""The nightly report with the library."""

from aws_cdk import Stack
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_logs as logs

from constructs_lib import ScheduledStepFunctionsFargateTask


def add_nightly_report(
    stack: Stack, cluster: ecs.Cluster, task_definition: ecs.FargateTaskDefinition, task_log: logs.LogGroup
) -> None:
    ScheduledStepFunctionsFargateTask(
        stack,
        "Nightly",
        schedule=events.Schedule.cron(minute="0", hour="3"),
        cluster=cluster,
        task_definition=task_definition,
    )

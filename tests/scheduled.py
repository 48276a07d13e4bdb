"""A cluster, a task definition, and a scheduled task between them: what most tests of the constructs start from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_cloudwatch_actions as cloudwatch_actions
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from aws_cdk.assertions import Template

from asl_tools.resolve import state_machines
from constructs_lib import (
    AlertFunction,
    Capacity,
    LaunchRetry,
    Overlap,
    RetryPolicy,
    ScheduledStepFunctionsFargateTask,
    Semaphore,
)
from tests.templates import FLAGS

SCHEDULE = events.Schedule.cron(minute="0", hour="3")


@dataclass(frozen=True)
class Surroundings:
    """What a scheduled task leaves to its caller."""

    stack: cdk.Stack
    cluster: ecs.Cluster
    task_definition: ecs.FargateTaskDefinition
    log_group: logs.LogGroup

    @property
    def container(self) -> ecs.ContainerDefinition:
        container = self.task_definition.default_container
        assert container is not None
        return container


def make_app(outdir: Path, flags: Mapping[str, Any] = FLAGS) -> cdk.App:
    return cdk.App(outdir=str(outdir), context=dict(flags), analytics_reporting=False)


def imported_vpc(stack: cdk.Stack, *, public: bool = True, private: bool = True) -> ec2.IVpc:
    """A VPC that costs no resources: tests of a task are not tests of a network."""
    zones = ["eu-central-1a", "eu-central-1b"]
    return ec2.Vpc.from_vpc_attributes(
        stack,
        "Vpc",
        vpc_id="vpc-0a1b2c3d4e5f60718",
        availability_zones=zones,
        public_subnet_ids=["subnet-public-1", "subnet-public-2"] if public else None,
        public_subnet_route_table_ids=["rtb-public-1", "rtb-public-2"] if public else None,
        private_subnet_ids=["subnet-private-1", "subnet-private-2"] if private else None,
        private_subnet_route_table_ids=["rtb-private-1", "rtb-private-2"] if private else None,
    )


def surroundings(
    stack: cdk.Stack,
    *,
    vpc: ec2.IVpc | None = None,
    essential: Sequence[str] = ("app",),
    sidecars: Sequence[str] = (),
) -> Surroundings:
    """A cluster, and a task definition whose containers write to one log group."""
    cluster = ecs.Cluster(stack, "Cluster", vpc=vpc or imported_vpc(stack))
    task_definition = ecs.FargateTaskDefinition(stack, "Task")
    log_group = logs.LogGroup(stack, "TaskLog")
    for name in (*essential, *sidecars):
        task_definition.add_container(
            name,
            image=ecs.ContainerImage.from_registry("public.ecr.aws/docker/library/busybox"),
            essential=name in essential,
            logging=ecs.LogDriver.aws_logs(stream_prefix="job", log_group=log_group),
        )
    return Surroundings(stack, cluster, task_definition, log_group)


def scheduled(around: Surroundings, id_: str = "Nightly", **options: Any) -> ScheduledStepFunctionsFargateTask:
    """The construct with what it requires; `options` add to that or replace it."""
    required = {"schedule": SCHEDULE, "cluster": around.cluster, "task_definition": around.task_definition}
    return ScheduledStepFunctionsFargateTask(around.stack, id_, **{**required, **options})


def template_of(stack: cdk.Stack) -> dict[str, Any]:
    """Synthesizes; nothing can be added to the app afterwards."""
    return dict(Template.from_stack(stack).to_json())


def definition_of(stack: cdk.Stack) -> dict[str, Any]:
    """The plain ASL of the only state machine of the stack."""
    [definition] = state_machines(template_of(stack)).values()
    return definition


def full_options(around: Surroundings) -> dict[str, Any]:
    """Every option of the construct set to something else than its default."""
    stack = around.stack
    on_call = sns.Topic(stack, "OnCall")
    return {
        "schedule": scheduler.ScheduleExpression.cron(
            minute="30", hour="2", week_day="MON-FRI", time_zone=cdk.TimeZone.EUROPE_BERLIN
        ),
        "rule_name": "nightly-report",
        "enabled": False,
        "time_window": scheduler.TimeWindow.flexible(Duration.minutes(10)),
        "input": {"commands": ["report", "--all"], "tenant": "a"},
        "container_overrides": [
            tasks.ContainerOverride(
                container_definition=around.container,
                command=sfn.JsonPath.list_at("$.commands"),
                environment=[
                    tasks.TaskEnvironmentVariable(name="TENANT", value=sfn.JsonPath.string_at("$.tenant")),
                    tasks.TaskEnvironmentVariable(name="RUN", value=sfn.JsonPath.string_at("$$.Execution.Name")),
                ],
                cpu=128,
                memory_limit=512,
                memory_reservation=256,
            )
        ],
        "cpu": 1024,
        "memory_limit_mib": 2048,
        "task_role": iam.Role(stack, "JobRole", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com")),
        "subnets": ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC),
        "security_groups": [ec2.SecurityGroup.from_security_group_id(stack, "Group", "sg-0a1b2c3d4e5f60718")],
        "assign_public_ip": True,
        "platform_version": ecs.FargatePlatformVersion.VERSION1_4,
        "capacity": Capacity.SPOT_THEN_ON_DEMAND,
        "propagated_tag_source": ecs.PropagatedTagSource.NONE,
        "timeout": Duration.minutes(30),
        "heartbeat": Duration.minutes(5),
        "retry": LaunchRetry(throttled=RetryPolicy(max_attempts=5), application=RetryPolicy(max_attempts=1)),
        "execution_timeout": Duration.hours(5),
        "once_per_tick": True,
        "alert_lambda": lambda_.Function.from_function_arn(
            stack, "Own", "arn:aws:lambda:eu-central-1:111122223333:function:own"
        ),
        "failure_handlers": [AlertFunction(stack, "SharedAlert", topic=on_call), on_call],
        "success_handlers": [sns.Topic(stack, "Good")],
        "expected_every": Duration.days(4),
        "retry_attempts": 5,
        "max_event_age": Duration.minutes(30),
        "log_execution_data": False,
        "log_retention": logs.RetentionDays.ONE_WEEK,
        "alarm_actions": [cloudwatch_actions.SnsAction(on_call)],
    }


def full(stack: cdk.Stack) -> ScheduledStepFunctionsFargateTask:
    around = surroundings(stack, sidecars=["proxy"])
    return scheduled(around, **full_options(around))


def guarded(stack: cdk.Stack, overlap: Overlap = Overlap.SKIP) -> ScheduledStepFunctionsFargateTask:
    """One run at a time, with a permit that it shares with other jobs."""
    quota = Semaphore(stack, "Quota", limit=20, max_starts_per_second=20)
    return scheduled(surroundings(stack), overlap=overlap, semaphore=quota)

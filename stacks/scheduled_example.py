"""A nightly inventory: the smallest stack around a ScheduledStepFunctionsFargateTask that is fit for use."""

from pathlib import Path

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from constructs_lib import ScheduledStepFunctionsFargateTask

_JOB = Path(__file__).parent / "sample_job" / "inventory.py"
_PYTHON = "public.ecr.aws/docker/library/python:3.13-alpine"
_FOLDER_IN_THE_IMAGE = "/usr/local/lib/python3.13"


class ScheduledExample(Stack):
    """Runs the sample job on a schedule, in public subnets, so that it needs no NAT gateway.

    Args:
        scope: The app.
        id_: The stack's id.
        schedule: When it runs, as EventBridge writes it.
        timeout: How long one run may take.
        folder: What the scheduled run makes an inventory of.
        image: The image of the task; it has Python.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        schedule: str = "cron(0 3 * * ? *)",
        timeout: Duration = Duration.minutes(15),
        folder: str = _FOLDER_IN_THE_IMAGE,
        image: str = _PYTHON,
    ) -> None:
        super().__init__(scope, id_)
        cluster = ecs.Cluster(
            self, "Cluster", vpc=self._make_vpc(), container_insights_v2=ecs.ContainerInsights.ENABLED
        )
        task_definition = ecs.FargateTaskDefinition(self, "Task", cpu=256, memory_limit_mib=512)
        container = task_definition.add_container(
            "Inventory",
            image=ecs.ContainerImage.from_registry(image),
            # The whole job travels in the definition: nothing to build, nothing to push.
            entry_point=["python", "-c", _JOB.read_text()],
            logging=ecs.LogDriver.aws_logs(
                stream_prefix="inventory",
                log_group=logs.LogGroup(
                    self,
                    "TaskLog",
                    retention=logs.RetentionDays.ONE_MONTH,
                    removal_policy=RemovalPolicy.DESTROY,
                ),
            ),
        )

        self.nightly = ScheduledStepFunctionsFargateTask(
            self,
            "NightlyInventory",
            schedule=events.Schedule.expression(schedule),
            cluster=cluster,
            task_definition=task_definition,
            assign_public_ip=True,
            input={"commands": [folder]},
            container_overrides=[
                tasks.ContainerOverride(container_definition=container, command=sfn.JsonPath.list_at("$.commands"))
            ],
            timeout=timeout,
            expected_every=Duration.days(2),
        )
        CfnOutput(self, "StateMachineArn", value=self.nightly.state_machine.state_machine_arn)
        if self.nightly.alert is not None:
            CfnOutput(self, "AlertTopicArn", value=self.nightly.alert.topic.topic_arn)

    def _make_vpc(self) -> ec2.Vpc:
        return ec2.Vpc(
            self,
            "Vpc",
            max_azs=2,
            nat_gateways=0,
            subnet_configuration=[ec2.SubnetConfiguration(name="Public", subnet_type=ec2.SubnetType.PUBLIC)],
            flow_logs={"Rejected": ec2.FlowLogOptions(traffic_type=ec2.FlowLogTrafficType.REJECT)},
            # Nothing uses the default group; emptying it would take a function and a role of its own.
            restrict_default_security_group=False,
        )

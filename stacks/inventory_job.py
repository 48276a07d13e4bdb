"""What the example stacks run: the sample job, and a cluster for it."""

from pathlib import Path

from aws_cdk import RemovalPolicy
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from stacks.cluster import make_cluster

_JOB = Path(__file__).parent / "sample_job" / "inventory.py"

IMAGE = "public.ecr.aws/docker/library/python:3.13-alpine"
FOLDER = "/usr/local/lib/python3.13"
"""A folder in that image with something to read."""


class InventoryJob(Construct):
    """The task definition of the sample job, and a cluster for it.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        image: The image of the task; it has Python.
    """

    def __init__(self, scope: Construct, id_: str, *, image: str) -> None:
        super().__init__(scope, id_)
        self.cluster = make_cluster(self)
        self.task_definition = ecs.FargateTaskDefinition(self, "Task", cpu=256, memory_limit_mib=512)
        container = self.task_definition.add_container(
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
        self.command_from_input = tasks.ContainerOverride(
            container_definition=container, command=sfn.JsonPath.list_at("$.commands")
        )

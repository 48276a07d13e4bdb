"""A nightly inventory: the smallest stack around a ScheduledStepFunctionsFargateTask that is fit for use."""

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_events as events
from constructs import Construct

from constructs_lib import ScheduledStepFunctionsFargateTask
from stacks.inventory_job import FOLDER, IMAGE, InventoryJob


class ScheduledExample(Stack):
    """Runs the sample job on a schedule.

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
        folder: str = FOLDER,
        image: str = IMAGE,
    ) -> None:
        super().__init__(scope, id_)
        job = InventoryJob(self, "Job", image=image)

        self.nightly = ScheduledStepFunctionsFargateTask(
            self,
            "NightlyInventory",
            schedule=events.Schedule.expression(schedule),
            cluster=job.cluster,
            task_definition=job.task_definition,
            assign_public_ip=True,
            input={"commands": [folder]},
            container_overrides=[job.command_from_input],
            timeout=timeout,
            expected_every=Duration.days(2),
        )
        CfnOutput(self, "StateMachineArn", value=self.nightly.state_machine.state_machine_arn)
        if self.nightly.alert is not None:
            CfnOutput(self, "AlertTopicArn", value=self.nightly.alert.topic.topic_arn)

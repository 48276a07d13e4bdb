"""Inventories that must not get in each other's way: one that never overlaps itself, two that share a quota."""

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_events as events
from constructs import Construct

from constructs_lib import AlertFunction, Overlap, ScheduledStepFunctionsFargateTask, Semaphore
from stacks.inventory_job import FOLDER, IMAGE, InventoryJob


class SemaphoreExample(Stack):
    """Runs the sample job at most once at a time, and at most three at a time.

    Args:
        scope: The app.
        id_: The stack's id.
        folder: What the scheduled runs make an inventory of.
        image: The image of the task; it has Python.
    """

    def __init__(self, scope: Construct, id_: str, *, folder: str = FOLDER, image: str = IMAGE) -> None:
        super().__init__(scope, id_)
        job = InventoryJob(self, "Job", image=image)
        alert = AlertFunction(self, "SharedAlert")
        CfnOutput(self, "AlertTopicArn", value=alert.topic.topic_arn)

        # A run that is not over after an hour is not joined by the next one, which is skipped.
        hourly = ScheduledStepFunctionsFargateTask(
            self,
            "HourlyInventory",
            schedule=events.Schedule.rate(Duration.hours(1)),
            overlap=Overlap.SKIP,
            timeout=Duration.hours(3),
            cluster=job.cluster,
            task_definition=job.task_definition,
            assign_public_ip=True,
            input={"commands": [folder]},
            container_overrides=[job.command_from_input],
            failure_handlers=[alert],
        )
        CfnOutput(self, "HourlyInventoryArn", value=hourly.state_machine.state_machine_arn)

        # The storage bears three readers. Each job runs once a day, and whenever somebody starts its state machine for
        # another folder, a hundred at once if need be: whoever comes while three are reading waits, at no cost.
        quota = Semaphore(
            self,
            "Quota",
            limit=3,
            # An example is to leave nothing behind. Where work depends on the limit, keep the default.
            removal_policy=RemovalPolicy.DESTROY,
        )
        for name in ("Orders", "Invoices"):
            daily = ScheduledStepFunctionsFargateTask(
                self,
                f"Daily{name}",
                schedule=events.Schedule.rate(Duration.days(1)),
                semaphore=quota,
                cluster=job.cluster,
                task_definition=job.task_definition,
                assign_public_ip=True,
                input={"commands": [folder]},
                container_overrides=[job.command_from_input],
                failure_handlers=[alert],
            )
            CfnOutput(self, f"Daily{name}Arn", value=daily.state_machine.state_machine_arn)

        # To be invoked with {"action": "status"}, "pause" or "resume", or with another limit: see docs/semaphore.md.
        CfnOutput(self, "QuotaFunctionName", value=quota.function.function_name)

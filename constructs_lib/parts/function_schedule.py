"""Calls a function on a schedule: by an EventBridge rule, or by EventBridge Scheduler."""

from collections.abc import Mapping

from aws_cdk import Aws
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as scheduler_targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from .schedule_trigger import ScheduleLike


class FunctionSchedule(Construct):
    """Calls `function` with `event` each time the schedule comes round.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        schedule: An ``events.Schedule`` becomes a rule; a ``scheduler.ScheduleExpression`` a schedule of EventBridge
            Scheduler, with a role of its own.
        function: What is called.
        event: What it is called with.
        description: What for.
        dead_letters: Keeps calls that could not be made. Default: they are dropped, as the next one does the same.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        schedule: ScheduleLike,
        function: lambda_.IFunction,
        event: Mapping[str, str],
        description: str,
        dead_letters: sqs.IQueue | None = None,
    ) -> None:
        super().__init__(scope, id_)
        if isinstance(schedule, events.Schedule):
            events.Rule(
                self,
                "Rule",
                description=description,
                schedule=schedule,
                targets=[
                    targets.LambdaFunction(
                        function,
                        event=events.RuleTargetInput.from_object(dict(event)),
                        dead_letter_queue=dead_letters,
                    )
                ],
            )
            return
        # CDK's own grant would also allow every version and alias.
        # https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
        of_this_account = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
        principal = iam.ServicePrincipal("scheduler.amazonaws.com", conditions=of_this_account)
        role = iam.Role(self, "Role", assumed_by=principal)
        role.add_to_policy(iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[function.function_arn]))
        if dead_letters is not None:
            role.add_to_policy(iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[dead_letters.queue_arn]))
        scheduler.Schedule(
            self,
            "Schedule",
            description=description,
            schedule=schedule,
            target=scheduler_targets.LambdaInvoke(
                function,
                role=role.without_policy_updates(),
                input=scheduler.ScheduleTargetInput.from_object(dict(event)),
                dead_letter_queue=dead_letters,
            ),
        )

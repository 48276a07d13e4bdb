"""Closes the way out of the buffer while too many executions wait for a permit."""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from .alarms import alarm_on
from .functions import make_function
from .guard import MOST_PERMITS
from .semaphore import SharedSemaphore
from .validation import require_whole_number

# The finest that EventBridge has.
_EVERY = Duration.minutes(1)


class Valve(Construct):
    """Disables the event source mapping when the semaphore's line is too long, and enables it when that is half.

    Executions that wait cost nothing, but an account may have 1,000,000 open ones in a region, all its state machines
    together: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html. A queue has no such limit.

    Creates the function with its role and log group, a rule that calls it every minute, and an alarm.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        name: What its metrics are told apart by.
        mapping: What it opens and closes.
        semaphore: Whose line it looks at; all that wait in it count, also those of others.
        max_waiting: How many may wait before it closes.
        paused: Whether it stays closed.
        log_retention: How long its log is kept.
        alarm_actions: What the alarm does.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        mapping: lambda_.EventSourceMapping,
        semaphore: SharedSemaphore,
        max_waiting: int,
        paused: bool,
        log_retention: logs.RetentionDays,
        alarm_actions: Sequence[cloudwatch.IAlarmAction],
    ) -> None:
        super().__init__(scope, id_)
        require_whole_number(scope, "max_waiting", max_waiting, at_least=1, at_most=MOST_PERMITS)
        self.function = make_function(
            self,
            "Function",
            handler="pipeline.valve.handle",
            description=f"Opens and closes the buffer of {scope.node.path}",
            environment={
                "EVENT_SOURCE_MAPPING": mapping.event_source_mapping_id,
                "SEMAPHORE_FUNCTION": semaphore.function_arn,
                "MOST_WAITING": str(max_waiting),
                "PAUSED": "true" if paused else "",
                "PIPELINE": name,
            },
            # The next minute makes good what this one missed.
            dead_letter_queue=None,
            log_retention=log_retention,
        )
        for resource, actions in {
            mapping.event_source_mapping_arn: ["lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"],
            semaphore.function_arn: ["lambda:InvokeFunction"],
        }.items():
            self.function.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
        events.Rule(
            self,
            "EveryMinute",
            description=f"Opens and closes the buffer of {scope.node.path}.",
            schedule=events.Schedule.rate(_EVERY),
            targets=[targets.LambdaFunction(self.function)],
        )
        self.alarm = alarm_on(
            self,
            "Failing",
            self.function.metric_errors(),
            description=f"{scope.node.path}: the function that opens and closes the buffer fails.",
            actions=alarm_actions,
        )

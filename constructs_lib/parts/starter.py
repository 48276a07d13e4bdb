"""The function that starts an execution for each object in the buffer, as fast as it is let."""

import json
from collections.abc import Sequence

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .alarms import alarm_on
from .functions import make_function
from .object_buffer import ObjectBuffer
from .validation import require_whole_number

STARTER_TIMEOUT = Duration.minutes(1)


class Starter(Construct):
    """Reads the buffer and starts an execution for each object, under a name that tells an event from every other.

    So an event that is delivered twice is started once. What cannot be read goes to the dead-letter queue at once;
    what cannot be started now stays in the buffer.

    Creates the function with its role and log group, its event source mapping, an alarm and, for
    ``drop_stale_events``, a table of the newest event of each key.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        name: What its metrics are told apart by.
        bucket: Whose objects it expects.
        buffer: What it reads.
        state_machine: What it starts.
        concurrency: How many calls of it may run at once, from 2 to 1,000.
        ignored_prefixes: Objects under them never start anything.
        min_size: In bytes; smaller objects never start anything.
        drop_stale_events: Whether an event is dropped when a newer one of the same key was started before.
        paused: Whether it reads nothing.
        log_retention: How long its log is kept.
        alarm_actions: What the alarm does.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        bucket: s3.IBucket,
        buffer: ObjectBuffer,
        state_machine: sfn.IStateMachine,
        concurrency: int,
        ignored_prefixes: Sequence[str],
        min_size: int,
        drop_stale_events: bool,
        paused: bool,
        log_retention: logs.RetentionDays,
        alarm_actions: Sequence[cloudwatch.IAlarmAction],
    ) -> None:
        super().__init__(scope, id_)
        # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
        require_whole_number(scope, "starter_concurrency", concurrency, at_least=2, at_most=1000)
        self.sequences = self._make_sequences() if drop_stale_events else None
        self.function = make_function(
            self,
            "Function",
            handler="pipeline.starter.handle",
            description=f"Starts executions for {scope.node.path}",
            environment={
                "STATE_MACHINE_ARN": state_machine.state_machine_arn,
                "DEAD_LETTERS_URL": buffer.dead_letters.queue.queue_url,
                "BUCKET": bucket.bucket_name,
                "IGNORED_PREFIXES": json.dumps(list(ignored_prefixes)),
                "MIN_SIZE": str(min_size),
                "SEQUENCES_TABLE": self.sequences.table_name if self.sequences else "",
                "PIPELINE": name,
            },
            # It is called with what stays in the buffer until it is done with it.
            dead_letter_queue=None,
            log_retention=log_retention,
            timeout=STARTER_TIMEOUT,
        )
        self._allow(buffer, state_machine)
        self.mapping = lambda_.EventSourceMapping(
            self,
            "Mapping",
            target=self.function,
            event_source_arn=buffer.queue.queue_arn,
            enabled=not paused,
            max_concurrency=concurrency,
            report_batch_item_failures=True,
        )
        self.alarm = alarm_on(
            self,
            "Failing",
            self.function.metric_errors(),
            description=f"{scope.node.path}: the function that starts executions fails.",
            actions=alarm_actions,
        )

    def _allow(self, buffer: ObjectBuffer, state_machine: sfn.IStateMachine) -> None:
        allowed = {
            # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
            buffer.queue.queue_arn: ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"],
            buffer.dead_letters.queue.queue_arn: ["sqs:SendMessage"],
            state_machine.state_machine_arn: ["states:StartExecution"],
            **({self.sequences.table_arn: ["dynamodb:UpdateItem"]} if self.sequences else {}),
        }
        for resource, actions in allowed.items():
            self.function.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=[resource]))

    def _make_sequences(self) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            "Sequences",
            partition_key=dynamodb.Attribute(name="key", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            # Without its pipeline it is of no use.
            removal_policy=RemovalPolicy.DESTROY,
        )

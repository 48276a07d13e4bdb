"""Brings the objects into the buffer that were in the bucket before it."""

import json
from collections.abc import Sequence

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .acknowledgements import acknowledge
from .alarms import alarm_on
from .execution_log import execution_log
from .functions import make_function
from .job import LONGEST_EXECUTION
from .object_buffer import ObjectBuffer
from .object_filter import ObjectFilter
from .retry import RetryPolicy

# A call lists and sends for so long, and says where to go on.
_CALL_TIMEOUT = Duration.minutes(5)

# What the function answers to an input that makes no sense.
_ANSWERS = ["InvalidRequestError"]

# The function, the bucket or the queue is away: up to 10 minutes of asking again.
_RETRY = RetryPolicy(max_attempts=14)


class Backfill(Construct):
    """A state machine that puts the objects of a bucket into the buffer, as if they had just come.

    Fill the buffer -> Is all done? -> (no) Fill the buffer

    Its input is ``{}`` for the whole bucket, or has any of ``prefix`` (a part of it), ``before`` (objects older than
    this time, in ISO 8601; by default, than the buffer) and ``startAfter`` (go on after this key, as the output of an
    earlier execution says). Started twice it does no harm: the same object gets the same name. An object that also
    came by an event is run once more. A failed execution can be redriven.

    Creates the function, the state machine with its role and log group, and an alarm.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        bucket: What it lists.
        objects: Which objects count.
        buffer: Where it puts them.
        log_retention: How long its logs are kept.
        alarm_actions: What the alarm does.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        bucket: s3.IBucket,
        objects: ObjectFilter,
        buffer: ObjectBuffer,
        log_retention: logs.RetentionDays,
        alarm_actions: Sequence[cloudwatch.IAlarmAction],
    ) -> None:
        super().__init__(scope, id_)
        self.function = make_function(
            self,
            "Function",
            handler="pipeline.backfill.handle",
            description=f"Fills the buffer of {scope.node.path}",
            environment={
                "BUCKET": bucket.bucket_name,
                "BUFFER_URL": buffer.queue.queue_url,
                "FILTERS": json.dumps(objects.as_json()),
            },
            # The state machine calls it, and again where it fails.
            dead_letter_queue=None,
            log_retention=log_retention,
            timeout=_CALL_TIMEOUT,
        )
        for resource, actions in {
            bucket.bucket_arn: ["s3:ListBucket"],
            buffer.queue.queue_arn: ["sqs:GetQueueAttributes", "sqs:SendMessage"],
        }.items():
            self.function.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=[resource]))

        self.state_machine = sfn.StateMachine(
            self,
            "Resource",
            comment=f"Fills the buffer of {scope.node.path} with the objects that the bucket has already.",
            definition_body=sfn.DefinitionBody.from_chainable(self._states()),
            query_language=sfn.QueryLanguage.JSON_PATH,
            timeout=LONGEST_EXECUTION,
            logs=sfn.LogOptions(
                destination=execution_log(self, "Log", retention=log_retention), level=sfn.LogLevel.ALL
            ),
            tracing_enabled=True,
        )
        self.state_machine.add_to_role_policy(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[self.function.function_arn])
        )
        acknowledge(
            self.state_machine.role,
            {
                "AwsSolutions-IAM5[Resource::*]": "The log delivery and X-Ray actions of Step Functions "
                "have no resource level."
            },
        )
        self.alarm = alarm_on(
            self,
            "Failed",
            self.state_machine.metric_failed(),
            description=f"{scope.node.path}: a backfill failed; redrive it.",
            actions=alarm_actions,
        )

    def _states(self) -> sfn.IChainable:
        fill = sfn.CustomState(
            self,
            "Fill the buffer",
            state_json={
                "Type": "Task",
                "Resource": f"arn:{Stack.of(self).partition}:states:::lambda:invoke",
                "Parameters": {"FunctionName": self.function.function_arn, "Payload.$": "$"},
                # Its answer is the input of its next call.
                "OutputPath": "$.Payload",
                "TimeoutSeconds": int(_CALL_TIMEOUT.plus(Duration.minutes(1)).to_seconds()),
            },
        )
        # Before the wildcard: to ask again would not change the answer.
        fill.add_retry(errors=_ANSWERS, max_attempts=0)
        _RETRY.apply_to(fill, errors=["States.ALL"])
        done = sfn.Succeed(self, "All is in the buffer")
        return fill.next(
            sfn.Choice(self, "Is all done?").when(sfn.Condition.boolean_equals("$.done", True), done).otherwise(fill)
        )

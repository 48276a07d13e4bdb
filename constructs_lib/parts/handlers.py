"""Who is told of the end of a run: a function, a topic, or the library's own alert function."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aws_cdk import Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .alert_topic import publishing
from .job import Job
from .validation import invalid

Message = Mapping[str, Any]
"""What a handler is told: ``Response`` (the input with its result or error beside it) and ``Execution``."""


class Watcher(Protocol):
    """Someone to tell of the end of an execution that cannot tell of it itself."""

    def rule_target(self, message: Message, job: Mapping[str, Any], dead_letters: sqs.IQueue) -> events.IRuleTarget:
        """The target that delivers `message` from an EventBridge rule."""
        ...


class Handler(Watcher, Protocol):
    """Someone to tell. One handler may serve many state machines, in several stacks."""

    def prepare(self, scope: Construct, job: Job) -> None:
        """Takes what it needs to tell of `job`, in resources under `scope`."""
        ...

    def state(self, scope: Construct, name: str, message: Message, job: Mapping[str, Any]) -> sfn.CustomState:
        """The task that delivers `message` from within a state machine."""
        ...

    def grant(self, grantee: iam.IGrantable) -> None:
        """Allows the state machine's role to run the task."""
        ...


class FunctionHandler:
    """Invokes a function with the message."""

    def __init__(self, function: lambda_.IFunction) -> None:
        self._function = function

    def prepare(self, scope: Construct, job: Job) -> None:
        """A function of the caller's needs nothing from here."""

    def state(self, scope: Construct, name: str, message: Message, job: Mapping[str, Any]) -> sfn.CustomState:
        """See `Handler.state`."""
        return task_state(
            scope,
            name,
            "lambda:invoke",
            {"FunctionName": self._function.function_arn, "Payload": self._payload(message, job)},
        )

    def grant(self, grantee: iam.IGrantable) -> None:
        """See `Handler.grant`. Not `grant_invoke`, which also allows every version and alias."""
        grantee.grant_principal.add_to_principal_policy(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[self._function.function_arn])
        )

    def rule_target(self, message: Message, job: Mapping[str, Any], dead_letters: sqs.IQueue) -> events.IRuleTarget:
        """See `Watcher.rule_target`."""
        return targets.LambdaFunction(
            self._function,
            event=events.RuleTargetInput.from_object(self._payload(message, job)),
            dead_letter_queue=dead_letters,
        )

    def _payload(self, message: Message, job: Mapping[str, Any]) -> Message:
        return message


class TopicHandler:
    """Publishes the message to an SNS topic, as JSON."""

    def __init__(self, topic: sns.ITopic) -> None:
        self._topic = topic

    def prepare(self, scope: Construct, job: Job) -> None:
        """A topic needs nothing from here."""

    def state(self, scope: Construct, name: str, message: Message, job: Mapping[str, Any]) -> sfn.CustomState:
        """See `Handler.state`."""
        return task_state(scope, name, "sns:publish", {"TopicArn": self._topic.topic_arn, "Message": message})

    def grant(self, grantee: iam.IGrantable) -> None:
        """See `Handler.grant`. Includes the topic's key, if it has one."""
        for statement in publishing(self._topic):
            grantee.grant_principal.add_to_principal_policy(statement)

    def rule_target(self, message: Message, job: Mapping[str, Any], dead_letters: sqs.IQueue) -> events.IRuleTarget:
        """See `Watcher.rule_target`."""
        return targets.SnsTopic(
            self._topic,
            message=events.RuleTargetInput.from_object(message),
            dead_letter_queue=dead_letters,
        )


def as_handlers(
    scope: Construct, argument: str, given: Sequence[lambda_.IFunction | sns.ITopic | Handler]
) -> list[Handler]:
    """Takes functions and topics as they are.

    Raises:
        ConfigurationError: one of `given` is none of these, or is told of failures only and this is about successes.
    """
    return [_as_handler(scope, argument, one) for one in given]


def _as_handler(scope: Construct, argument: str, given: Any) -> Handler:
    if argument in ("success_handlers", "notice_handlers") and getattr(given, "for_failures_only", False):
        raise invalid(
            scope, argument, "must not have an error spool", given.node.path, "Pass it among failure_handlers."
        )
    # By what they have: imported functions and topics are proxies without a class of their own.
    if hasattr(given, "rule_target"):
        handler: Handler = given
        return handler
    if hasattr(given, "function_arn"):
        return FunctionHandler(given)
    if hasattr(given, "topic_arn"):
        return TopicHandler(given)
    raise invalid(
        scope,
        argument,
        "must be functions, topics or handlers",
        given,
        "Pass for example [AlertFunction(self, 'Alert')].",
    )


def task_state(scope: Construct, name: str, action: str, parameters: Mapping[str, Any]) -> sfn.CustomState:
    """A task that leaves the data as it is."""
    return sfn.CustomState(
        scope,
        name,
        state_json={
            "Type": "Task",
            "Resource": f"arn:{Stack.of(scope).partition}:states:::{action}",
            "Parameters": parameters,
            "ResultPath": sfn.JsonPath.DISCARD,
        },
    )

"""Accounts for runs of a map that the state machine itself could not account for, and tells of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .acknowledgements import acknowledge
from .alarms import alarm_on
from .execution_log import execution_log
from .handlers import Handler, Message
from .item_map import NOTICES, account_state, tell_notices
from .retry import RetryPolicy
from .telling import Telling

# The event that started it tells of the execution that it is about.
_EVENT = "$$.Execution.Input.detail"
_ENDED_EXECUTION: Mapping[str, Any] = {
    "Execution": {"Id.$": f"{_EVENT}.executionArn", "Name.$": f"{_EVENT}.name", "StartTime.$": f"{_EVENT}.startDate"},
    "StateMachine": {"Id.$": f"{_EVENT}.stateMachineArn"},
}

# Children of a run that was stopped are being stopped, and results are being written.
_PATIENCE = {
    "ResultsNotReady": RetryPolicy(max_attempts=20, interval=Duration.seconds(30), backoff_rate=1, jitter=False)
}

# The account, with all its attempts, and all that is told after it.
_TIMEOUT = Duration.hours(12)


def notices_message(execution: Mapping[str, Any]) -> Message:
    """What handlers are told of notices: these, beside the counts and the place of the whole account."""
    return {
        "Response": {f"{key}.$": f"$.{key}" for key in (NOTICES, "counts", "summary")},
        "Execution": execution,
    }


class MapReport(Construct):
    """A state machine that is told of an execution's ending by an event, and tells the handlers of its items.

    Account for all items -> the handlers -> SUCCEEDED
                          -> (it cannot be accounted for) the handlers, with the event itself -> SUCCEEDED

    It is a `Watcher` of endings that no Catch sees, among them failures of the Map, which is not caught. The handlers
    are told as if the execution had told them itself.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        account: The function that accounts.
        settings: What it must know.
        handlers: Who is told of the failure.
        notices: Who is told of notices.
        description: What they need to know of the job.
        dead_letters: Keeps what could not be told.
        log_execution_data: Whether inputs and outputs are logged.
        log_retention: How long the log is kept.
        alarm_actions: What the alarm does.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        account: lambda_.IFunction,
        settings: Mapping[str, Any],
        handlers: Sequence[Handler],
        notices: Sequence[Handler],
        description: Mapping[str, Any],
        dead_letters: sqs.IQueue,
        log_execution_data: bool,
        log_retention: logs.RetentionDays,
        alarm_actions: Sequence[cloudwatch.IAlarmAction],
    ) -> None:
        super().__init__(scope, id_)
        message = {"Response.$": "$", "Execution": _ENDED_EXECUTION}
        failure, notice = (
            Telling(
                occasion=occasion,
                handlers=who,
                description=description,
                dead_letters=dead_letters,
                message=what,
            )
            for occasion, who, what in (
                ("Failure", handlers, message),
                ("Notices", notices, notices_message(_ENDED_EXECUTION)),
            )
        )
        tell = failure.states(self, then=sfn.Succeed(self, "Told"))
        state = account_state(
            self,
            account,
            {"statusChange.$": "$.detail", "settings": settings, "retryCount.$": "$$.State.RetryCount"},
            patience=_PATIENCE,
        )
        bare = sfn.Pass(self, "Tell of the ending alone", parameters={"StatusChange.$": "$.detail"})
        state.add_catch(bare.next(tell), errors=["States.ALL"], result_path=sfn.JsonPath.DISCARD)
        self.state_machine = sfn.StateMachine(
            self,
            "Resource",
            comment=f"Tells of runs of {scope.node.path} that it cannot tell of itself.",
            definition_body=sfn.DefinitionBody.from_chainable(state.next(tell_notices(self, notice, then=tell))),
            query_language=sfn.QueryLanguage.JSON_PATH,
            timeout=_TIMEOUT,
            logs=sfn.LogOptions(
                destination=execution_log(self, "Log", retention=log_retention),
                level=sfn.LogLevel.ALL,
                include_execution_data=log_execution_data,
            ),
            tracing_enabled=True,
        )
        self.state_machine.add_to_role_policy(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[account.function_arn])
        )
        for telling in (failure, notice):
            telling.connect(self.state_machine)
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
            description=f"{scope.node.path}: nobody was told of a failed run; redrive the report.",
            actions=alarm_actions,
        )

    # --- as a handler of endings --------------------------------------------------------------------------

    def rule_target(self, message: Message, job: Mapping[str, Any], dead_letters: sqs.IQueue) -> events.IRuleTarget:
        """See `Watcher.rule_target`. The event as it is."""
        return targets.SfnStateMachine(self.state_machine, dead_letter_queue=dead_letters)

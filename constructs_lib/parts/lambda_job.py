"""A Lambda function as the work of a state machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .job import ERROR, RESULT, BoundJob
from .retry import RetryPolicy

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_LONGEST_CALL = Duration.minutes(15)
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
_CALL_UNLESS_TOLD = Duration.seconds(3)

# Beyond the function's own timeout, so that it is Lambda who tells of that.
_MARGIN = Duration.minutes(1)

# Lambda failed, as AWS advises to handle:
# https://docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html
# Without Lambda.ClientExecutionTimeoutException: the function is most likely still at work, and would be so twice.
_AWAY = ["Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException"]
_AWAY_RETRY = RetryPolicy(max_attempts=6)

# No free concurrency: nothing has run. Asked again for up to 13 minutes.
_THROTTLED = ["Lambda.TooManyRequestsException"]
_THROTTLED_RETRY = RetryPolicy(max_attempts=12, max_delay=Duration.minutes(2))

# Where its result goes, without what Step Functions adds of the HTTP answer.
_BESIDE_THE_INPUT = {"ResultSelector": {"Payload.$": "$.Payload"}, "ResultPath": f"$.{RESULT}"}
_ALONE = {"OutputPath": "$.Payload"}


@dataclass(frozen=True, kw_only=True)
class LambdaJob:
    """Calls a function with the whole state, and waits for its end (``lambda:invoke``).

    What it returns is at ``$.result.Payload``. A call that Lambda throttled, or failed itself, is made again; what
    the function raised is not. How long it may take is told by its own timeout.

    Args:
        function: What to call: a function, a version or an alias.
    """

    function: lambda_.IFunction

    def bind(self, scope: Construct, *, on_failure: sfn.IChainable | None) -> BoundJob:
        """See `Job.bind`. Without `on_failure` it is the one state of an execution of its own: its output is what the
        function returned, and its error that of the execution, which a redrive resumes here.
        """
        timeout = self._longest_call.plus(_MARGIN)
        call = sfn.CustomState(
            scope,
            "Call the function",
            state_json={
                "Type": "Task",
                "Resource": f"arn:{Stack.of(scope).partition}:states:::lambda:invoke",
                "Parameters": {"FunctionName": self.function.function_arn, "Payload.$": "$"},
                **(_ALONE if on_failure is None else _BESIDE_THE_INPUT),
                "TimeoutSeconds": int(timeout.to_seconds()),
            },
        )
        _THROTTLED_RETRY.apply_to(call, errors=_THROTTLED)
        _AWAY_RETRY.apply_to(call, errors=_AWAY)
        if on_failure is not None:
            call.add_catch(on_failure, errors=["States.ALL"], result_path=f"$.{ERROR}")
        pauses = _THROTTLED_RETRY.longest_pause.plus(_AWAY_RETRY.longest_pause)
        calls = 1 + _AWAY_RETRY.max_attempts
        return BoundJob(
            chain=sfn.Chain.start(call),
            statements=[iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[self.function.function_arn])],
            longest_run=Duration.seconds(int(calls * timeout.to_seconds() + pauses.to_seconds())),
        )

    def description(self) -> Mapping[str, Any]:
        """See `Job.description`."""
        function = self._plain
        return {"kind": "lambda", "function": function.function_name, "logGroup": _log_group(function)}

    def log_group_arns(self) -> Sequence[str]:
        """See `Job.log_group_arns`. None: which of a function's log streams a call wrote to is not known."""
        return []

    def input_paths(self) -> Sequence[str]:
        """See `Job.input_paths`."""
        return []

    @property
    def roles(self) -> Sequence[iam.IRole]:
        """The roles that the work itself has, as far as they are known."""
        return [self.function.role] if self.function.role is not None else []

    @property
    def longest_stop(self) -> Duration:
        """How long the work may go on after its execution was stopped: a call that was begun is not taken back."""
        return self._longest_call

    @property
    def timeout(self) -> Duration | None:
        """The function's own; None where it was made elsewhere, or only the deployment tells."""
        function = self._plain
        if not isinstance(function, lambda_.Function):
            return None
        timeout = function.timeout or _CALL_UNLESS_TOLD
        return None if timeout.is_unresolved() else timeout

    @property
    def _longest_call(self) -> Duration:
        return self.timeout or _LONGEST_CALL

    @property
    def _plain(self) -> lambda_.IFunction:
        """The function behind a version or an alias."""
        function: lambda_.IFunction = getattr(self.function, "lambda_", self.function)
        return function


def _log_group(function: lambda_.IFunction) -> str:
    # Not `function.log_group`, which would make one.
    resource = function.node.default_child
    logging = resource.logging_config if isinstance(resource, lambda_.CfnFunction) else None
    own = getattr(logging, "log_group", None)
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html
    return own or f"/aws/lambda/{function.function_name}"

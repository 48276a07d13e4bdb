"""The states around a task launch that tell why it failed, and launch it again where that helps.

Step Functions can retry by the name of an error only, and the names of ECS do not tell enough: a start that
failed and an application that failed are both ``States.TaskFailed``, and ``ECS.InvalidParameterException`` may
hide throttling. So the error is caught, told by its text, counted in ``$.launch`` and, within the budget of its
kind, launched again after a pause. A run that succeeds at once passes through one state.

The text is matched raw, never parsed for this: the Cause is cut at 32,768 characters, and
``States.StringToJson`` of a cut text would fail the execution.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .job import ERROR, LAUNCH, RESULT
from .retry import LaunchRetry, RetryPolicy

_ERROR_NAME = f"$.{ERROR}.Error"
_CAUSE = f"$.{ERROR}.Cause"
_STOPPED = f"$.{LAUNCH}.stopped"

# Ten of a task definition, and those that AWS itself may add (GuardDuty, Service Connect):
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html
_MOST_CONTAINERS = 12

_or, _and, _not = sfn.Condition.or_, sfn.Condition.and_, sfn.Condition.not_


def _named(*patterns: str) -> sfn.Condition:
    return _any_of(sfn.Condition.string_matches(_ERROR_NAME, pattern) for pattern in patterns)


def _text_has(*fragments: str) -> sfn.Condition:
    return _any_of(sfn.Condition.string_matches(_CAUSE, f"*{fragment}*") for fragment in fragments)


def _any_of(conditions: Iterable[sfn.Condition]) -> sfn.Condition:
    first, *others = conditions
    return _or(first, *others) if others else first


def _all_of(conditions: Iterable[sfn.Condition]) -> sfn.Condition:
    first, *others = conditions
    return _and(first, *others) if others else first


def _stop_code(*codes: str) -> sfn.Condition:
    # With its quotes, which a value that a user chose (an environment override, say) can only have escaped.
    # AWS writes the JSON without spaces, but does not promise so.
    return _text_has(*(f'"StopCode":{space}"{code}"' for code in codes for space in ("", " ")))


def _task_failed(*conditions: sfn.Condition) -> sfn.Condition:
    return _and(sfn.Condition.string_equals(_ERROR_NAME, "States.TaskFailed"), *conditions)


def _no_stop_code() -> sfn.Condition:
    # What is left of a cut text may lack the stop code, which comes late in it.
    return _not(_text_has('"StopCode"'))


_NO_CAPACITY_TEXTS = ("Capacity is unavailable", "RESOURCE:", "reached the limit on the number of")


@cache
def _no_capacity() -> sfn.Condition:
    return _or(
        _named("AmazonECS.Unknown"),
        _and(_named("ECS.*"), _text_has(*_NO_CAPACITY_TEXTS)),
        _task_failed(
            _stop_code("TaskFailedToStart"),
            _text_has(*(f'"StoppedReason":"{text}' for text in _NO_CAPACITY_TEXTS)),
        ),
    )


def _throttled() -> sfn.Condition:
    return _and(
        _not(_no_capacity()),
        _or(
            _named("ECS.ServerException", "ECS.SdkClientException"),
            _and(
                _named("ECS.*"),
                _text_has("Rate exceeded", "Throttling", "Request limit exceeded", "RequestLimitExceeded"),
            ),
            # The generic name: throttling, unless its text says that asking again is useless.
            _and(
                _named("ECS.AmazonECSException"),
                _not(_text_has("AccessDenied", "not authorized", "InvalidParameter", "ClientException", "NotFound")),
            ),
        ),
    )


def _never_started() -> sfn.Condition:
    return _task_failed(
        _not(_no_capacity()),
        _or(
            _stop_code("TaskFailedToStart"),
            # Cut before the stop code: only if a start failed by its own words, and no container came to an end.
            _and(
                _no_stop_code(),
                _not(_text_has('"ExitCode"')),
                _text_has(
                    "CannotPull",
                    "ResourceInitializationError",
                    "CannotStartContainerError",
                    "CannotCreateVolumeError",
                    "ContainerRuntimeTimeoutError",
                    "Timeout waiting for network interface",
                ),
            ),
        ),
    )


def _interrupted() -> sfn.Condition:
    return _task_failed(_stop_code("SpotInterruption"))


def _application() -> sfn.Condition:
    return _task_failed(_or(_stop_code("EssentialContainerExited"), _and(_no_stop_code(), _text_has('"ExitCode"'))))


def _timed_out() -> sfn.Condition:
    return _named("States.Timeout", "States.HeartbeatTimeout")


def _configuration() -> sfn.Condition:
    return _and(_named("ECS.*"), _not(_no_capacity()), _not(_throttled()))


def _tells_exit_codes() -> sfn.Condition:
    # A container ended the task, and the text is whole: the last keys are there, and it closes.
    return _task_failed(
        _stop_code("EssentialContainerExited"),
        sfn.Condition.string_matches(_CAUSE, '{*"TaskDefinitionArn":*}'),
    )


@dataclass(frozen=True)
class _Kind:
    """A kind of failure that has a budget: its counter in ``$.launch``, its state, how it is recognised."""

    counter: str
    state: str
    condition: Callable[[], sfn.Condition]
    policy: Callable[[LaunchRetry], RetryPolicy]


_KINDS = (
    _Kind("throttled", "Throttled", _throttled, lambda retry: retry.throttled),
    _Kind("noCapacity", "No capacity", _no_capacity, lambda retry: retry.no_capacity),
    _Kind("neverStarted", "Never started", _never_started, lambda retry: retry.never_started),
    _Kind("application", "Application failed", _application, lambda retry: retry.application),
    _Kind("timedOut", "Timed out", _timed_out, lambda retry: retry.timed_out),
    _Kind("configuration", "Wrong configuration", _configuration, lambda retry: retry.configuration),
)


class LaunchLoop:
    """Makes the states around one launch or, with a fallback, around two that share their budgets.

    Args:
        scope: Where the states are made.
        retry: The budgets.
        essential: The names of the containers that decide.
        has_sidecar: Whether other containers, which must not decide, run beside them.
        on_failure: Where a failure goes for which no budget is left.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        retry: LaunchRetry,
        essential: Sequence[str],
        has_sidecar: bool,
        on_failure: sfn.IChainable,
    ) -> None:
        self._scope = scope
        self._kinds = [(kind, kind.policy(retry)) for kind in _KINDS if kind.policy(retry).max_attempts > 0]
        self._essential = essential
        self._has_sidecar = has_sidecar
        self._on_failure = on_failure

    def around(
        self, launch: sfn.CustomState, *, suffix: str = "", fallback: sfn.CustomState | None = None
    ) -> list[sfn.INextable]:
        """Catches what `launch` fails with. Returns the states, `launch` among them, that end in success.

        With a `fallback`, missing capacity and interruptions lead there at once.
        """
        ends: list[sfn.INextable] = [launch]
        if not self._kinds and not self._has_sidecar and fallback is None:
            launch.add_catch(self._on_failure, errors=["States.ALL"], result_path=f"$.{ERROR}")
            return ends

        why = sfn.Choice(self._scope, f"Why did it fail{suffix}?")
        launch.add_catch(why, errors=["States.ALL"], result_path=f"$.{ERROR}")

        # Both come first: a Choice fails the execution when it compares a path that is not there.
        why.when(
            sfn.Condition.is_not_present(_CAUSE),
            sfn.Pass(
                self._scope,
                f"No cause given{suffix}",
                result=sfn.Result.from_string("AWS gave no cause."),
                result_path=_CAUSE,
            ).next(why),
            comment="no cause",
        )
        why.when(
            sfn.Condition.is_not_present(f"$.{LAUNCH}"),
            sfn.Pass(
                self._scope,
                f"Start counting{suffix}",
                result=sfn.Result.from_object({kind.counter: 0 for kind, _ in self._kinds} | {"pause": 0}),
                result_path=f"$.{LAUNCH}",
            ).next(why),
            comment="first failure",
        )
        if fallback is not None:
            why.when(_or(_interrupted(), _no_capacity()), fallback, comment="no Spot capacity")
        if self._has_sidecar:
            ends.append(self._sidecar(why, suffix))
        retried = [each for each in self._kinds if fallback is None or each[0].counter != "noCapacity"]
        if retried:  # Step Functions refuses a state that nothing leads to.
            wait = sfn.Wait(
                self._scope,
                f"Wait before relaunch{suffix}",
                time=sfn.WaitTime.seconds_path(f"$.{LAUNCH}.pause"),
            ).next(launch)
        for kind, policy in retried:
            within_budget = sfn.Condition.number_less_than(f"$.{LAUNCH}.{kind.counter}", policy.max_attempts)
            count = self._count(kind, policy, suffix).next(wait)
            why.when(_and(kind.condition(), within_budget), count, comment=f"{kind.state.lower()}, budget left")
        why.otherwise(self._on_failure)
        return ends

    def _count(self, kind: _Kind, policy: RetryPolicy, suffix: str) -> sfn.Pass:
        """Counts one more failure of this kind, and draws the pause after it."""
        counted = f"$.{LAUNCH}.{kind.counter}"
        ceiling = f"States.ArrayGetItem(States.Array({', '.join(map(str, policy.ceilings))}), {counted})"
        if policy.jitter:
            # MathRandom leaves its end out, so the ceiling itself is drawn only from one above it:
            # https://docs.aws.amazon.com/step-functions/latest/dg/intrinsic-functions.html
            ceiling = f"States.MathRandom(0, States.MathAdd({ceiling}, 1))"
        return sfn.Pass(
            self._scope,
            f"{kind.state}{suffix}",
            parameters={
                **{f"{other.counter}.$": f"$.{LAUNCH}.{other.counter}" for other, _ in self._kinds},
                f"{kind.counter}.$": f"States.MathAdd({counted}, 1)",
                "pause.$": ceiling,
            },
            result_path=f"$.{LAUNCH}",
        )

    def _sidecar(self, why: sfn.Choice, suffix: str) -> sfn.INextable:
        """Reads each container's exit code, and ends in success where only a sidecar failed.

        Step Functions fails the state for any container's exit code, essential or not:
        https://github.com/aws/aws-cdk/issues/32877
        """
        why.when(
            _and(_tells_exit_codes(), sfn.Condition.is_not_present(_STOPPED)),
            sfn.Pass(
                self._scope,
                f"Read the exit codes{suffix}",
                parameters={"task.$": f"States.StringToJson({_CAUSE})"},
                result_path=_STOPPED,
            ).next(why),
            comment="a container exited",
        )
        succeeded = sfn.Pass(
            self._scope,
            f"Only a sidecar failed{suffix}",
            input_path=f"{_STOPPED}.task",
            result_path=f"$.{RESULT}",
        )
        why.when(
            _and(sfn.Condition.is_present(_STOPPED), self._essential_succeeded()),
            succeeded,
            comment="essential containers exited 0",
        )
        return succeeded

    def _essential_succeeded(self) -> sfn.Condition:
        """Every essential container is listed with exit code 0, in whatever order; a missing code is no success."""

        def exited_zero(name: str, index: int) -> sfn.Condition:
            container = f"{_STOPPED}.task.Containers[{index}]"
            return _and(
                sfn.Condition.is_present(f"{container}.ExitCode"),
                sfn.Condition.string_equals(f"{container}.Name", name),
                sfn.Condition.number_equals(f"{container}.ExitCode", 0),
            )

        return _all_of(
            _any_of(exited_zero(name, index) for index in range(_MOST_CONTAINERS)) for name in self._essential
        )

"""Budgets and pauses."""

import re
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_stepfunctions as sfn

from asl_tools.resolve import state_machines
from asl_tools.second_interpreter import Error, Result, Run, run_all
from asl_tools.validate import problems
from constructs_lib import (
    NO_RETRY,
    RETRY_LIKE_THE_ORIGINAL,
    RETRY_ONCE_EXCEPT_TIMEOUTS,
    ConfigurationError,
    LaunchRetry,
    RetryPolicy,
)
from tests.scheduled import template_of


def test_ceilings_grow_and_stop_at_the_longest_delay() -> None:
    policy = RetryPolicy(max_attempts=6, interval=Duration.seconds(5), max_delay=Duration.minutes(1))
    assert policy.ceilings == (5, 10, 20, 40, 60, 60)
    assert policy.longest_pause.to_seconds() == 195


def test_ceilings_are_whole_seconds() -> None:
    assert RetryPolicy(max_attempts=4, interval=Duration.seconds(1), backoff_rate=1.5).ceilings == (1, 1, 2, 3)


def test_a_constant_pause() -> None:
    assert RetryPolicy(interval=Duration.seconds(7), backoff_rate=1).ceilings == (7, 7, 7)


def test_a_long_policy_does_not_overflow() -> None:
    policy = RetryPolicy(max_attempts=500, backoff_rate=1e300, max_delay=Duration.hours(1))
    assert policy.ceilings == (2, *[3600] * 499)


def test_no_retry_has_no_pauses() -> None:
    assert NO_RETRY.ceilings == ()
    assert NO_RETRY.longest_pause.to_seconds() == 0


def test_like_the_original() -> None:
    assert (RETRY_LIKE_THE_ORIGINAL.ceilings, RETRY_LIKE_THE_ORIGINAL.jitter) == ((1, 2, 4), False)


def test_once_except_timeouts(stack: cdk.Stack) -> None:
    """What a preset for neighbours does: slow ones are left alone, and all else is tried once more."""
    state = sfn.CustomState(
        stack, "Ask", state_json={"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage", "Parameters": {}}
    )
    RETRY_ONCE_EXCEPT_TIMEOUTS.apply_to(state, errors=["States.ALL"])
    assert state.to_state_json()["Retry"] == [
        {"ErrorEquals": ["States.Timeout", "States.HeartbeatTimeout"], "MaxAttempts": 0},
        {
            "ErrorEquals": ["States.ALL"],
            "IntervalSeconds": 5,
            "MaxAttempts": 1,
            "MaxDelaySeconds": 60,
            "BackoffRate": 1,
            "JitterStrategy": "NONE",
        },
    ]
    sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(state))
    [asl] = state_machines(template_of(stack)).values()
    assert problems(asl) == []
    scripts: list[list[Result | Error]] = [
        [Error("States.Timeout")],
        [Error("Down"), Error("Down")],
        [Error("Down"), Result(1)],
    ]
    slow, down, back = run_all([Run(definition=asl, tasks={"Ask": script}) for script in scripts])
    assert [one.calls["Ask"] for one in (slow, down, back)] == [1, 2, 2]
    assert [one.status for one in (slow, down, back)] == ["FAILED", "FAILED", "SUCCEEDED"]


def test_policies_are_values() -> None:
    policy = RetryPolicy(interval=Duration.minutes(1))
    assert policy == RetryPolicy(interval=Duration.seconds(60))
    assert hash(policy) == hash(RetryPolicy(interval=Duration.seconds(60)))
    assert policy != RetryPolicy(interval=Duration.seconds(61), max_delay=Duration.minutes(2))
    assert policy != RetryPolicy(interval=Duration.seconds(60), timeouts=False)
    assert policy != 60
    assert LaunchRetry(throttled=NO_RETRY) == LaunchRetry(throttled=RetryPolicy(max_attempts=0))
    assert repr(RetryPolicy()) == (
        "RetryPolicy(max_attempts=3, interval=2 s, backoff_rate=2, max_delay=60 s, jitter=True, timeouts=True)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_attempts": -1}, "max_attempts must be a whole number from 0 to 500, got -1. Pass for example 1."),
        ({"max_attempts": 501}, "max_attempts must be a whole number from 0 to 500, got 501. Pass for example 1."),
        ({"max_attempts": 2.5}, "max_attempts must be a whole number from 0 to 500, got 2.5. Pass for example 1."),
        (
            {"max_attempts": float("nan")},
            "max_attempts must be a whole number from 0 to 500, got nan. Pass for example 1.",
        ),
        ({"max_attempts": True}, "max_attempts must be a whole number from 0 to 500, got True. Pass for example 1."),
        (
            {"interval": Duration.seconds(0)},
            "interval must be at least 1 second, in whole seconds, got Duration of 0 seconds. "
            "Pass for example Duration.hours(1).",
        ),
        (
            {"interval": Duration.millis(2500)},
            "interval must be at least 1 second, in whole seconds, got Duration of 2 seconds 500 millis. "
            "Pass for example Duration.hours(1).",
        ),
        ({"interval": 5}, "interval must be a Duration, got 5. Pass for example Duration.hours(1)."),
        (
            {"max_delay": Duration.seconds(1)},
            "max_delay must not be shorter than interval, got Duration of 1 second. "
            "Pass max_delay=2 seconds or more, or shorten interval.",
        ),
        (
            {"max_delay": Duration.days(367)},
            "max_delay must be at most 365 days 23 hours, got Duration of 367 days. "
            "Pass Duration.seconds(31622399) or less.",
        ),
        ({"backoff_rate": 0.9}, "backoff_rate must be finite, and 1 or more, got 0.9. Pass for example 2."),
        (
            {"backoff_rate": float("nan")},
            "backoff_rate must be finite, and 1 or more, got nan. Pass for example 2.",
        ),
        (
            {"backoff_rate": float("inf")},
            "backoff_rate must be finite, and 1 or more, got inf. Pass for example 2.",
        ),
        ({"backoff_rate": "2"}, "backoff_rate must be of type int or float, got '2'. Pass for example 2."),
    ],
)
def test_values_out_of_bounds_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'RetryPolicy: {message}')}$"):
        RetryPolicy(**arguments)


def test_attempts_that_only_the_deployment_knows_are_refused(stack: cdk.Stack) -> None:
    attempts: Any = cdk.CfnParameter(stack, "Attempts", type="Number").value_as_number
    message = "RetryPolicy: max_attempts must be known at synthesis, got a token. Pass a literal such as 0 instead"
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}"):
        RetryPolicy(max_attempts=attempts)


def test_the_default_budgets_are_what_their_documentation_says() -> None:
    retry = LaunchRetry()
    assert retry.throttled.ceilings == (5, 10, 20, 40, 80, 120, 120, 120)
    assert retry.no_capacity.ceilings == (15, 30, 60, 120, 240, *[300] * 7)
    # "In all at most 43 minutes", rounded up.
    assert 42 < retry.no_capacity.longest_pause.to_minutes(integral=False) <= 43
    assert retry.never_started.ceilings == (15, 30, 60)
    assert (retry.application, retry.timed_out, retry.configuration) == (NO_RETRY, NO_RETRY, NO_RETRY)


def test_pauses_of_all_budgets_add_up() -> None:
    budgets = LaunchRetry().budgets
    assert LaunchRetry().longest_pause.to_seconds() == sum(sum(policy.ceilings) for policy in budgets.values())
    assert set(budgets) == {
        "throttled",
        "no_capacity",
        "never_started",
        "application",
        "timed_out",
        "configuration",
    }


def test_never_means_never() -> None:
    assert {policy.max_attempts for policy in LaunchRetry.never().budgets.values()} == {0}
    assert LaunchRetry.never().longest_pause.to_seconds() == 0

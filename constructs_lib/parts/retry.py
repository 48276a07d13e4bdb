"""How often, and after what pause, something is tried again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate, repeat

from aws_cdk import Duration
from aws_cdk import aws_stepfunctions as sfn

from .validation import invalid, require_duration, require_type, require_whole_number

# A relaunch leaves about 25 events in the execution's history, which ends at 25,000:
# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
MOST_ATTEMPTS = 500

_TIMEOUTS = ("States.Timeout", "States.HeartbeatTimeout")

# Upper bound of MaxDelaySeconds: https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
_LONGEST_DELAY = Duration.seconds(31_622_399)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RetryPolicy:
    """Exponential backoff with a ceiling and, unless told otherwise, full jitter.

    Args:
        max_attempts: How often it is tried again after the first failure; 0 for never. Default 3.
        interval: Ceiling of the first pause, in whole seconds. Default 2 seconds.
        backoff_rate: What each further ceiling is multiplied by, 1 or more. Default 2.
        max_delay: No pause is longer than this. Default 1 minute.
        jitter: Draw each pause between zero and its ceiling ("full jitter"), so that many callers who were
            refused together do not come back together. Default True.
        timeouts: Whether what ran out of time is tried again, too. Default True.

    Raises:
        ConfigurationError: a value is out of bounds.
    """

    max_attempts: int = 3
    interval: Duration = Duration.seconds(2)
    backoff_rate: float = 2
    max_delay: Duration = Duration.minutes(1)
    jitter: bool = True
    timeouts: bool = True

    def __post_init__(self) -> None:
        where = type(self).__name__
        require_whole_number(
            where, "max_attempts", self.max_attempts, at_least=0, at_most=MOST_ATTEMPTS, known_at_synthesis=True
        )
        interval = require_duration(where, "interval", self.interval)
        max_delay = require_duration(where, "max_delay", self.max_delay, at_most=_LONGEST_DELAY)
        if max_delay < interval:
            raise invalid(
                where,
                "max_delay",
                "must not be shorter than interval",
                self.max_delay,
                f"Pass max_delay={self.interval.to_human_string()} or more, or shorten interval.",
            )
        require_type(where, "backoff_rate", self.backoff_rate, (int, float), "Pass for example 2.")
        if not 1 <= self.backoff_rate < math.inf:
            raise invalid(
                where, "backoff_rate", "must be finite, and 1 or more", self.backoff_rate, "Pass for example 2."
            )

    @cached_property
    def _value(self) -> tuple[object, ...]:
        # Durations are handles of another runtime: two of equal length are not equal to Python.
        return (
            self.max_attempts,
            self.interval.to_seconds(),
            self.backoff_rate,
            self.max_delay.to_seconds(),
            self.jitter,
            self.timeouts,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RetryPolicy) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return (
            f"RetryPolicy(max_attempts={self.max_attempts}, interval={self.interval.to_seconds():g} s, "
            f"backoff_rate={self.backoff_rate:g}, max_delay={self.max_delay.to_seconds():g} s, "
            f"jitter={self.jitter}, timeouts={self.timeouts})"
        )

    @cached_property
    def ceilings(self) -> tuple[int, ...]:
        """The longest pause before each further attempt, in seconds."""
        longest = int(self.max_delay.to_seconds())
        growth = accumulate(
            repeat(self.backoff_rate, self.max_attempts),
            # Bounded at every step, or a long policy overflows before the ceiling is applied.
            lambda pause, rate: min(pause * rate, longest),
            initial=float(self.interval.to_seconds()),
        )
        return tuple(min(int(pause), longest) for pause, _ in zip(growth, range(self.max_attempts), strict=False))

    @cached_property
    def longest_pause(self) -> Duration:
        """What all pauses together take at the most."""
        return Duration.seconds(sum(self.ceilings))

    def apply_to(self, state: sfn.TaskStateBase | sfn.CustomState, *, errors: Sequence[str]) -> None:
        """Adds this policy to a state as its `Retry` for the error names given."""
        if self.max_attempts == 0:
            return
        if not self.timeouts:
            # Before the others: the first that matches decides.
            state.add_retry(errors=list(_TIMEOUTS), max_attempts=0)
        state.add_retry(
            errors=list(errors),
            max_attempts=self.max_attempts,
            interval=self.interval,
            backoff_rate=self.backoff_rate,
            max_delay=self.max_delay,
            jitter_strategy=sfn.JitterType.FULL if self.jitter else sfn.JitterType.NONE,
        )


NO_RETRY = RetryPolicy(max_attempts=0)

RETRY_LIKE_THE_ORIGINAL = RetryPolicy(max_attempts=3, interval=Duration.seconds(1), jitter=False)
"""Everything is tried three times more, after 1, 2 and 4 seconds, whatever went wrong.

This is what the sample that this library started from did. Use it with ``fail_execution=False`` to also have
its executions end SUCCEEDED after the alert. Neither is advisable: it runs a failed application again, and
gives up on a capacity shortage after seven seconds.
"""

RETRY_ONCE_EXCEPT_TIMEOUTS = RetryPolicy(
    max_attempts=1, interval=Duration.seconds(5), backoff_rate=1, jitter=False, timeouts=False
)
"""Everything is tried once more, after 5 seconds, but what ran out of time: a slow neighbour is not cured by hammering.

What then still fails is for the `ErrorSpool`. For any task: ``RETRY_ONCE_EXCEPT_TIMEOUTS.apply_to(state,
errors=["States.ALL"])``.
"""


@dataclass(frozen=True, kw_only=True)
class LaunchRetry:
    """How often a Fargate task is launched again, with a budget of its own for each kind of failure.

    The budgets count over the whole execution and do not touch each other: ten refusals for lack of capacity
    leave the budget for throttling as it was.

    Args:
        throttled: ECS or, behind it, EC2 refused the call for its rate, or failed with a 5xx.
            Default: 8 more launches, pauses up to 5, 10, 20 … 120 seconds.
        no_capacity: Fargate had no capacity, or the vCPU quota of the account was used up.
            Default: 12 more launches, pauses up to 15, 30, 60 … 300 seconds, in all at most 43 minutes.
        never_started: The launch was accepted, but no container came to run: image pull, network interface,
            secrets. Default: 3 more launches, pauses up to 15, 30 and 60 seconds.
        application: A container ran and exited non-zero. Default: never.
        timed_out: The task ran longer than its timeout. Default: never; a slow neighbour is not cured by
            hammering it.
        configuration: The call itself was wrong: role, cluster, override. Default: never.
    """

    throttled: RetryPolicy = RetryPolicy(max_attempts=8, interval=Duration.seconds(5), max_delay=Duration.minutes(2))
    no_capacity: RetryPolicy = RetryPolicy(
        max_attempts=12, interval=Duration.seconds(15), max_delay=Duration.minutes(5)
    )
    never_started: RetryPolicy = RetryPolicy(
        max_attempts=3, interval=Duration.seconds(15), max_delay=Duration.minutes(1)
    )
    application: RetryPolicy = NO_RETRY
    timed_out: RetryPolicy = NO_RETRY
    configuration: RetryPolicy = NO_RETRY

    @classmethod
    def never(cls) -> "LaunchRetry":
        """Nothing is launched again."""
        return cls(throttled=NO_RETRY, no_capacity=NO_RETRY, never_started=NO_RETRY)

    @property
    def budgets(self) -> Mapping[str, RetryPolicy]:
        """The policy for each kind of failure, by the name of its argument."""
        return {budget.name: getattr(self, budget.name) for budget in fields(self)}

    @property
    def longest_pause(self) -> Duration:
        """What the pauses of all budgets together take at the most."""
        return Duration.seconds(sum(sum(policy.ceilings) for policy in self.budgets.values()))

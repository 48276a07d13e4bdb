"""What a workflow runs: the contract between a kind of work and the state machine around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

RESULT, ERROR, LAUNCH = "result", "error", "launch"
"""The keys that a job sets beside the execution's input, which it never overwrites."""

RESERVED_KEYS = (RESULT, ERROR, LAUNCH)

PERMITS = "permits"
"""The key that guards set beside the input."""

TICK = "tick"
"""The key that a schedule sets beside the input where each of its ticks is to run once."""

# An execution, and so a job in it, may run for a year:
# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
LONGEST_EXECUTION = Duration.days(365)

# What happens after the job failed (alerts and their retries) has this long before the execution times out.
TIME_FOR_HANDLERS = Duration.minutes(15)


class Connection(Protocol):
    """Something that must know the state machine, or be known to it, once there is one."""

    def connect(self, state_machine: sfn.StateMachine) -> None:
        """Makes what the two need of each other, beside the state machine."""
        ...


@dataclass(frozen=True, kw_only=True)
class BoundJob:
    """A job that has become states of one state machine.

    Args:
        chain: The states. They end where the job succeeded, and lead to ``on_failure`` where it failed.
        statements: What the state machine's role must be allowed, and nothing more.
        longest_run: How long the states may take at most, pauses between attempts included.
        security_groups: Those that the job's network interfaces are in.
        connections: What the state machine is to be connected to.
        uncaught: The errors that a failure has which does not lead to ``on_failure``, so that the execution fails with
            it, beside those that no state can catch: as a pattern of EventBridge has them.
        acknowledgements: Why cdk-nag findings on the statements are right as they are.
    """

    chain: sfn.Chain
    statements: Sequence[iam.PolicyStatement]
    longest_run: Duration
    security_groups: Sequence[ec2.ISecurityGroup] = ()
    connections: Sequence[Connection] = ()
    uncaught: Sequence[str | Mapping[str, str]] = ()
    acknowledgements: Mapping[str, str] = field(default_factory=dict)


class Job(Protocol):
    """A kind of work, told before there is a state machine. Immutable, so that it can be bound more than once."""

    def bind(self, scope: Construct, *, on_failure: sfn.IChainable) -> BoundJob:
        """Makes the states under `scope`; a failure arrives at `on_failure` with its error at ``$.error``."""
        ...

    def description(self) -> Mapping[str, Any]:
        """What an alert needs to know of the job, as JSON.

        ``again`` in it is the path to the input that a new execution takes to do again what failed. Without it, that is
        the input of the execution itself.
        """
        ...

    def log_group_arns(self) -> Sequence[str]:
        """The log groups that an alert reads the last lines from."""
        ...

    def input_paths(self) -> Sequence[str]:
        """The JSONPaths that must exist in the execution's input."""
        ...

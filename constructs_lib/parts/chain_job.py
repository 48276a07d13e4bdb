"""States that somebody else made, as the work of a state machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .job import ERROR, LONGEST_EXECUTION, RESULT, BoundJob


@dataclass(frozen=True, kw_only=True)
class ChainJob:
    """Runs a chain of states, whatever it is made of.

    It lies in a Parallel state, so that whatever fails in it is caught: one transition more. Its output is at
    ``$.result.output``. Retries, time limits and permissions are those of its own states.

    Args:
        chain: A state or a chain of states, in JSONPath. It can be in one state machine only.
    """

    chain: sfn.IChainable

    def bind(self, scope: Construct, *, on_failure: sfn.IChainable) -> BoundJob:
        """See `Job.bind`. What the states may do comes to the role of the state machine by their graph."""
        work = sfn.Parallel(scope, "Process", result_selector={"output.$": "$[0]"}, result_path=f"$.{RESULT}").branch(
            self.chain
        )
        work.add_catch(on_failure, errors=["States.ALL"], result_path=f"$.{ERROR}")
        return BoundJob(chain=sfn.Chain.start(work), statements=[], longest_run=LONGEST_EXECUTION)

    def description(self) -> Mapping[str, Any]:
        """See `Job.description`."""
        return {"kind": "chain"}

    def log_group_arns(self) -> Sequence[str]:
        """See `Job.log_group_arns`."""
        return []

    def input_paths(self) -> Sequence[str]:
        """See `Job.input_paths`."""
        return []

    @property
    def roles(self) -> Sequence[iam.IRole]:
        """The roles that the work itself has: nobody knows what the states do."""
        return []

    @property
    def longest_stop(self) -> Duration:
        """How long the work may go on after its execution was stopped: a function in it, at the longest.

        https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
        """
        return Duration.minutes(15)

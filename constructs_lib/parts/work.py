"""What a caller may give as work: a Fargate task, a function, or states."""

from typing import Any

from constructs import Construct

from .chain_job import ChainJob
from .fargate_job import FargateJob
from .lambda_job import LambdaJob
from .validation import invalid

AnyWork = FargateJob | LambdaJob | ChainJob


def as_work(scope: Construct, argument: str, given: Any) -> AnyWork:
    """Takes functions and states as they are.

    Raises:
        ConfigurationError: it is none of these.
    """
    if isinstance(given, FargateJob):
        return given
    # By what they have: imported functions are proxies without a class of their own.
    if hasattr(given, "function_arn"):
        return LambdaJob(function=given)
    if hasattr(given, "start_state"):
        return ChainJob(chain=given)
    raise invalid(
        scope,
        argument,
        "must be a FargateJob, a function or a chain of states",
        given,
        "Pass for example FargateJob(cluster=…, task_definition=…).",
    )

"""What is to be done with an item or a batch of them: a Fargate task, a function, or states, as one kind of job."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .batch import Batch
from .chain_job import ChainJob
from .fargate_job import FargateJob
from .lambda_job import LambdaJob
from .validation import invalid, leads_somewhere
from .work import AnyWork, as_work

ITEM, ITEMS, BATCH_INPUT, RUN, CONSTANTS = "item", "Items", "BatchInput", "run", "constants"
"""The keys of a child's input. Those of a batch are Step Functions' own."""

# An Express execution runs for so long at the most:
# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
_LONGEST_EXPRESS = Duration.minutes(5)

# All overrides of a task together may have 8,192 characters, in which each quote of the JSON counts twice:
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskOverride.html
_LARGEST_FOR_TASK = 4096

# Work that an Express execution cannot wait for:
# https://docs.aws.amazon.com/step-functions/latest/dg/choosing-workflow-type.html
_WAITING = re.compile(r"\.(sync(:2)?|waitForTaskToken)$")


def as_item_job(scope: Construct, argument: str, given: Any, batch: Batch | None) -> AnyWork:
    """Takes functions and states as they are, and tells a task's default container of its item or items.

    Raises:
        ConfigurationError: it is none of these, or takes something from the input that is not there.
    """
    work = as_work(scope, argument, given)
    return _of_items(scope, argument, work, batch) if isinstance(work, FargateJob) else work


def check_express(scope: Construct, argument: str, work: AnyWork) -> None:
    """Refuses what an Express execution cannot do.

    Raises:
        ConfigurationError: it waits for a task, or may take longer than 5 minutes.
    """
    remedy = "Leave out execution_type."
    if isinstance(work, FargateJob):
        rule = "must not be a FargateJob with Express children, which cannot wait for a task"
        raise invalid(scope, argument, rule, work.task_definition.node.path, remedy)
    timeout = work.timeout if isinstance(work, LambdaJob) else None
    if timeout is not None and timeout.to_seconds() > _LONGEST_EXPRESS.to_seconds():
        rule = "must not have a timeout above 5 minutes with Express children, which take no longer"
        raise invalid(scope, argument, rule, timeout, f"Shorten it. Or: {remedy}")
    if isinstance(work, ChainJob):
        for state in sfn.State.find_reachable_states(work.chain.start_state, include_error_handlers=True):
            resource = state.to_state_json().get("Resource")
            if isinstance(resource, str) and _WAITING.search(resource):
                rule = "must not wait for a task with Express children, which cannot"
                raise invalid(scope, argument, rule, state.node.id, remedy)


def must_begin_anew(work: AnyWork, *, guarded: bool) -> bool:
    """Whether a child that did not succeed is not to be redriven, which resumes it where it ended.

    That is in a Fail state, where its failure was caught; or at its work, without the permit that was given back.
    https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html
    """
    if guarded or not isinstance(work, ChainJob):
        return guarded or isinstance(work, FargateJob)
    states = sfn.State.find_reachable_states(work.chain.start_state, include_error_handlers=True)
    return any(state.to_state_json().get("Type") == "Fail" for state in states)


def _of_items(scope: Construct, argument: str, job: FargateJob, batch: Batch | None) -> FargateJob:
    if batch is not None and (batch.max_bytes is None or batch.max_bytes > _LARGEST_FOR_TASK):
        raise invalid(
            scope,
            "batch.max_bytes",
            f"must be at most {_LARGEST_FOR_TASK} with a FargateJob, whose container gets its items in its environment",
            batch.max_bytes,
            f"Pass max_bytes={_LARGEST_FOR_TASK}.",
        )
    told = replace(job, environment={**_environment(batched=batch is not None), **job.environment})
    for path in told.input_paths():
        if not leads_somewhere(path, _input(batched=batch is not None)):
            raise invalid(
                scope,
                argument,
                f"must take from the input what is there: {', '.join(f'$.{key}' for key in _input(batch is not None))}",
                path,
                f"Correct the path, for example {'$.Items' if batch else '$.item'}.",
            )
    return told


def _input(batched: bool) -> Mapping[str, Any]:
    """What every child gets, with tokens for what only a run tells."""
    run = dict.fromkeys(("execution", "date", "bucket", "prefix", "key"), "")
    added = {RUN: run, CONSTANTS: sfn.JsonPath.string_at(f"$.{CONSTANTS}")}
    if batched:
        return {ITEMS: sfn.JsonPath.string_at(f"$.{ITEMS}"), BATCH_INPUT: added}
    return {ITEM: sfn.JsonPath.string_at(f"$.{ITEM}"), **added}


def _environment(batched: bool) -> dict[str, str]:
    """Where a container finds its item: environment variables, in JSON."""
    added = f"$.{BATCH_INPUT}." if batched else "$."
    paths = {
        **({"ITEMS": f"$.{ITEMS}"} if batched else {"ITEM": f"$.{ITEM}"}),
        "RUN": f"{added}{RUN}",
        "CONSTANTS": f"{added}{CONSTANTS}",
    }
    return {name: sfn.JsonPath.json_to_string(sfn.JsonPath.object_at(path)) for name, path in paths.items()}

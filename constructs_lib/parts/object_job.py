"""What is to be done with an object: a Fargate task, a function, or states, as one kind of job."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .fargate_job import FargateJob
from .validation import invalid, leads_somewhere
from .work import AnyWork, as_work

OBJECT = "object"
"""The key of the execution's input that tells of the object."""

_FIELDS: Mapping[str, str | int] = {
    "bucket": "",
    "key": "",
    "versionId": "",
    "size": 0,
    "etag": "",
    "sequencer": "",
    "time": "",
    "reason": "",
}
_INPUT = {OBJECT: _FIELDS}
"""What every execution gets, with values that stand for those of an object."""

_VARIABLES = {
    "OBJECT_BUCKET": "bucket",
    "OBJECT_KEY": "key",
    "OBJECT_VERSION_ID": "versionId",
    "OBJECT_SIZE": "size",
    "OBJECT_ETAG": "etag",
    "OBJECT_SEQUENCER": "sequencer",
}
"""Where a container finds the object: environment variables, and the fields that they are taken from."""


def as_job(scope: Construct, argument: str, given: Any) -> AnyWork:
    """Takes functions and states as they are, and tells a task's default container of the object.

    Raises:
        ConfigurationError: it is none of these, or takes something from the input that is not there.
    """
    work = as_work(scope, argument, given)
    if not isinstance(work, FargateJob):
        return work
    told = replace(work, environment={**_environment(), **work.environment})
    for path in told.input_paths():
        if not leads_somewhere(path, _INPUT):
            raise invalid(
                scope,
                argument,
                f"must take from the input what is there: $.{OBJECT} with {', '.join(_FIELDS)}",
                path,
                f"Correct the path, for example $.{OBJECT}.key.",
            )
    return told


def _environment() -> dict[str, Any]:
    paths = {name: sfn.JsonPath.string_at(f"$.{OBJECT}.{field}") for name, field in _VARIABLES.items()}
    # A variable is a text; the size is a number.
    return {**paths, "OBJECT_SIZE": sfn.JsonPath.format("{}", paths["OBJECT_SIZE"])}

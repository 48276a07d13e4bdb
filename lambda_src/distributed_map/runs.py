"""What Step Functions knows of a run."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import boto3
from botocore.exceptions import ClientError

from distributed_map.outcome import Run
from distributed_map.store import code_of
from pipeline.patience import ONE_REQUEST, Patience

GOING_ON = ("RUNNING", "PENDING_REDRIVE")


@cache
def stepfunctions() -> Any:
    return boto3.client("stepfunctions", config=ONE_REQUEST)


class Runs:
    """Executions and their map runs.

    Args:
        patience: How long a request is repeated.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    def describe(self, execution: str) -> Mapping[str, Any] | None:
        """An execution; None where Step Functions does not know it (any more)."""
        try:
            found: Mapping[str, Any] = self._patience.ask(
                lambda: stepfunctions().describe_execution(executionArn=execution)
            )
        except ClientError as problem:
            if code_of(problem) in ("ExecutionDoesNotExist", "InvalidArn"):
                return None
            raise
        return found

    def map_run(self, arn: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._patience.ask(lambda: stepfunctions().describe_map_run(mapRunArn=arn))
        return found

    def map_runs(self, execution: str) -> list[str]:
        """The ARNs of an execution's map runs, the newest first. A redrive may have started another one."""
        found: list[Mapping[str, Any]] = []
        page: dict[str, str] = {}
        while True:
            reply = self._patience.ask(partial(stepfunctions().list_map_runs, executionArn=execution, **page))
            found += reply["mapRuns"]
            if "nextToken" not in reply:
                break
            page = {"nextToken": reply["nextToken"]}
        return [each["mapRunArn"] for each in sorted(found, key=lambda each: each["startDate"], reverse=True)]


def run_of(found: Mapping[str, Any]) -> Run:
    """An execution, as DescribeExecution tells of it."""
    return Run(
        execution=found["executionArn"],
        name=found["name"],
        status=found["status"],
        error=found.get("error") or "",
        cause=found.get("cause") or "",
        redrives=found.get("redriveCount", 0),
        started_at=iso(found["startDate"]),
        ended_at=iso(found["stopDate"]) if found.get("stopDate") else None,
    )


def iso(time: datetime) -> str:
    """In UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

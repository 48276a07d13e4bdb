"""Sends a failed execution to the spool, once."""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline.patience import ONE_REQUEST, Patience
from spool.envelope import STATUSES, Envelope, Location, write
from spool.ledger import Ledger, dynamodb
from spool.metrics import log

LONGEST_BODY = 256 * 1024
"""Bytes of a message; a longer input goes to S3. SQS would take more, but a queue is looked at as a whole."""

LONGEST_CAUSE = 4_000
LAST_EVENTS = 25
"""How many events of an execution, from its end, are searched for the state that failed."""


@cache
def stepfunctions() -> Any:
    return boto3.client("stepfunctions", config=ONE_REQUEST)


@cache
def sqs() -> Any:
    return boto3.client("sqs", config=ONE_REQUEST)


@cache
def s3() -> Any:
    return boto3.client("s3", config=ONE_REQUEST)


class Spooling:
    """What brings failures into the spool. Environment: `QUEUE_URL`, `TABLE_NAME`, `BUCKET`.

    Args:
        patience: How long a request is repeated.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self.ledger = Ledger(dynamodb(), os.environ["TABLE_NAME"], patience)

    def spool(self, execution: str) -> bool:
        """Whether the execution's failure was sent; not if that was done before, or there is none.

        Raises:
            BeingSpooledError: somebody else began a moment ago.
        """
        try:
            found = self._patience.ask(lambda: stepfunctions().describe_execution(executionArn=execution))
        except ClientError as problem:
            if problem.response["Error"]["Code"] != "ExecutionDoesNotExist":
                raise
            log("WARN", "the execution is not known any more", execution=execution)
            return False
        redrives = found.get("redriveCount", 0)
        # Resumed since it failed: if it fails again, that is told again.
        if found["status"] not in STATUSES or not self.ledger.begin(execution, redrives):
            return False
        body = self._body(self._envelope(found))
        self._patience.ask(lambda: sqs().send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=body))
        self.ledger.done(execution, redrives)
        return True

    def _envelope(self, found: Mapping[str, Any]) -> Envelope:
        state, caught = self._last_state(found["executionArn"])
        return Envelope(
            input=found.get("input", "{}"),
            error=found.get("error", ""),
            cause=found.get("cause", "")[:LONGEST_CAUSE],
            state_machine=found["stateMachineArn"],
            execution=found["executionArn"],
            execution_name=found["name"],
            execution_started_at=_iso(found["startDate"]),
            failed_at=_iso(found.get("stopDate", found["startDate"])),
            failed_state=state,
            status=found["status"],
            redrive_count=found.get("redriveCount", 0),
            caught=caught,
        )

    def _last_state(self, execution: str) -> tuple[str, bool]:
        """The name of the last state, and whether it is a Fail state. Without it the failure is still worth keeping."""
        try:
            history = self._patience.ask(
                lambda: stepfunctions().get_execution_history(
                    executionArn=execution, reverseOrder=True, maxResults=LAST_EVENTS, includeExecutionData=False
                )
            )
        except ClientError as problem:
            log("WARN", "the failed state is not known", execution=execution, error=problem)
            return "", False
        for event in history["events"]:
            if "stateEnteredEventDetails" in event:
                name: str = event["stateEnteredEventDetails"]["name"]
                return name, event["type"] == "FailStateEntered"
        return "", False

    def _body(self, envelope: Envelope) -> str:
        body = write(envelope)
        if len(body.encode()) <= LONGEST_BODY or envelope.input is None:
            return body
        text = envelope.input
        place = Location(bucket=os.environ["BUCKET"], key=f"{envelope.id}/{envelope.attempt}.json")
        self._patience.ask(
            lambda: s3().put_object(
                Bucket=place.bucket, Key=place.key, Body=text.encode(), ContentType="application/json"
            )
        )
        return write(replace(envelope, input=None, input_location=place))


def _iso(time: datetime) -> str:
    """In UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

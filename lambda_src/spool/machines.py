"""What Step Functions is asked to do for a failure: start its input again, or resume its execution."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from pipeline.patience import ONE_REQUEST, Patience
from spool.envelope import STATUSES, Envelope

NEVER_ACCEPTED = ("InvalidName", "InvalidExecutionInput", "NoSuchKey", "NoSuchBucket")
"""What is said of an input that can never be started."""


class Outcome(StrEnum):
    """What became of a failure."""

    RESTARTED = "restarted"
    REDRIVEN = "redriven"
    BEFORE = "started before"
    """Another delivery of the message was here before."""
    NOT_YET = "not yet"
    """What Step Functions says of it is not of now; it is looked at again the next time."""


class NeverAcceptedError(Exception):
    """To try again would change nothing."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was started for a failure.

    Args:
        outcome: What became of it.
        execution: The ARN of the execution that was started or resumed.
        redrives: How often that execution was redriven before it was started or resumed, this time included.
        instead: Why it was restarted although a redrive was wanted.
    """

    outcome: Outcome
    execution: str
    redrives: int = 0
    instead: str = ""


@dataclass(frozen=True, kw_only=True)
class State:
    """An execution, as Step Functions describes it."""

    status: str
    redrives: int
    redrivable: bool = False
    why_not: str = ""

    @property
    def failed(self) -> bool:
        return self.status in STATUSES


@cache
def stepfunctions() -> Any:
    return boto3.client("stepfunctions", config=ONE_REQUEST.merge(Config(max_pool_connections=64)))


@cache
def s3() -> Any:
    return boto3.client("s3", config=ONE_REQUEST.merge(Config(max_pool_connections=64)))


class Machines:
    """Step Functions, and the inputs that wait in S3.

    Args:
        client: A boto3 client of Step Functions.
        store: A boto3 client of S3.
        patience: How long a request is repeated.
        wait: Waits for the turn of the next start; may raise `TimeIsOverError`.
    """

    def __init__(self, client: Any, store: Any, patience: Patience, wait: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._store = store
        self._patience = patience
        self._wait = wait

    def restart(self, envelope: Envelope) -> Run:
        """Starts an execution with the kept input, as it was.

        The name is the same for each delivery of the message, and Step Functions takes a name once in 90 days:
        https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html

        Raises:
            NeverAcceptedError: the input is gone, or Step Functions will never take it.
        """
        self._wait()
        try:
            text = self._input(envelope)
            self._patience.ask(
                lambda: self._client.start_execution(
                    stateMachineArn=envelope.state_machine, name=envelope.next_name, input=text
                )
            )
        except ClientError as problem:
            code = problem.response["Error"]["Code"]
            if code == "ExecutionAlreadyExists":
                return Run(outcome=Outcome.BEFORE, execution=envelope.next_execution)
            if code in NEVER_ACCEPTED:
                raise NeverAcceptedError(str(problem)) from problem
            raise
        return Run(outcome=Outcome.RESTARTED, execution=envelope.next_execution)

    def _input(self, envelope: Envelope) -> str:
        if envelope.input is not None:
            return envelope.input
        assert envelope.input_location is not None
        place = envelope.input_location
        found = self._patience.ask(lambda: self._store.get_object(Bucket=place.bucket, Key=place.key)["Body"].read())
        text: str = found.decode()
        return text

    def redrive(self, envelope: Envelope) -> Run:
        """Resumes the execution at the step that failed; restarts it where AWS does not do that any more."""
        for _ in range(2):
            state = self.describe(envelope.execution)
            if state is None:
                return self._instead(envelope, "the execution is not known any more")
            if state.redrives > envelope.redrive_count:
                return Run(outcome=Outcome.BEFORE, execution=envelope.execution, redrives=state.redrives)
            if not state.failed:
                return Run(outcome=Outcome.NOT_YET, execution=envelope.execution, redrives=state.redrives)
            if not state.redrivable:
                return self._instead(envelope, state.why_not or "it is not redrivable")
            if self._resume(envelope):
                redrives = envelope.redrive_count + 1
                return Run(outcome=Outcome.REDRIVEN, execution=envelope.execution, redrives=redrives)
            # Somebody else was faster, or it became too old: the second look says which.
        return Run(outcome=Outcome.NOT_YET, execution=envelope.execution, redrives=envelope.redrive_count)

    def _instead(self, envelope: Envelope, why: str) -> Run:
        run = self.restart(envelope)
        return Run(outcome=run.outcome, execution=run.execution, instead=why)

    def _resume(self, envelope: Envelope) -> bool:
        # The same request for the same failure, so that two of them resume it once:
        # https://docs.aws.amazon.com/step-functions/latest/apireference/API_RedriveExecution.html
        token = sha256(f"{envelope.execution}#{envelope.redrive_count}".encode()).hexdigest()[:64]
        self._wait()
        try:
            self._patience.ask(
                lambda: self._client.redrive_execution(executionArn=envelope.execution, clientToken=token)
            )
        except ClientError as problem:
            if problem.response["Error"]["Code"] in ("ExecutionNotRedrivable", "ExecutionDoesNotExist"):
                return False
            raise
        return True

    def describe(self, execution: str) -> State | None:
        """How an execution is; None where nobody knows it."""
        try:
            found = self._patience.ask(lambda: self._client.describe_execution(executionArn=execution))
        except ClientError as problem:
            if problem.response["Error"]["Code"] == "ExecutionDoesNotExist":
                return None
            raise
        return State(
            status=found["status"],
            redrives=found.get("redriveCount", 0),
            redrivable=found.get("redriveStatus") == "REDRIVABLE",
            why_not=found.get("redriveStatusReason", ""),
        )

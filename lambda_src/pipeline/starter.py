"""Starts an execution for each object of a batch of messages."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline.metrics import report
from pipeline.objects import ObjectEvent, execution_input, execution_name, padded
from pipeline.patience import ONE_REQUEST, Patience, TimeIsOverError
from pipeline.plan import Ignore, Reject, Start, plan

LONGEST_REASON = 500

NEVER_ACCEPTED = ("InvalidName", "InvalidExecutionInput")
"""What Step Functions says of a request that is wrong in itself."""


@cache
def stepfunctions() -> Any:
    return boto3.client("stepfunctions", config=ONE_REQUEST)


@cache
def sqs() -> Any:
    return boto3.client("sqs", config=ONE_REQUEST)


@cache
def dynamodb() -> Any:
    return boto3.client("dynamodb", config=ONE_REQUEST)


def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Starts executions, and says which messages have to be delivered again.

    Environment: `STATE_MACHINE_ARN`; `DEAD_LETTERS_URL`, the queue for what can never be started; `BUCKET`;
    `IGNORED_PREFIXES`, a JSON list; `MIN_SIZE`, bytes; `SEQUENCES_TABLE`, empty unless stale events are dropped;
    `PIPELINE`, the name in metrics. The function's timeout has to be longer than `patience.MARGIN`.
    """
    starter = Starter(
        state_machine_arn=os.environ["STATE_MACHINE_ARN"],
        dead_letters_url=os.environ["DEAD_LETTERS_URL"],
        bucket=os.environ["BUCKET"],
        ignored_prefixes=json.loads(os.environ["IGNORED_PREFIXES"]),
        min_size=int(os.environ["MIN_SIZE"]),
        sequences_table=os.environ["SEQUENCES_TABLE"],
        patience=Patience.of(context),
    )
    delayed = [record["messageId"] for record in event["Records"] if not starter.settles(record)]
    report(starter.counts)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in delayed]}


@dataclass(kw_only=True)
class Starter:
    """Carries out the plan for each message, and counts what happens."""

    state_machine_arn: str
    dead_letters_url: str
    bucket: str
    ignored_prefixes: Sequence[str]
    min_size: int
    sequences_table: str
    patience: Patience
    counts: Counter[str] = field(default_factory=Counter)

    def settles(self, record: Mapping[str, Any]) -> bool:
        """Whether the message is done with. If not, the queue delivers it again; its neighbours never notice."""
        try:
            self._carry_out(record)
        except TimeIsOverError as problem:
            self._delay("WARN", record, problem)
            return False
        except Exception as problem:
            self._delay("ERROR", record, problem)
            return False
        return True

    def _carry_out(self, record: Mapping[str, Any]) -> None:
        decision = plan(
            record["body"], bucket=self.bucket, ignored_prefixes=self.ignored_prefixes, min_size=self.min_size
        )
        match decision:
            case Reject(why):
                self._reject(record, why)
            case Ignore(event, why):
                self._drop("Ignored", event, why)
            case Start(event):
                if self._is_stale(event):
                    self._drop("Stale", event, "a newer event of the same key was here before")
                else:
                    self._start(record, event)

    def _start(self, record: Mapping[str, Any], event: ObjectEvent) -> None:
        try:
            # While an execution of the same name runs, the same input is accepted once more and starts nothing.
            self.patience.ask(
                lambda: stepfunctions().start_execution(
                    stateMachineArn=self.state_machine_arn,
                    name=execution_name(event),
                    input=json.dumps(execution_input(event)),
                )
            )
        except ClientError as problem:
            code = problem.response["Error"]["Code"]
            if code == "ExecutionAlreadyExists":
                self.counts["Duplicates"] += 1
            elif code in NEVER_ACCEPTED:
                self._reject(record, str(problem))
            else:
                raise
        else:
            self.counts["Started"] += 1

    def _is_stale(self, event: ObjectEvent) -> bool:
        """Whether a newer event of the key was seen. Writes before the start: a redelivery finds itself, and goes on.

        What was found by listing has no sequencer. It was the newest when it was listed, so it always goes on.
        """
        if not self.sequences_table or not event.sequencer:
            return False
        try:
            self.patience.ask(
                lambda: dynamodb().update_item(
                    TableName=self.sequences_table,
                    Key={"key": {"S": f"{event.bucket}/{event.key}"}},
                    UpdateExpression="SET #sequencer = :sequencer",
                    ConditionExpression="attribute_not_exists(#sequencer) OR #sequencer <= :sequencer",
                    ExpressionAttributeNames={"#sequencer": "sequencer"},
                    ExpressionAttributeValues={":sequencer": {"S": padded(event.sequencer)}},
                )
            )
        except dynamodb().exceptions.ConditionalCheckFailedException:
            return True
        return False

    def _reject(self, record: Mapping[str, Any], why: str) -> None:
        """Moves the message to the dead-letter queue.

        Tried once: to insist would cost the good messages their time, and this one comes again by itself.
        """
        reason = _plain(why)
        self.patience.check("the message was not moved to the dead-letter queue")
        attributes = {"reason": reason, "from": "starter"}
        sqs().send_message(
            QueueUrl=self.dead_letters_url,
            MessageBody=record["body"],
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )
        self.counts["Rejected"] += 1
        _log("WARN", "the message was moved to the dead-letter queue", messageId=record["messageId"], reason=reason)

    def _drop(self, metric: str, event: ObjectEvent, why: str) -> None:
        self.counts[metric] += 1
        _log(
            "INFO",
            "the object is not processed",
            reason=why,
            key=event.key,
            versionId=event.version_id,
            sequencer=event.sequencer,
        )

    def _delay(self, level: str, record: Mapping[str, Any], problem: Exception) -> None:
        self.counts["Delayed"] += 1
        error = f"{type(problem).__name__}: {problem}"
        _log(level, "the message is left to be delivered again", messageId=record["messageId"], error=error)


def _plain(text: str) -> str:
    """One line of printable ASCII: SQS refuses some characters in an attribute."""
    line = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    return "".join(each if each.isprintable() else "?" for each in line)[:LONGEST_REASON]


def _log(level: str, message: str, **fields: str) -> None:
    print(json.dumps({"level": level, "message": message, **fields}))

"""Two ways to empty a spool: functions with the reprocessor's environment. lambda_src has to be on the path."""

import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import boto3

from benchmarks.spool_figures import LOOP, OURS
from spool import reprocessor


def ours(context: Any) -> None:
    """The library's reprocessor."""
    reprocessor.handle({"action": "reprocess", "max": "all"}, context)


@cache
def _sqs() -> Any:
    return boto3.client("sqs")


@cache
def _stepfunctions() -> Any:
    return boto3.client("stepfunctions")


def loop(context: Any) -> None:
    """One message is received, started and deleted, then the next. It is hidden for a second, and nothing is noted."""
    queue, states = _sqs(), _stepfunctions()
    url = os.environ["QUEUE_URL"]
    while messages := queue.receive_message(QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=1).get("Messages"):
        for message in messages:
            failure = json.loads(message["Body"])
            states.start_execution(stateMachineArn=failure["stateMachine"], input=json.dumps(failure["input"]))
            queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


DESIGNS: Mapping[str, Callable[[Any], None]] = {OURS: ours, LOOP: loop}

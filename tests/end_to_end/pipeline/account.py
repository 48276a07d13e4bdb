"""Pipelines on the embedded AWS: how a stack with them is deployed, fed, and looked at.

The job is a function that notes each of its runs in a table. Nothing happens by the clock here: each test calls the
valve and the sweeper where it needs them.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs

from constructs_lib import AlertFunction, S3TriggeredThrottledPipeline
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy
from tests.end_to_end.test_definition_on_embedded_aws import eventually
from tests.scheduled import make_app

LIMIT = 3

# Seconds, for many objects on a busy machine.
PATIENCE = 120.0

WORK = """
import os, re, time, uuid, boto3
table = boto3.client("dynamodb")
def handle(event, context):
    found, began = event["object"], time.time()
    if "broken" in found["key"]:
        raise ValueError("cannot read " + found["key"])
    if slow := re.search(r"takes-([0-9.]+)s", found["key"]):
        time.sleep(float(slow[1]))
    item = {name: {"S": found[name]} for name in ("bucket", "key", "versionId", "etag", "sequencer", "reason")}
    numbers = {"size": found["size"], "began": began, "ended": time.time()}
    item |= {name: {"N": repr(number)} for name, number in numbers.items()}
    table.put_item(TableName=os.environ["RUNS"], Item={**item, "run": {"S": str(uuid.uuid4())}})
"""
"""What a key says decides: `takes-0.5s` that it takes so long, `broken` that it fails."""


# --- the stack -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surroundings:
    """What the pipelines of a stack share: the job, where it notes its runs, and who is told of failures."""

    stack: cdk.Stack
    runs: dynamodb.Table
    work: lambda_.Function
    alert: AlertFunction


def surroundings(stack: cdk.Stack) -> Surroundings:
    runs = dynamodb.Table(
        stack,
        "Runs",
        partition_key=dynamodb.Attribute(name="key", type=dynamodb.AttributeType.STRING),
        sort_key=dynamodb.Attribute(name="run", type=dynamodb.AttributeType.STRING),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
    )
    work = make_work(stack, "Work", runs, timeout=Duration.seconds(30))
    alert = AlertFunction(stack, "Alert")
    inbox = sqs.Queue(stack, "Inbox")
    alert.topic.add_subscription(subscriptions.SqsSubscription(inbox))
    for name, value in {"Runs": runs.table_name, "Inbox": inbox.queue_url}.items():
        cdk.CfnOutput(stack, f"{name}Output", value=value)
    return Surroundings(stack, runs, work, alert)


def make_work(stack: cdk.Stack, id_: str, runs: dynamodb.Table, *, timeout: Duration) -> lambda_.Function:
    work = lambda_.Function(
        stack,
        id_,
        runtime=lambda_.Runtime.PYTHON_3_14,
        handler="index.handle",
        code=lambda_.Code.from_inline(WORK),
        timeout=timeout,
        environment={"RUNS": runs.table_name},
    )
    runs.grant_write_data(work)
    return work


def make_pipeline(around: Surroundings, id_: str, **options: Any) -> S3TriggeredThrottledPipeline:
    """One with a bucket of its own, and what the tests have to know of it as outputs."""
    stack = around.stack
    required = {
        "job": around.work,
        "max_concurrency": LIMIT,
        "failure_handlers": [around.alert],
        # Each is a process of its own.
        "starter_concurrency": 2,
    }
    if "bucket" not in options:
        options["bucket"] = s3.Bucket(stack, f"{id_}Bucket", versioned=options.pop("versioned", False))
    bucket = options["bucket"]
    made = S3TriggeredThrottledPipeline(stack, id_, **{**required, **options})
    outputs = {
        "Bucket": bucket.bucket_name,
        "Machine": made.state_machine.state_machine_arn,
        "Rule": made.rule.rule_name,
        "Buffer": made.queue.queue_url,
        "BufferArn": made.queue.queue_arn,
        "DeadLetters": made.dead_letters.queue.queue_url,
        "Undelivered": made.undelivered.queue.queue_url,
        "Starter": made.starter.function.function_name,
        "Mapping": made.starter.mapping.event_source_mapping_id,
        "Valve": made.valve.function.function_name,
        "Backfill": made.backfill.function.function_name,
        "BackfillMachine": made.backfill.state_machine.state_machine_arn,
        "Semaphore": made.semaphore.function_arn,
    }
    for name, value in outputs.items():
        cdk.CfnOutput(stack, f"{id_}{name}Output", value=value)
    return made


@contextmanager
def deployed(aws: EmbeddedAws, make_stack: Callable[[cdk.App], cdk.Stack], folder: Path) -> Iterator["Account"]:
    """The stack in an account where nothing happens by the clock. Afterwards the account is empty again."""
    app = make_app(folder)
    stack = make_stack(app)
    account = Account(aws, deploy(aws, Path(app.synth().directory), stack.artifact_id))
    events = aws.client("events")
    for rule in events.list_rules()["Rules"]:
        if "rate(" in rule.get("ScheduleExpression", ""):
            events.disable_rule(Name=rule["Name"])
    yield account
    aws.reset()


# --- what is in the account ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of the job, as it noted it itself."""

    bucket: str
    key: str
    version_id: str
    size: int
    etag: str
    sequencer: str
    reason: str
    began: float
    ended: float


@dataclass(frozen=True)
class Account:
    """The embedded AWS with the stack in it."""

    aws: EmbeddedAws
    outputs: Mapping[str, str]

    def pipeline(self, id_: str) -> "Pipeline":
        return Pipeline(self, id_)


@dataclass(frozen=True)
class Pipeline:
    """One of the pipelines in the account."""

    account: Account
    id: str

    @property
    def aws(self) -> EmbeddedAws:
        return self.account.aws

    def output(self, name: str) -> str:
        return self.account.outputs[f"{self.id}{name}"]

    @property
    def bucket(self) -> str:
        return self.output("Bucket")

    # --- objects ---

    def put(self, key: str, body: bytes = b"some bytes") -> str:
        """The id of the version, empty where the bucket keeps none."""
        put = self.aws.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)
        return str(put.get("VersionId", ""))

    def put_all(self, keys: Iterable[str]) -> None:
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(self.put, keys))

    def send(self, body: str) -> None:
        """Puts a message into the buffer, past S3 and EventBridge."""
        self.aws.client("sqs").send_message(QueueUrl=self.output("Buffer"), MessageBody=body)

    # --- runs ---

    def runs(self, prefix: str) -> list[Run]:
        """The runs of the job so far for keys that begin so, earliest first."""
        pages = self.aws.client("dynamodb").get_paginator("scan").paginate(TableName=self.account.outputs["Runs"])
        runs = [_run(item) for page in pages for item in page["Items"]]
        mine = [run for run in runs if run.bucket == self.bucket and run.key.startswith(prefix)]
        return sorted(mine, key=lambda run: run.began)

    def executions(self, status: str | None = None) -> list[dict[str, Any]]:
        pages = self.aws.client("stepfunctions").get_paginator("list_executions")
        only = {"statusFilter": status} if status else {}
        found = pages.paginate(stateMachineArn=self.output("Machine"), **only)
        return [execution for page in found for execution in page["executions"]]

    def objects_of(self, executions: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What these executions were told of their objects."""
        states = self.aws.client("stepfunctions")
        inputs = [states.describe_execution(executionArn=one["executionArn"])["input"] for one in executions]
        return [json.loads(input_)["object"] for input_ in inputs]

    def has_entered(self, execution: Mapping[str, Any], state: str) -> bool:
        pages = self.aws.client("stepfunctions").get_paginator("get_execution_history")
        events = [event for page in pages.paginate(executionArn=execution["executionArn"]) for event in page["events"]]
        return any(event.get("stateEnteredEventDetails", {}).get("name") == state for event in events)

    def is_idle(self) -> bool:
        """Whether nothing is in the buffer and no execution runs."""
        return self.in_buffer() == (0, 0) and not self.executions("RUNNING")

    def settle(self) -> None:
        eventually(self.is_idle, f"the end of all work of {self.id}", within=PATIENCE)

    def assert_each_ran_once(self, keys: Collection[str], prefix: str) -> list[Run]:
        """Waits until nothing is left to do. The runs, for more to look at."""
        eventually(lambda: len(self.runs(prefix)) >= len(keys), f"{len(keys)} runs for {prefix!r}", within=PATIENCE)
        self.settle()
        runs = self.runs(prefix)
        assert Counter(run.key for run in runs) == Counter(keys)
        self.assert_nothing_is_lost()
        return runs

    def assert_nothing_is_lost(self) -> None:
        assert self.dead_letters() == []
        assert self._count("Undelivered") == (0, 0)

    # --- queues ---

    def in_buffer(self) -> tuple[int, int]:
        """How many messages wait in the buffer, and how many are being read."""
        return self._count("Buffer")

    def set_visibility_timeout(self, seconds: int = 4) -> None:
        """Has what a function received that died come back so soon. It is six minutes as deployed."""
        attributes = {"VisibilityTimeout": str(seconds)}
        self.aws.client("sqs").set_queue_attributes(QueueUrl=self.output("Buffer"), Attributes=attributes)

    def receive_counts(self) -> list[int]:
        """How often each message in the buffer was received before. Does not take them out, and counts as once more."""
        return [int(message["Attributes"]["ApproximateReceiveCount"]) - 1 for message in self._received("Buffer")]

    def dead_letters(self) -> list[dict[str, Any]]:
        """Takes out what is in the dead-letter queue."""
        queues, url = self.aws.client("sqs"), self.output("DeadLetters")
        messages = self._received("DeadLetters")
        for message in messages:
            queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return messages

    def _count(self, queue: str) -> tuple[int, int]:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        reply = self.aws.client("sqs").get_queue_attributes(QueueUrl=self.output(queue), AttributeNames=names)
        visible, hidden = (int(reply["Attributes"][name]) for name in names)
        return visible, hidden

    def _received(self, queue: str) -> list[dict[str, Any]]:
        queues, url = self.aws.client("sqs"), self.output(queue)
        found: dict[str, dict[str, Any]] = {}
        while messages := queues.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=30,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages"):
            found |= {message["MessageId"]: message for message in messages}
        for message in found.values():
            queues.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
        return list(found.values())

    # --- the valve and the semaphore ---

    def valve(self) -> dict[str, Any]:
        """Calls the valve, as its rule does every minute."""
        return self._invoke(self.output("Valve"), {})

    def ask(self, action: str, **more: Any) -> dict[str, Any]:
        """What the semaphore's function answers."""
        return self._invoke(self.output("Semaphore"), {"action": action, **more})

    def usage(self) -> tuple[int, int]:
        """How many hold a permit, and how many wait for one."""
        [found] = self.ask("status", key="default")["keys"].values()
        return found["inUse"], found["waiting"]

    def mapping(self) -> str:
        """The state of the event source mapping."""
        reply = self.aws.client("lambda").get_event_source_mapping(UUID=self.output("Mapping"))
        return str(reply["State"])

    def set_mapping(self, *, enabled: bool) -> None:
        """Opens or closes the way to the starter, past the valve."""
        state = "Enabled" if enabled else "Disabled"
        self.wait_for_mapping()
        if self.mapping() != state:
            self.aws.client("lambda").update_event_source_mapping(UUID=self.output("Mapping"), Enabled=enabled)
        eventually(lambda: self.mapping() == state, f"the state {state} of the mapping")

    def wait_for_mapping(self) -> None:
        eventually(lambda: self.mapping() in ("Enabled", "Disabled"), "the end of a change of the mapping")

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Collects in the buffer what comes meanwhile, so that it is read together."""
        self.set_mapping(enabled=False)
        try:
            yield
        finally:
            self.set_mapping(enabled=True)

    def metric(self, name: str) -> int:
        """The sum of a metric of the starter so far, as its log tells CloudWatch."""
        logs = self.aws.client("logs").get_paginator("filter_log_events")
        total = 0
        for page in logs.paginate(logGroupName=self.log_group("Starter")):
            for event in page["events"]:
                for line in re.findall(r"\{.*\}", event["message"]):
                    total += json.loads(line).get(name, 0) if f'"{name}"' in line and "_aws" in line else 0
        return total

    def log_group(self, function: str) -> str:
        found = self.aws.client("lambda").get_function_configuration(FunctionName=self.output(function))
        return str(found.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{self.output(function)}")

    def _invoke(self, function: str, event: Mapping[str, Any]) -> dict[str, Any]:
        reply = self.aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
        answer: dict[str, Any] = json.loads(reply["Payload"].read())
        assert "FunctionError" not in reply, answer
        return answer

    # --- the backfill ---

    def fill(self, **input_: Any) -> dict[str, Any]:
        """Runs the backfill, and gives its output."""
        states = self.aws.client("stepfunctions")
        started = states.start_execution(stateMachineArn=self.output("BackfillMachine"), input=json.dumps(input_))

        def ended() -> dict[str, Any] | None:
            now: dict[str, Any] = states.describe_execution(executionArn=started["executionArn"])
            return None if now["status"] == "RUNNING" else now

        found = eventually(ended, "the end of the backfill", within=PATIENCE)
        assert found["status"] == "SUCCEEDED", found
        output: dict[str, Any] = json.loads(found["output"])
        return output

    # --- alerts ---

    def alerts(self, count: int) -> list[dict[str, Any]]:
        """Waits for so many alerts, and takes them out of the inbox."""
        queues, url = self.aws.client("sqs"), self.account.outputs["Inbox"]
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            for message in queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                found.append(json.loads(message["Body"]))
            return len(found) >= count

        eventually(enough, f"{count} alerts")
        return found


def _run(item: Mapping[str, Any]) -> Run:
    return Run(
        **{name: item[name]["S"] for name in ("bucket", "key", "etag", "sequencer", "reason")},
        version_id=item["versionId"]["S"],
        size=int(item["size"]["N"]),
        began=float(item["began"]["N"]),
        ended=float(item["ended"]["N"]),
    )


def peak(runs: Iterable[Run]) -> int:
    """The most runs that were at work at once. Who ends at the very moment at which another begins, ends first."""
    inside = most = 0
    for _, change in sorted([(run.began, 1) for run in runs] + [(run.ended, -1) for run in runs]):
        inside += change
        most = max(most, inside)
    return most

"""Maps on the embedded AWS: how a stack with them is deployed, given items, and looked at.

The work is a function that notes what it has done in a table. Each test has days of its own, and so items of its own:
they are the dates of its runs. Nothing happens by the clock here.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration, TimeZone
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from constructs_lib import (
    AlertFunction,
    Batch,
    CsvItems,
    DistributedMapProcessor,
    ErrorSpool,
    ErrorSpoolReprocessor,
    FailureTolerance,
    FargateJob,
    InputItems,
    InventoryItems,
    ItemSource,
    JsonItems,
    JsonLinesItems,
    S3Objects,
)
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy
from tests.end_to_end.semaphore.account import make_semaphore
from tests.end_to_end.test_definition_on_embedded_aws import eventually, shell
from tests.scheduled import make_app
from tests.scheduled import surroundings as task_surroundings

# Seconds, for many children on a busy machine.
PATIENCE = 120.0

WORK = """
import os, time, uuid, boto3
table, notes = boto3.client("dynamodb"), os.environ["NOTES"]
class Missing(Exception): pass
def handle(event, context):
    if "Items" in event:
        answers = [answer(item, len(event["Items"]), event["BatchInput"]) for item in event["Items"]]
        if any("all of it" in name(item) for item in event["Items"]):
            raise ValueError("cannot begin")
        return {"items": answers}
    said = answer(event["item"], 1, event)
    if said.get("error") == "Missing":
        raise Missing(said["cause"])
    if said.get("error") == "Unreadable":
        raise ValueError(said["cause"])
    return said
def name(item):
    return item.get("Key") or item.get("id") or item["name"]
def answer(item, size, given):
    who, day, began = name(item), given["run"]["date"], time.time()
    release = {"day": {"S": "released"}, "id": {"S": day}}
    while "held" in who and "Item" not in table.get_item(TableName=notes, Key=release, ConsistentRead=True):
        time.sleep(0.05)
    key = {":day": {"S": day}, ":who": {"S": who}}
    found = table.query(TableName=notes, ConsistentRead=True, KeyConditionExpression="#day = :day",
        FilterExpression="who = :who", ExpressionAttributeNames={"#day": "day"}, ExpressionAttributeValues=key)
    texts = {"day": day, "run": given["run"]["execution"], "who": who, "told": given["constants"].get("target", "")}
    row = {name: {"S": text} for name, text in texts.items()} | {"size": {"N": str(size)}}
    row |= {"began": {"N": repr(began)}, "ended": {"N": repr(time.time())}}
    row["id"] = {"S": f"{began:017.6f} {uuid.uuid4()}"}
    table.put_item(TableName=notes, Item=row)
    if "broken" in who or ("once" in who and not found["Items"]):
        return {"error": "Unreadable", "cause": "cannot read " + who}
    if "missing" in who:
        return {"error": "Missing", "cause": "nothing is at " + who}
    if "refused" in who:
        return {"error": "Refused", "cause": "nobody wants " + who}
    return {"result": who, "notice": ["look at " + who]} if "notable" in who else {"result": who}
"""
"""What an item is called decides: `broken`, `missing` and `refused` that it fails, `once` that it fails the first time,
`notable` that people are told, `all of it` that its whole batch fails, `held` that it ends when its day is released."""

COLUMNS = ["id", "colour"]
BATCH, BATCH_BYTES = 4, 500
LIMIT = 2
TARGET = "archive"

LEFT_NOTICES = "left notices"
"""In the subject of an alert that is about no failure."""


# --- the stack -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surroundings:
    """What the maps of a stack share: the work, where it notes what it has done, and who is told."""

    stack: cdk.Stack
    work: lambda_.Function
    alert: AlertFunction


def make_stack(app: cdk.App) -> cdk.Stack:
    """A map for each source, with one or the other of all options."""
    stack = cdk.Stack(app, "Maps")
    around = surroundings(stack)
    lists = s3.Bucket(stack, "Lists", removal_policy=cdk.RemovalPolicy.DESTROY)
    cdk.CfnOutput(stack, "ListsOutput", value=lists.bucket_name)

    def file(ending: str) -> dict[str, Any]:
        return {"bucket": lists, "key": f"lists/{{date:%Y-%m-%d}}.{ending}"}

    make_map(
        around,
        "Objects",
        S3Objects(bucket=make_bucket(around, "Objects"), prefix="in/{date:%Y/%m/%d}/", patterns=["*.csv"], min_size=2),
        constants={"target": TARGET},
        max_concurrency=LIMIT,
        time_zone=TimeZone.PACIFIC_KIRITIMATI,
        days_back=1,
    )
    make_map(
        around,
        "Lines",
        JsonLinesItems(**file("jsonl")),
        batch=Batch(max_items=BATCH),
        execution_type=sfn.ProcessorType.EXPRESS,
        tolerance=FailureTolerance.collect(),
        time_zone=TimeZone.PACIFIC_PAGO_PAGO,
        days_back=1,
    )
    make_encrypted_map(around)
    make_map(
        around,
        "Array",
        JsonItems(**file("json"), max_items=6),
        execution_type=sfn.ProcessorType.EXPRESS,
        max_concurrency=1,
        tolerance=FailureTolerance.count(1),
    )
    make_map(
        around,
        "Inventory",
        InventoryItems(bucket=lists, key="inventory/{date:%Y-%m-%d}T01-00Z/manifest.json"),
        batch=Batch(max_items=2),
        tolerance=FailureTolerance.collect(),
    )
    make_spooled_map(around)
    make_guarded_map(around)
    make_task_map(around)
    return stack


def surroundings(stack: cdk.Stack) -> Surroundings:
    text = dynamodb.AttributeType.STRING
    notes = dynamodb.Table(
        stack,
        "Notes",
        partition_key=dynamodb.Attribute(name="day", type=text),
        sort_key=dynamodb.Attribute(name="id", type=text),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
    )
    work = lambda_.Function(
        stack,
        "Work",
        runtime=lambda_.Runtime.PYTHON_3_14,
        handler="index.handle",
        code=lambda_.Code.from_inline(WORK),
        timeout=Duration.seconds(30),
        environment={"NOTES": notes.table_name},
    )
    notes.grant_read_write_data(work)
    alert = AlertFunction(stack, "Alert")
    inbox = sqs.Queue(stack, "Inbox")
    alert.topic.add_subscription(subscriptions.SqsSubscription(inbox))
    for name, value in {"Notes": notes.table_name, "Inbox": inbox.queue_url, "Work": work.function_arn}.items():
        cdk.CfnOutput(stack, f"{name}Output", value=value)
    return Surroundings(stack, work, alert)


def make_bucket(around: Surroundings, id_: str, **options: Any) -> s3.Bucket:
    bucket = s3.Bucket(around.stack, f"{id_}Source", **options)
    cdk.CfnOutput(around.stack, f"{id_}SourceOutput", value=bucket.bucket_name)
    return bucket


def make_map(around: Surroundings, id_: str, source: ItemSource, **options: Any) -> DistributedMapProcessor:
    """One of the stack, and what the tests have to know of it as outputs."""
    stack = around.stack
    required = {"processor": around.work, "failure_handlers": [around.alert]}
    made = DistributedMapProcessor(stack, id_, source=source, **{**required, **options})
    assert made.report is not None
    outputs = {
        "Machine": made.state_machine.state_machine_arn,
        "Role": made.state_machine.role.role_arn,
        "Report": made.report.state_machine.state_machine_arn,
        "Results": made.results_bucket.bucket_name,
        "DeadLetters": made.dead_letters.queue.queue_url,
    }
    for name, function in {"Plan": made.plan, "Account": made.account, "Operate": made.operate}.items():
        assert function.role is not None
        outputs |= {name: function.function_name, f"{name}Role": function.role.role_arn}
    for name, value in outputs.items():
        cdk.CfnOutput(stack, f"{id_}{name}Output", value=value)
    return made


def make_encrypted_map(around: Surroundings) -> None:
    """Its buckets have keys of their own."""
    stack = around.stack
    keys = {name: kms.Key(stack, f"{name}Key") for name in ("Rows", "RowsResults")}
    for name, key in keys.items():
        cdk.CfnOutput(stack, f"{name}KeyOutput", value=key.key_arn)
    make_map(
        around,
        "Rows",
        CsvItems(
            bucket=make_bucket(around, "Rows", encryption_key=keys["Rows"]),
            key="lists/{date:%Y-%m-%d}.csv",
            delimiter=sfn.CsvDelimiter.SEMICOLON,
        ),
        batch=Batch(max_bytes=BATCH_BYTES),
        tolerance=FailureTolerance.percentage(50),
        on_empty="fail",
        results_bucket=s3.Bucket(stack, "RowsResults", encryption_key=keys["RowsResults"]),
    )


def make_spooled_map(around: Surroundings) -> None:
    """Its items come with the input, and its failures go into a spool."""
    stack = around.stack
    spool = ErrorSpool(stack, "Spool", removal_policy=cdk.RemovalPolicy.DESTROY)
    made = make_map(
        around,
        "Given",
        InputItems(path="$.order.lines"),
        tolerance=FailureTolerance.collect(),
        failure_handlers=[spool, around.alert],
    )
    reprocessor = ErrorSpoolReprocessor(
        stack, "Reprocessor", spool=spool, targets=[made.state_machine], starts_per_second=100, ramp=0
    )
    cdk.CfnOutput(stack, "SpoolOutput", value=spool.queue.queue_url)
    cdk.CfnOutput(stack, "ReprocessorOutput", value=reprocessor.function.function_name)


def make_guarded_map(around: Surroundings) -> None:
    """More children than may be at work at once."""
    semaphore = make_semaphore(around.stack, "Quota", limit=LIMIT, removal_policy=cdk.RemovalPolicy.DESTROY)
    make_map(around, "Guarded", InputItems(), semaphore=semaphore, max_concurrency=2 * LIMIT)


def make_task_map(around: Surroundings) -> None:
    """The work is a container, which says in its log what it was told."""
    stack = around.stack
    task = task_surroundings(stack)
    cdk.CfnOutput(stack, "TaskLogOutput", value=task.log_group.log_group_name)
    say = 'env | grep -E "^(ITEM|RUN|CONSTANTS)="; case "$ITEM" in *broken*) exit 3;; esac'
    override = tasks.ContainerOverride(container_definition=task.container, command=shell(say))
    job = FargateJob(cluster=task.cluster, task_definition=task.task_definition, container_overrides=[override])
    make_map(around, "Tasks", InputItems(), processor=job, constants={"target": TARGET})


@contextmanager
def deployed(aws: EmbeddedAws, folder: Path) -> Iterator["Account"]:
    """The stack in an account where nothing happens by the clock."""
    app = make_app(folder)
    stack = make_stack(app)
    account = Account(aws, deploy(aws, Path(app.synth().directory), stack.artifact_id))
    events = aws.client("events")
    for page in events.get_paginator("list_rules").paginate():
        for rule in page["Rules"]:
            if "rate(" in rule.get("ScheduleExpression", ""):
                events.disable_rule(Name=rule["Name"])
    yield account


# --- what is in the account ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Done:
    """An item that the work had in its hands, as it noted it itself."""

    who: str
    run: str
    told: str
    size: int
    began: float
    ended: float


@dataclass(frozen=True)
class Account:
    """The embedded AWS with the stack in it."""

    aws: EmbeddedAws
    outputs: Mapping[str, str]
    _alerts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By the ARN of the execution that they are about."""

    def map(self, id_: str) -> "Map":
        return Map(self, id_)

    def call(self, function: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """What a function answers. Its errors fail the test."""
        name = self.outputs.get(function, function)
        reply = self.aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        answer: dict[str, Any] = json.loads(reply["Payload"].read())
        assert "FunctionError" not in reply, answer
        return answer

    def release(self, day: str) -> None:
        """Lets those end that are held, and holds nobody of this day any more."""
        item = {"day": {"S": "released"}, "id": {"S": day}}
        self.aws.client("dynamodb").put_item(TableName=self.outputs["Notes"], Item=item)

    def done(self, day: str) -> list[Done]:
        """What was done for a day, the earliest first."""
        found = self.aws.client("dynamodb").query(
            TableName=self.outputs["Notes"],
            ConsistentRead=True,
            KeyConditionExpression="#day = :day",
            ExpressionAttributeNames={"#day": "day"},
            ExpressionAttributeValues={":day": {"S": day}},
        )["Items"]
        return [
            Done(
                **{name: item[name]["S"] for name in ("who", "run", "told")},
                size=int(item["size"]["N"]),
                began=float(item["began"]["N"]),
                ended=float(item["ended"]["N"]),
            )
            for item in found
        ]

    def alerts(self) -> Mapping[str, list[dict[str, Any]]]:
        """All alerts so far, notices among them."""
        queues, url = self.aws.client("sqs"), self.outputs["Inbox"]
        while messages := queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                alert = json.loads(message["Body"])
                execution = re.search(r"arn:aws:states:[\w-]+:\d+:execution:[\w-]+:[\w-]+", alert["Message"])
                assert execution is not None, alert
                self._alerts.setdefault(execution[0], []).append(alert)
        return self._alerts

    def in_queue(self, name: str) -> int:
        """How many messages a queue has, also such that are being looked at."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        reply = self.aws.client("sqs").get_queue_attributes(QueueUrl=self.outputs[name], AttributeNames=names)
        return sum(int(reply["Attributes"][name]) for name in names)


@dataclass(frozen=True)
class Map:
    """One of the maps in the account."""

    account: Account
    id: str

    @property
    def aws(self) -> EmbeddedAws:
        return self.account.aws

    @cached_property
    def _states(self) -> Any:
        return self.aws.client("stepfunctions")

    def output(self, name: str) -> str:
        return self.account.outputs[f"{self.id}{name}"]

    # --- items ---

    def put(self, key: str, body: bytes = b"some bytes", *, bucket: str | None = None) -> None:
        self.aws.client("s3").put_object(Bucket=bucket or self.output("Source"), Key=key, Body=body)

    def put_all(self, keys: Iterable[str]) -> None:
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(self.put, keys))

    def remove(self, day: str, name: str) -> None:
        """Removes the object that was offered by this name."""
        self.aws.client("s3").delete_object(Bucket=self.output("Source"), Key=f"in/{day.replace('-', '/')}/{name}")

    def offer(self, day: str, names: Sequence[str]) -> dict[str, Any]:
        """Puts items of these names where the run of a day finds them. The input of that run."""
        lists, rows = self.account.outputs["Lists"], [{"id": name, "colour": "red"} for name in names]
        match self.id:
            case "Objects":
                self.put_all(f"in/{day.replace('-', '/')}/{name}" for name in names)
            case "Lines":
                text = "".join(f"{json.dumps(row)}\n" for row in rows)
                self.put(f"lists/{day}.jsonl", text.encode(), bucket=lists)
            case "Rows":
                self.put(f"lists/{day}.csv", _csv([COLUMNS, *(list(row.values()) for row in rows)]).encode())
            case "Array":
                self.put(f"lists/{day}.json", json.dumps(rows).encode(), bucket=lists)
            case "Inventory":
                self._put_inventory(day, names, lists)
            case "Given":
                return {"runDate": day, "order": {"lines": rows}}
            case _:
                return {"runDate": day, "items": rows}
        return {"runDate": day}

    def _put_inventory(self, day: str, names: Sequence[str], lists: str) -> None:
        """As S3 delivers it: the manifest in a folder of its day, and two lists beside that."""
        files = [f"inventory/data/{day}-{number}.csv.gz" for number in range(2)]
        for number, key in enumerate(files):
            text = "".join(f'"photos","{name}","{len(name)}"\n' for name in names[number::2])
            self.put(key, gzip.compress(text.encode()), bucket=lists)
        manifest = {
            "sourceBucket": "photos",
            "destinationBucket": f"arn:aws:s3:::{lists}",
            "version": "2016-11-30",
            "fileFormat": "CSV",
            "fileSchema": "Bucket, Key, Size",
            "files": [{"key": key, "size": 0, "MD5checksum": ""} for key in files],
        }
        self.put(f"inventory/{day}T01-00Z/manifest.json", json.dumps(manifest).encode(), bucket=lists)

    def put_aside(self, key: str, body: bytes) -> bytes:
        """Puts something else in the place of a list, which is returned."""
        storage, lists = self.aws.client("s3"), self.account.outputs["Lists"]
        found: bytes = storage.get_object(Bucket=lists, Key=key)["Body"].read()
        self.put(key, body, bucket=lists)
        return found

    # --- runs ---

    def start(self, input_: Mapping[str, Any]) -> str:
        """The ARN of a new run."""
        started = self._states.start_execution(stateMachineArn=self.output("Machine"), input=json.dumps(input_))
        return str(started["executionArn"])

    def describe(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self._states.describe_execution(executionArn=run)
        return found

    def ended(self, run: str) -> dict[str, Any]:
        """The run once it has ended."""

        def described() -> dict[str, Any] | None:
            now = self.describe(run)
            return None if now["status"] == "RUNNING" else now

        found: dict[str, Any] = eventually(described, f"the end of {run}", within=PATIENCE)
        return found

    def run(self, day: str, *names: str) -> dict[str, Any]:
        """Has items of these names dealt with. The run, which has ended."""
        return self.ended(self.start(self.offer(day, names)))

    def runs(self) -> list[str]:
        return [one["executionArn"] for one in self.executions(self.output("Machine"))]

    def executions(self, machine: str, **only: str) -> list[dict[str, Any]]:
        pages = self._states.get_paginator("list_executions").paginate(stateMachineArn=machine, **only)
        return [execution for page in pages for execution in page["executions"]]

    def history(self, run: str) -> list[dict[str, Any]]:
        pages = self._states.get_paginator("get_execution_history").paginate(executionArn=run)
        return [event for page in pages for event in page["events"]]

    def entered(self, run: str) -> list[str]:
        """The states that a run has come to, in their order."""
        events = self.history(run)
        return [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]

    def map_runs(self, run: str) -> list[dict[str, Any]]:
        found = self._states.list_map_runs(executionArn=run)["mapRuns"]
        return [self._states.describe_map_run(mapRunArn=one["mapRunArn"]) for one in found]

    def map_run(self, run: str) -> dict[str, Any]:
        """The only map run of a run."""
        [found] = self.map_runs(run)
        return found

    def children(self, run: str) -> list[dict[str, Any]]:
        pages = self._states.get_paginator("list_executions").paginate(mapRunArn=self.map_run(run)["mapRunArn"])
        return [child for page in pages for child in page["executions"]]

    def inputs(self, run: str) -> list[dict[str, Any]]:
        """What the children of a run were told."""
        return [json.loads(self.describe(child["executionArn"])["input"]) for child in self.children(run)]

    def wait_for_children(self, run: str, **expected: int) -> None:
        """Waits until so many children have come so far."""

        def as_expected() -> bool:
            found = self.map_runs(run)
            return bool(found) and expected.items() <= found[0]["executionCounts"].items()

        eventually(as_expected, f"{expected} children of {run}", within=PATIENCE)

    def tasks_failed(self, run: str, state: str) -> int:
        """How many attempts of the task of a state have failed."""
        inside, failed = False, 0
        for event in self.history(run):
            if "stateEnteredEventDetails" in event:
                inside = event["stateEnteredEventDetails"]["name"] == state
            failed += inside and event["type"] == "TaskFailed"
        return failed

    def operate(self, **event: Any) -> dict[str, Any]:
        return self.account.call(self.output("Operate"), event)

    def rerun(self, run: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Runs again what was not done. What the operator was told, and the run that it is done in."""
        told = self.operate(action="rerun", execution=run, **options)
        assert told.get("started"), told
        return told, self.ended(told["started"])

    # --- accounts ---

    def summary(self, run: str) -> dict[str, Any]:
        """The account of a run as it lies in the bucket."""
        found: dict[str, Any] = json.loads(self.read(run, "summary.json"))
        return found

    def key(self, run: str, file: str) -> str:
        """Where one of the files of a run lies."""
        return f"runs/{run.rpartition(':')[2]}/{file}"

    def read(self, run: str, file: str) -> str:
        """One of the files of a run."""
        where = {"Bucket": self.output("Results"), "Key": self.key(run, file)}
        body: bytes = self.aws.client("s3").get_object(**where)["Body"].read()
        return body.decode()

    def lines(self, run: str, file: str) -> list[Any]:
        return [json.loads(line) for line in self.read(run, file).splitlines()]

    def told(self, run: str) -> str:
        """The only alert about a run."""
        [alert] = self.all_told(run, 1)
        return alert

    def all_told(self, run: str, count: int) -> list[str]:
        """All alerts about a run, of which so many are expected."""
        alerts = self.account.alerts
        eventually(lambda: len(alerts().get(run, [])) >= count, f"{count} alerts of {run}", within=PATIENCE)
        report = self.output("Report")
        eventually(lambda: not self.executions(report, statusFilter="RUNNING"), f"the end of all reports of {self.id}")
        assert self.account.in_queue(f"{self.id}DeadLetters") == 0
        return [f"{alert['Subject']}\n{alert['Message']}" for alert in alerts()[run]]

    def said(self) -> list[dict[str, str]]:
        """The environments of the containers so far, as they wrote them."""
        logs, group = self.aws.client("logs"), self.account.outputs["TaskLog"]
        found = []
        for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]:
            events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
            found.append(dict(event["message"].split("=", 1) for event in events))
        return found

    def counts(self, run: str) -> dict[str, int]:
        """What became of the items of a run, without what there is none of."""
        return {name: count for name, count in self.summary(run)["counts"].items() if count}


def _csv(rows: Iterable[Sequence[str]]) -> str:
    """As Step Functions reads it: https://docs.aws.amazon.com/step-functions/latest/dg/example-csv-parse-dist-map.html"""
    escaped = ([value.replace("\\", "\\\\").replace('"', '""') for value in row] for row in rows)
    return "".join(";".join(f'"{value}"' for value in row) + "\n" for row in escaped)


def names(done: Iterable[Done]) -> Counter[str]:
    """How often each item was dealt with."""
    return Counter(one.who.rpartition("/")[2] for one in done)


def peak(done: Iterable[Done]) -> int:
    """The most that were at work at once. Who ends at the very moment at which another begins, ends first."""
    inside = most = 0
    for _, change in sorted([(one.began, 1) for one in done] + [(one.ended, -1) for one in done]):
        inside += change
        most = max(most, inside)
    return most

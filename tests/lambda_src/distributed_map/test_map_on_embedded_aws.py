"""The functions against the embedded AWS: real map runs, and their results as Step Functions writes them."""

import gzip
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from distributed_map import account, operate, plan, runs, store
from distributed_map.store import PART, Store, Upload
from embedded_aws import EmbeddedAws
from pipeline.patience import Patience
from tests.embedded_aws.machines import ending, make_function, make_machine, task

ITEMS = [
    {"Key": f"in/{name}.csv", "Size": str(number)} for number, name in enumerate(("a", "bad-1", 'é "q", 🎉', "bad-2"))
]
BAD = [each for each in ITEMS if "bad" in each["Key"]]

SELECTED = {"ItemSelector": {"item.$": "$$.Map.Item.Value", "run.$": "$.plan.run", "constants": {}}}

CHECK = {
    "StartAt": "Check",
    "States": {
        "Check": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.item.Key", "StringMatches": "*bad*", "Next": "Refuse"}],
            "Default": "Done",
        },
        "Refuse": {"Type": "Fail", "Error": "BadFile", "Cause": "no date"},
        "Done": {"Type": "Pass", "Result": {"result": 1, "notice": ["odd"]}, "End": True},
    },
}
"""Fails for items with a bad name."""

ANSWERS = """
def said(item):
    return {"error": "BadFile", "cause": "no date"} if "bad" in item["Key"] else {"result": 1}
return {"items": [said(item) for item in event["Items"]]}
"""


class Context:
    """A function's time: 60 seconds from the start."""

    def __init__(self) -> None:
        self._end = time.monotonic() + 60

    def get_remaining_time_in_millis(self) -> int:
        return round((self._end - time.monotonic()) * 1000)


# What the maps tolerate themselves is their own, in each test.
COLLECT = {"kind": "collect", "value": None}


class Account:
    """A state machine with a map, its buckets and its functions."""

    def __init__(self, aws: EmbeddedAws, source: Mapping[str, Any], processor: Any, reader: Any = None, **fields: Any):
        self.aws, self.s3, self.states = aws, aws.client("s3"), aws.client("stepfunctions")
        self.bucket = f"map-{uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.source = {
            "timeZone": "Etc/UTC",
            "daysBack": 0,
            "results": {"bucket": self.bucket},
            "bucket": self.bucket,
            **source,
        }
        step = {
            "Type": "Map",
            "ItemProcessor": {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, **processor},
            "ItemReader": {
                "Resource": "arn:aws:states:::s3:getObject",
                "ReaderConfig": reader or {"InputType": "JSONL"},
                "Parameters": {"Bucket.$": "$.plan.items.bucket", "Key.$": "$.plan.items.key"},
            },
            "ResultWriter": {
                "Resource": "arn:aws:states:::s3:putObject",
                "Parameters": {
                    "Bucket": self.bucket,
                    "Prefix.$": "States.Format('runs/{}/map', $$.Execution.Name)",
                },
            },
            "MaxConcurrency": 5,
            "Label": "items",
            "End": True,
            **(fields or SELECTED),
        }
        self.machine = make_machine(aws, {"StartAt": "Process items", "States": {"Process items": step}})

    def put(self, key: str, data: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def run(self, name: str, given: Any = None) -> tuple[dict[str, Any], str]:
        """Plans and runs, as the state machine does. Returns the plan, and how it ended."""
        arn = f"{self.machine.replace(':stateMachine:', ':execution:')}:{name}"
        facts = {"id": arn, "name": name, "startTime": "2026-11-22T06:00:00Z"}
        planned = plan.handle({"input": given or {}, "execution": facts, "source": self.source}, Context())
        if planned["next"] == "map":
            self.states.start_execution(
                stateMachineArn=self.machine, name=name, input=json.dumps({**(given or {}), "plan": planned})
            )
            return planned, ending(self.aws, arn).status
        return planned, "none"

    def account(self, name: str) -> dict[str, Any]:
        """The account that the state machine makes of it, or the report where it has failed."""
        arn = f"{self.machine.replace(':stateMachine:', ':execution:')}:{name}"
        found = self.states.describe_execution(executionArn=arn)
        settings = {"results": {"bucket": self.bucket}, "source": self.source, "name": "test", "tolerance": COLLECT}
        if found["status"] == "SUCCEEDED":
            event = {
                "execution": {"id": arn, "name": name, "startTime": found["startDate"].isoformat()},
                "plan": json.loads(found["input"])["plan"],
                "map": json.loads(found["output"]),
            }
        else:
            times = {key: found[key].timestamp() * 1000 for key in ("startDate", "stopDate")}
            change = {key: found.get(key) for key in ("executionArn", "name", "status", "error", "cause")}
            event = {"statusChange": {**change, **times}, "retryCount": 0}
        return account.handle({**event, "settings": settings}, Context())

    def again(self, name: str) -> dict[str, Any]:
        return {"rerun": {"execution": f"{self.machine.replace(':stateMachine:', ':execution:')}:{name}"}}

    def children(self, name: str) -> list[Any]:
        """The inputs of all children of a run."""
        arn = self.again(name)["rerun"]["execution"]
        (map_run,) = self.states.list_map_runs(executionArn=arn)["mapRuns"]
        listed = self.states.list_executions(mapRunArn=map_run["mapRunArn"], maxResults=1000)["executions"]
        described = [self.states.describe_execution(executionArn=each["executionArn"]) for each in listed]
        return [json.loads(each["input"]) for each in described]


@pytest.fixture
def functions(embedded_aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> EmbeddedAws:
    monkeypatch.setattr(store, "s3", lambda: embedded_aws.client("s3"))
    for module in (runs, operate):
        monkeypatch.setattr(module, "stepfunctions", lambda: embedded_aws.client("stepfunctions"))
    return embedded_aws


def inventory(bucket: str) -> tuple[bytes, bytes]:
    """A manifest of an inventory, and its data."""
    manifest = {
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "fileFormat": "CSV",
        "fileSchema": "Key, Size",
        "files": [{"key": "inventory/data.csv.gz"}],
    }
    rows = "".join('"{}","{}"\n'.format(each["Key"].replace('"', '""'), each["Size"]) for each in ITEMS)
    return json.dumps(manifest).encode(), gzip.compress(rows.encode())


CSV = (
    "Key,Size\n" + "".join('"{}",{}\n'.format(each["Key"].replace('"', '""'), each["Size"]) for each in ITEMS)
).encode()

SOURCES: list[tuple[dict[str, Any], Any, bytes]] = [
    ({"kind": "input", "path": "$.items"}, {"InputType": "JSONL"}, b""),
    (
        {"kind": "jsonl", "key": "{date}"},
        {"InputType": "JSONL"},
        b"\n".join(json.dumps(each).encode() for each in ITEMS),
    ),
    ({"kind": "json", "key": "{date}"}, {"InputType": "JSON"}, json.dumps(ITEMS).encode()),
    ({"kind": "csv", "key": "{date}"}, {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"}, CSV),
    (
        {"kind": "csv", "key": "{date}", "csv": {"headers": ["Key", "Size"], "delimiter": "COMMA"}},
        {"InputType": "CSV", "CSVHeaderLocation": "GIVEN", "CSVHeaders": ["Key", "Size"]},
        CSV.partition(b"\n")[2],
    ),
    ({"kind": "manifest", "key": "{date}"}, {"InputType": "MANIFEST"}, b""),
]


@pytest.mark.parametrize(("source", "reader", "data"), SOURCES)
def test_what_failed_runs_again_and_nothing_else(
    source: dict[str, Any], reader: Any, data: bytes, functions: EmbeddedAws
) -> None:
    here = Account(functions, source, CHECK, reader)
    manifest, rows = inventory(here.bucket)
    here.put("2026-11-22", manifest if source["kind"] == "manifest" else data)
    here.put("inventory/data.csv.gz", rows)

    counted, _ = here.run("dry", {"items": ITEMS, "dryRun": True})
    _, status = here.run("first", {"items": ITEMS})
    told = here.account("first")

    assert (counted["next"], counted["count"]) == ("counted", 4)
    assert status == "FAILED"
    assert told["error"]["Error"] == "States.ExceedToleratedFailureThreshold"
    assert told["counts"]["total"] == 4
    assert told["counts"]["failed"] >= 1
    assert told["groups"][0]["error"] == "BadFile"
    missing = told["counts"]["failed"] + told["counts"]["notRun"]

    # What was not done, which is at least what is bad. Again, what is not done is what is bad.
    planned, _ = here.run("second", here.again("first"))
    here.account("second")
    third, _ = here.run("third", here.again("second"))

    assert planned["count"] == missing
    ran = [each["item"] for each in here.children("second")]
    assert all(each in ITEMS for each in ran)
    assert [each for each in ITEMS if each not in ran and each in BAD] == []
    assert third["count"] >= 1
    assert all(each["item"] in ITEMS for each in here.children("third"))
    assert {each["run"]["date"] for each in here.children("third")} == {"2026-11-22"}


def test_objects_are_moved_through_a_run(functions: EmbeddedAws) -> None:
    here = Account(
        functions,
        {"kind": "objects", "prefix": "in/", "filters": {"patterns": ["*.csv"]}},
        CHECK,
        ToleratedFailureCount=2,
        **SELECTED,
    )
    for each in ITEMS:
        here.put(each["Key"], b"x")
    here.put("in/", b"")
    here.put("in/a.txt", b"x")

    planned, status = here.run("first")
    told = here.account("first")

    assert (planned["count"], status) == (4, "SUCCEEDED")
    assert (told["counts"]["succeeded"], told["counts"]["failed"], told["counts"]["notices"]) == (2, 2, 2)
    assert told["error"]["Error"] == "ItemsFailed"
    assert (
        "2 \N{MULTIPLICATION SIGN} application BadFile: no date, for example in/bad-1.csv, in/bad-2.csv."
        in told["error"]["Cause"]
    )
    failed = [json.loads(line) for line in here.get("runs/first/failed.jsonl").splitlines()]
    assert sorted(each["Key"] for each in failed) == ["in/bad-1.csv", "in/bad-2.csv"]
    (first, *_) = [json.loads(line) for line in here.get("runs/first/failures.jsonl").splitlines()]
    assert functions.client("stepfunctions").describe_execution(executionArn=first["execution"])["status"] == "FAILED"
    assert [each["item"]["Size"] for each in here.children("first")] == [1] * 4


def test_of_a_batch_only_the_items_that_failed_run_again(functions: EmbeddedAws) -> None:
    function = make_function(functions, ANSWERS)
    call = task("lambda:invoke", {"FunctionName": function, "Payload.$": "$"}, OutputPath="$.Payload")
    here = Account(
        functions,
        {"kind": "input", "path": "$.items"},
        {"StartAt": "Call", "States": {"Call": call}},
        ItemBatcher={"MaxItemsPerBatch": 3, "BatchInput": {"run.$": "$.plan.run", "constants": {}}},
    )

    _, status = here.run("first", {"items": ITEMS})
    told = here.account("first")
    planned, _ = here.run("second", here.again("first"))

    assert status == "SUCCEEDED"
    assert (told["counts"]["succeeded"], told["counts"]["failed"]) == (2, 2)
    assert told["groups"][0]["side"] == "application"
    assert planned["count"] == 2
    assert [each["Items"] for each in here.children("second")] == [BAD]


def test_a_run_is_redriven_and_its_account_is_that_of_the_end(
    functions: EmbeddedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs = functions.client("sqs")
    name = f"work-{uuid4().hex[:8]}"
    known = sqs.create_queue(QueueName=f"{name}-known")["QueueUrl"]
    missing = known.replace(f"{name}-known", name)
    send = task("sqs:sendMessage", {"QueueUrl.$": "$.constants.queue", "MessageBody.$": "$.item.Key"})
    here = Account(
        functions,
        {"kind": "input", "path": "$.items"},
        {"StartAt": "Send", "States": {"Send": send}},
        ItemSelector={"item.$": "$$.Map.Item.Value", "run.$": "$.plan.run", "constants": {"queue": missing}},
        ToleratedFailureCount=1,
    )
    monkeypatch.setenv("STATE_MACHINE_ARN", here.machine)
    monkeypatch.setenv("RESULTS_BUCKET", here.bucket)

    _, status = here.run("first", {"items": ITEMS})
    before = here.account("first")
    sqs.create_queue(QueueName=name)
    told = operate.handle({"action": "rerun"}, Context())
    arn = here.again("first")["rerun"]["execution"]
    ended = ending(functions, arn)
    after = here.account("first")

    assert status == "FAILED"
    assert before["counts"]["failed"] >= 2
    assert (told["mode"], told["started"]) == ("redrive", arn)
    assert ended.status == "SUCCEEDED"
    assert (after["failed"], after["counts"]["succeeded"], after["counts"]["failed"]) == (False, 4, 0)
    assert here.get("runs/first/failed.jsonl") == b""
    assert operate.handle({"action": "rerun", "execution": arn}, Context())["why"] == "all of its items were done"


def test_a_running_map_is_changed_and_looked_at(functions: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}
    here = Account(functions, {"kind": "input", "path": "$.items"}, wait, MaxConcurrency=1, **SELECTED)
    monkeypatch.setenv("STATE_MACHINE_ARN", here.machine)
    monkeypatch.setenv("RESULTS_BUCKET", here.bucket)
    arn = here.again("first")["rerun"]["execution"]
    facts = {"id": arn, "name": "first", "startTime": "2026-11-22T06:00:00Z"}
    planned = plan.handle({"input": {"items": ITEMS}, "execution": facts, "source": here.source}, Context())
    here.states.start_execution(stateMachineArn=here.machine, name="first", input=json.dumps({"plan": planned}))

    def under_way() -> Any:
        (run,) = operate.handle({"action": "status"}, Context())["running"]
        return [each for each in run["mapRuns"] if each["items"]["running"]]

    eventually(lambda: len(under_way()) == 1)
    operate.handle({"action": "update", "maxConcurrency": 3, "toleratedFailureCount": 7}, Context())

    eventually(lambda: under_way()[0]["items"]["running"] == 3)
    assert (under_way()[0]["maxConcurrency"], under_way()[0]["toleratedFailureCount"]) == (3, 7)
    here.states.stop_execution(executionArn=arn)
    assert ending(functions, arn).status == "ABORTED"


def eventually(holds: Any, within: float = 8) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_file_of_many_parts_is_one_object(functions: EmbeddedAws) -> None:
    here = Account(functions, {"kind": "objects", "prefix": ""}, CHECK)
    patience = Patience.of(Context())
    bucket = Store(here.bucket, patience)
    data = bytes(range(256)) * (2 * PART // 256 + 100)
    first = Upload(bucket, "a", patience)
    first.write(data[: PART + 1000])
    second = Upload(bucket, "a", patience, upload_id=first.upload_id, parts=first.parts, tail=first.tail)
    second.write(data[PART + 1000 :])

    second.close()

    assert b"".join(bucket.chunks("a")) == data
    assert bucket.end("a", 8) == data[-8:]
    assert bucket.head("b") is None
    assert bucket.read("b") is None

"""The designs that the map's benchmark compares. Each is a stack "Bench" with a bucket and a function for its objects.

Its outputs are the bucket (`Bucket`), the state machine (`Machine`), the log group of each function (`ProcessLog`, …)
and, in those of the library, the bucket with the accounts (`Results`).
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from benchmarks.map_figures import BATCHED, CRASH, EXPRESS, ITEM_BY_ITEM, REFUSALS
from benchmarks.prices import LAMBDA_GB
from constructs_lib import Batch, DistributedMapProcessor, FailureTolerance, S3Objects

STACK = "Bench"
BATCH = 100
"""Items in a batch."""
GOOD_DAY, BAD_DAY = "2026-11-20", "2026-11-21"
"""The date of a run in which everything goes well, and of one in which items fail."""

_DO_ONE = """
def handle(event, context):
    return "done"
"""

DO_BATCH = f"""
import json
import os

REFUSALS = json.loads(os.environ["REFUSALS"])

def handle(event, context):
    keys = [item["Key"] for item in event["Items"]]
    if event["BatchInput"]["run"]["date"] != "{BAD_DAY}":
        return {{"items": [{{"result": "done"}} for _ in keys]}}
    numbers = [int(key.partition(".")[0]) for key in keys]
    if int(os.environ["CRASH"]) in numbers:
        raise RuntimeError("the whole batch is lost")
    return {{"items": [answer(key, number) for key, number in zip(keys, numbers)]}}

def answer(key, number):
    for error, nth in REFUSALS.items():
        if number % nth == 0:
            return {{"error": error, "cause": "this is wrong with " + key}}
    return {{"result": "done"}}
"""
"""What `map_figures.failing` expects on a bad day."""


def item_by_item(folder: Path) -> None:
    """A distributed Map over the objects of a bucket as it is without the library: a call of the function for each.

    How many run at once it leaves to AWS, and nobody accounts for anything.
    """
    app, stack = _make_stack(folder)
    bucket = s3.Bucket(stack, "Incoming")
    process = _make_function(stack, _DO_ONE)
    items = sfn.DistributedMap(stack, "Process items", item_reader=sfn.S3ObjectsItemReader(bucket=bucket))
    items.item_processor(tasks.LambdaInvoke(stack, "Process item", lambda_function=process, output_path="$.Payload"))
    machine = sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(items))
    _synthesize(app, stack, bucket, machine)


def batched(folder: Path, execution_type: sfn.ProcessorType) -> None:
    """The library's processor: the same in batches, with an account of all that failed."""
    app, stack = _make_stack(folder)
    bucket = s3.Bucket(stack, "Incoming")
    process = _make_function(stack, DO_BATCH, {"REFUSALS": json.dumps(REFUSALS), "CRASH": str(CRASH)})
    processor = DistributedMapProcessor(
        stack,
        "Map",
        source=S3Objects(bucket=bucket),
        processor=process,
        batch=Batch(max_items=BATCH),
        execution_type=execution_type,
        tolerance=FailureTolerance.collect(),
    )
    assert processor.alert is not None
    functions = {"Plan": processor.plan, "Account": processor.account, "Alert": processor.alert.function}
    for name, function in functions.items():
        cdk.CfnOutput(stack, f"{name}LogOutput", value=function.log_group.log_group_name)
    cdk.CfnOutput(stack, "ResultsOutput", value=processor.results_bucket.bucket_name)
    _synthesize(app, stack, bucket, processor.state_machine)


DESIGNS: Mapping[str, Callable[[Path], None]] = {
    ITEM_BY_ITEM: item_by_item,
    BATCHED: partial(batched, execution_type=sfn.ProcessorType.STANDARD),
    EXPRESS: partial(batched, execution_type=sfn.ProcessorType.EXPRESS),
}


def _make_stack(folder: Path) -> tuple[cdk.App, cdk.Stack]:
    app = cdk.App(outdir=str(folder), analytics_reporting=False)
    return app, cdk.Stack(app, STACK)


def _make_function(stack: cdk.Stack, code: str, environment: Mapping[str, str] | None = None) -> lambda_.Function:
    log_group = logs.LogGroup(stack, "ProcessLogs")
    cdk.CfnOutput(stack, "ProcessLogOutput", value=log_group.log_group_name)
    return lambda_.Function(
        stack,
        "Process",
        runtime=lambda_.Runtime.PYTHON_3_14,
        handler="index.handle",
        code=lambda_.Code.from_inline(code),
        environment=dict(environment or {}),
        memory_size=int(LAMBDA_GB * 1024),
        timeout=Duration.seconds(30),
        log_group=log_group,
    )


def _synthesize(app: cdk.App, stack: cdk.Stack, bucket: s3.Bucket, machine: sfn.StateMachine) -> None:
    cdk.CfnOutput(stack, "BucketOutput", value=bucket.bucket_name)
    cdk.CfnOutput(stack, "MachineOutput", value=machine.state_machine_arn)
    app.synth()

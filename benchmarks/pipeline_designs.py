"""The designs that the pipeline's benchmark compares. Each is a stack "Bench" with a bucket and a job in a limit.

Its outputs are the bucket (`Bucket`), the state machine (`Machine`) that runs once for each object and has
`$.object.key` in its input, and the log group of each function (`StarterLog`, …).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from benchmarks.semaphore_figures import JOB
from constructs_lib import S3TriggeredThrottledPipeline, Semaphore

STACK = "Bench"
LIMIT = 20
JOB_SECONDS = 2
POLL_SECONDS = 3


def ours(folder: Path) -> None:
    """The library's pipeline, with a chain of one state as its job."""
    app, stack = _make_stack(folder)
    bucket = s3.Bucket(stack, "Incoming")
    pipeline = S3TriggeredThrottledPipeline(
        stack, "Pipeline", bucket=bucket, job=_make_job(stack), max_concurrency=LIMIT
    )
    semaphore = pipeline.semaphore
    assert isinstance(semaphore, Semaphore)
    functions = {
        "Starter": pipeline.starter.function,
        "Semaphore": semaphore.function,
        "Valve": pipeline.valve.function,
    }
    for name, function in functions.items():
        cdk.CfnOutput(stack, f"{name}LogOutput", value=function.log_group.log_group_name)
    _synthesize(app, stack, bucket, pipeline.state_machine)


_MARKERS = """
import os
import boto3

s3 = boto3.client("s3")

def handle(event, context):
    bucket = {"Bucket": os.environ["BUCKET"]}
    match event["action"]:
        case "count":
            return s3.list_objects_v2(**bucket).get("KeyCount", 0)
        case "write":
            s3.put_object(**bucket, Key=event["marker"])
        case "delete":
            s3.delete_object(**bucket, Key=event["marker"])
"""


def marker_files(folder: Path) -> None:
    """Whoever works has a file in a bucket. Who finds fewer than the limit writes its own, the others count again.

    Nothing lies between the count and the write, so many may find the same room.
    """
    app, stack = _make_stack(folder)
    bucket = s3.Bucket(stack, "Markers")
    name = sfn.JsonPath.string_at("$$.Execution.Name")
    function = _make_function(stack, "Mark", _MARKERS, {"BUCKET": bucket.bucket_name})
    bucket.grant_read_write(function)

    def mark(id_: str, action: str, result_path: str) -> tasks.LambdaInvoke:
        return tasks.LambdaInvoke(
            stack,
            id_,
            lambda_function=function,
            payload=sfn.TaskInput.from_object({"action": action, "marker": name}),
            result_selector={"markers.$": "$.Payload"},
            result_path=result_path,
        )

    count = mark("Count the markers", "count", "$.found")
    write = mark("Write a marker", "write", sfn.JsonPath.DISCARD)
    delete = mark("Delete the marker", "delete", sfn.JsonPath.DISCARD)
    pause = sfn.Wait(stack, "Pause", time=sfn.WaitTime.duration(Duration.seconds(POLL_SECONDS)))
    room = sfn.Choice(stack, "Is there room?")
    room.when(
        sfn.Condition.number_less_than("$.found.markers", LIMIT), write.next(_make_job(stack)).next(delete)
    ).otherwise(pause.next(count))
    _start_at_once(app, stack, count.next(room))


_LAUNCHES = """
import fcntl
import json
import os
import tempfile
import time
from datetime import datetime, timezone

LEASES = os.path.join(tempfile.gettempdir(), "leases" + os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])

class ThrottlingException(Exception):
    pass

def handle(event, context):
    with open(LEASES, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        now = time.time()
        leases = [until for until in json.loads(file.read() or "[]") if until > now]
        if len(leases) >= int(os.environ["LIMIT"]):
            raise ThrottlingException("Capacity is unavailable at this time")
        ends = now + float(os.environ["SECONDS"])
        # A task that ends holds its place for a moment longer.
        leases.append(ends + 0.5)
        file.truncate(0)
        file.write(json.dumps(leases))
    return datetime.fromtimestamp(ends, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
"""


def plain_retry(folder: Path) -> None:
    """The job is launched, and where there is no capacity, launched again: after 3, 6 and 12 seconds.

    The function stands for ECS's RunTask with a quota of the limit. Its processes share a file, as they can on the
    embedded AWS. It is no part of the design and costs nothing.
    """
    app, stack = _make_stack(folder)
    function = _make_function(stack, "", _LAUNCHES, {"LIMIT": str(LIMIT), "SECONDS": str(JOB_SECONDS)})
    launch = tasks.LambdaInvoke(
        stack,
        "Launch",
        lambda_function=function,
        result_selector={"until.$": "$.Payload"},
        result_path="$.lease",
        retry_on_service_exceptions=False,
    )
    launch.add_retry(errors=["ThrottlingException"], interval=Duration.seconds(3), max_attempts=3, backoff_rate=2)
    job = sfn.Wait(stack, JOB, time=sfn.WaitTime.timestamp_path("$.lease.until"))
    _start_at_once(app, stack, launch.next(job))


DESIGNS: Mapping[str, Callable[[Path], None]] = {
    "ours": ours,
    "marker files": marker_files,
    "plain retry": plain_retry,
}


def _make_stack(folder: Path) -> tuple[cdk.App, cdk.Stack]:
    app = cdk.App(outdir=str(folder), analytics_reporting=False)
    return app, cdk.Stack(app, STACK)


def _make_job(stack: cdk.Stack) -> sfn.Wait:
    return sfn.Wait(stack, JOB, time=sfn.WaitTime.duration(Duration.seconds(JOB_SECONDS)))


def _make_function(stack: cdk.Stack, name: str, code: str, environment: Mapping[str, str]) -> lambda_.Function:
    """One that belongs to the design if it has a name."""
    log_group = logs.LogGroup(stack, f"{name}FunctionLogs")
    if name:
        cdk.CfnOutput(stack, f"{name}LogOutput", value=log_group.log_group_name)
    return lambda_.Function(
        stack,
        f"{name}Function",
        runtime=lambda_.Runtime.PYTHON_3_14,
        handler="index.handle",
        code=lambda_.Code.from_inline(code),
        environment=dict(environment),
        timeout=Duration.seconds(30),
        log_group=log_group,
    )


def _start_at_once(app: cdk.App, stack: cdk.Stack, definition: sfn.IChainable) -> None:
    """A rule that starts the state machine for each new object, with nothing between."""
    bucket = s3.Bucket(stack, "Incoming", event_bridge_enabled=True)
    machine = sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(definition))
    key = events.EventField.from_path("$.detail.object.key")
    events.Rule(
        stack,
        "Objects",
        event_pattern=events.EventPattern(
            source=["aws.s3"], detail_type=["Object Created"], detail={"bucket": {"name": [bucket.bucket_name]}}
        ),
        targets=[targets.SfnStateMachine(machine, input=events.RuleTargetInput.from_object({"object": {"key": key}}))],
    )
    _synthesize(app, stack, bucket, machine)


def _synthesize(app: cdk.App, stack: cdk.Stack, bucket: s3.Bucket, machine: sfn.StateMachine) -> None:
    cdk.CfnOutput(stack, "BucketOutput", value=bucket.bucket_name)
    cdk.CfnOutput(stack, "MachineOutput", value=machine.state_machine_arn)
    app.synth()

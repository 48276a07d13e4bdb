"""A bucket, jobs of each kind, and a pipeline between them: what most tests of the pipeline start from."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_cloudwatch_actions as cloudwatch_actions
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from constructs_lib import AlertFunction, FargateJob, S3TriggeredThrottledPipeline
from tests.scheduled import surroundings

OBJECT = {
    "bucket": "incoming",
    "key": "in/a b+c%20#ü.csv",
    "versionId": "",
    "size": 12,
    "etag": "9a0364b9e99bb480dd25e1f0284c8555",
    "sequencer": "0062E99A88DC407460",
    "time": "2026-03-01T02:00:00Z",
    "reason": "PutObject",
}
"""What the starter tells an execution of an object."""


def bucket(stack: cdk.Stack, name: str = "incoming") -> s3.IBucket:
    """A bucket that costs no resources of its own."""
    number = sum(1 for one in stack.node.children if one.node.id.startswith("Imported"))
    return s3.Bucket.from_bucket_name(stack, f"Imported{number}", name)


def fargate_job(stack: cdk.Stack, **options: Any) -> FargateJob:
    around = surroundings(stack)
    return FargateJob(**{"cluster": around.cluster, "task_definition": around.task_definition, **options})


def function(stack: cdk.Stack, id_: str = "Work", **options: Any) -> lambda_.Function:
    required = {
        "runtime": lambda_.Runtime.PYTHON_3_14,
        "handler": "index.handle",
        "code": lambda_.Code.from_inline("def handle(event, context): return event['object']['key']"),
        "timeout": Duration.minutes(2),
    }
    return lambda_.Function(stack, id_, **{**required, **options})


def chain(stack: cdk.Stack) -> sfn.Chain:
    """Two states that need permissions of their own."""
    call = tasks.LambdaInvoke(stack, "Call", lambda_function=function(stack), result_path="$.called")
    tell = tasks.SnsPublish(
        stack, "Publish", topic=sns.Topic(stack, "Done"), message=sfn.TaskInput.from_json_path_at("$.object.key")
    )
    return call.next(tell)


def pipeline(stack: cdk.Stack, id_: str = "Pipeline", **options: Any) -> S3TriggeredThrottledPipeline:
    """The construct with what it requires; `options` add to that or replace it."""
    given = dict(options)
    given.setdefault("job", None)
    if given["job"] is None:
        given["job"] = imported_function(stack, id_)
    if "bucket" not in given:
        given["bucket"] = bucket(stack)
    if "semaphore" not in given:
        given.setdefault("max_concurrency", 10)
    return S3TriggeredThrottledPipeline(stack, id_, **given)


def imported_function(stack: cdk.Stack, id_: str = "Own") -> lambda_.IFunction:
    arn = "arn:aws:lambda:eu-central-1:111122223333:function:own"
    return lambda_.Function.from_function_arn(stack, f"{id_}Function", arn)


def full_options(stack: cdk.Stack) -> dict[str, Any]:
    """Every option of the construct set to something else than its default, but for `semaphore`."""
    on_call = sns.Topic(stack, "OnCall")
    return {
        "bucket": s3.Bucket(stack, "Incoming"),
        "job": fargate_job(stack, cpu=512),
        "max_concurrency": 40,
        "max_starts_per_second": 10,
        "prefixes": ["in/", "more*/"],
        "suffixes": [".csv", ".json"],
        "wildcards": ["other/*/data-*.txt"],
        "min_size": 1,
        "max_size": 1_000_000,
        "one_at_a_time_per_key": True,
        "drop_stale_events": True,
        "output_bucket": bucket(stack, "results"),
        "output_prefix": "in/",
        "paused": True,
        "max_waiting": 500,
        "vcpu_quota": 100,
        "starter_concurrency": 3,
        "execution_timeout": Duration.days(7),
        "alert_lambda": imported_function(stack),
        "failure_handlers": [AlertFunction(stack, "SharedAlert", topic=on_call), on_call],
        "success_handlers": [sns.Topic(stack, "Good")],
        "fail_execution": False,
        "oldest_object_alarm": Duration.minutes(10),
        "log_execution_data": False,
        "log_retention": logs.RetentionDays.ONE_WEEK,
        "alarm_actions": [cloudwatch_actions.SnsAction(on_call)],
    }


def full(stack: cdk.Stack) -> S3TriggeredThrottledPipeline:
    return pipeline(stack, **full_options(stack))

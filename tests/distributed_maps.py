"""Items, processors of each kind, and a map between them: what most tests of the map start from."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_cloudwatch_actions as cloudwatch_actions
from aws_cdk import aws_events as events
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from constructs_lib import (
    AlertFunction,
    Batch,
    CsvItems,
    DistributedMapProcessor,
    ErrorSpool,
    FailureTolerance,
    S3Objects,
    Semaphore,
)
from tests.pipelines import bucket, function, imported_function

RUN = {"execution": "night", "date": "2026-11-21", "bucket": "incoming", "prefix": "in/2026/11/21/", "key": None}
"""What the planner tells every item of its run."""

PLAN: dict[str, Any] = {
    "next": "map",
    "count": 2,
    "items": {"bucket": "results", "key": "runs/night/items.jsonl"},
    "run": RUN,
    "progress": None,
}

ACCOUNT: dict[str, Any] = {
    "failed": False,
    "counts": {"total": 2, "succeeded": 2, "failed": 0, "notRun": 0, "notices": 0},
    "groups": [],
    "error": None,
    "again": {"rerun": {"execution": "arn:aws:states:eu-central-1:111122223333:execution:map:night"}},
    "notices": None,
    "summary": "s3://results/runs/night/summary.json",
}

BAD_ACCOUNT: dict[str, Any] = {
    **ACCOUNT,
    "failed": True,
    "counts": {**ACCOUNT["counts"], "succeeded": 1, "failed": 1},
    "error": {"Error": "ItemsFailed", "Cause": "1 of 2 items failed (allowed: 0)."},
}

NOTICES = {"count": 1, "samples": [{"item": "a.csv", "notice": "empty"}], "location": "s3://results/notices.jsonl"}


def chain(stack: cdk.Stack) -> sfn.Chain:
    """Two states that need permissions of their own."""
    call = tasks.LambdaInvoke(stack, "Call", lambda_function=function(stack), result_path="$.called")
    tell = tasks.SnsPublish(
        stack, "Publish", topic=sns.Topic(stack, "Done"), message=sfn.TaskInput.from_json_path_at("$.item.Key")
    )
    return call.next(tell)


def processor(stack: cdk.Stack, id_: str = "Map", **options: Any) -> DistributedMapProcessor:
    """The construct with what it requires; `options` add to that or replace it."""
    given = dict(options)
    if "source" not in given:
        given["source"] = S3Objects(bucket=bucket(stack), prefix="in/{date:%Y/%m/%d}/")
    if "processor" not in given:
        given["processor"] = imported_function(stack, id_)
    return DistributedMapProcessor(stack, id_, **given)


def full_options(stack: cdk.Stack) -> dict[str, Any]:
    """Every option of the construct set to something else than its default, but for `results_retention`."""
    on_call = sns.Topic(stack, "OnCall")
    shared = AlertFunction(stack, "SharedAlert", topic=on_call)
    return {
        "source": CsvItems(
            bucket=s3.Bucket(stack, "Orders", encryption=s3.BucketEncryption.KMS),
            key="orders/{date:%Y-%m-%d}.csv",
            headers=["id", "amount"],
            delimiter=sfn.CsvDelimiter.SEMICOLON,
            max_items=1_000_000,
        ),
        "processor": function(stack),
        "batch": Batch(max_items=50, max_bytes=100_000),
        "constants": {"target": "archive", "retries": 3, "nested": {"list": [1, True, "a"]}},
        "execution_type": sfn.ProcessorType.EXPRESS,
        "max_concurrency": 40,
        "tolerance": FailureTolerance.percentage(5),
        "on_empty": "fail",
        "label": "orders",
        "time_zone": cdk.TimeZone.ASIA_TOKYO,
        "days_back": 1,
        "schedule": scheduler.ScheduleExpression.cron(minute="0", hour="3", time_zone=cdk.TimeZone.ASIA_TOKYO),
        "event_pattern": events.EventPattern(source=["my.orders"]),
        "results_bucket": s3.Bucket(stack, "Own", encryption_key=kms.Key(stack, "Key")),
        "execution_timeout": Duration.days(2),
        "alert_lambda": imported_function(stack),
        "failure_handlers": [shared, ErrorSpool(stack, "Spool"), on_call],
        "success_handlers": [sns.Topic(stack, "Good")],
        "notice_handlers": [sns.Topic(stack, "Business")],
        "fail_execution": False,
        "log_execution_data": False,
        "log_retention": logs.RetentionDays.ONE_WEEK,
        "alarm_actions": [cloudwatch_actions.SnsAction(on_call)],
    }


def full(stack: cdk.Stack) -> DistributedMapProcessor:
    return processor(stack, **full_options(stack))


def guarded(stack: cdk.Stack) -> DistributedMapProcessor:
    """Each child takes a permit that it shares with others."""
    return processor(stack, processor=function(stack), semaphore=Semaphore(stack, "Quota", limit=5))

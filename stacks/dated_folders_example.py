"""Moves the files of yesterday into a folder of their day, every night: a map that is fit for use."""

from aws_cdk import Acknowledgment, CfnOutput, Duration, Stack, TimeZone, Validations
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from constructs_lib import Batch, DistributedMapProcessor, FailureTolerance, S3Objects
from stacks.mover import Mover

INCOMING, ARCHIVE = "incoming/", "archive/"
"""The folders. A file is put into the former with its day before its name: ``incoming/2026-11-21_orders.csv``."""


class DatedFoldersExample(Stack):
    """Moves ``incoming/2026-11-21_orders.csv`` to ``archive/2026/11/21/orders.csv`` in the night to the 22nd.

    Args:
        scope: The app.
        id_: The stack's id.
        time_zone: Where the days begin and end.
    """

    def __init__(self, scope: Construct, id_: str, *, time_zone: TimeZone = TimeZone.ASIA_TOKYO) -> None:
        super().__init__(scope, id_)
        files = self._make_bucket()
        moving = DistributedMapProcessor(
            self,
            "Moving",
            # Without the name behind the day, so that files whose name is wrong are told of, and not passed over.
            source=S3Objects(bucket=files, prefix=INCOMING + "{date:%Y-%m-%d}"),
            time_zone=time_zone,
            days_back=1,
            schedule=scheduler.ScheduleExpression.cron(minute="30", hour="0", time_zone=time_zone),
            processor=Mover(self, "Mover", bucket=files, source=INCOMING, target=ARCHIVE).function,
            batch=Batch(max_items=50),
            constants={"archive": ARCHIVE},
            max_concurrency=5,
            # What can be moved is moved; then the run fails if anything is left, and one alert tells what, and why.
            tolerance=FailureTolerance.collect(),
        )
        assert moving.alert is not None
        for name, value in {
            "FilesBucketName": files.bucket_name,
            "ResultsBucketName": moving.results_bucket.bucket_name,
            # To be started with {}, {"runDate": "2026-11-21"} or {"dryRun": true}.
            "StateMachineArn": moving.state_machine.state_machine_arn,
            # To be invoked with {"action": "rerun"} when what was in the way is out of it.
            "OperatorName": moving.operate.function_name,
            "AlertTopicArn": moving.alert.topic.topic_arn,
        }.items():
            CfnOutput(self, name, value=value)

    def _make_bucket(self) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "Files",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            # What was moved by mistake can be had back for a month.
            versioned=True,
            lifecycle_rules=[s3.LifecycleRule(noncurrent_version_expiration=Duration.days(30))],
        )
        Validations.of(bucket).acknowledge(
            Acknowledgment(id="AwsSolutions-S1", reason="What is moved here, the accounts of the runs tell.")
        )
        return bucket

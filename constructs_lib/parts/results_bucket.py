"""The bucket with the items, the results and the accounts of the runs of a map."""

from aws_cdk import Duration
from aws_cdk import aws_s3 as s3
from constructs import Construct

from .acknowledgements import acknowledge
from .bucket_access import READ, READ_AND_WRITE, BucketAccess

RUNS = "runs/"
"""What all keys begin with; then comes the name of the execution."""

_NAMED_BY_RUN = "What belongs to a run lies under its name, which is not known before."

# What was begun to be written in parts, and never ended, is of no use to anybody.
_LEFT_OVER = Duration.days(1)


def make_results_bucket(scope: Construct, id_: str, *, retention: Duration) -> s3.Bucket:
    """A private, encrypted bucket, whose objects are dropped after `retention`. It stays when its stack is deleted."""
    bucket = s3.Bucket(
        scope,
        id_,
        encryption=s3.BucketEncryption.S3_MANAGED,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        enforce_ssl=True,
        lifecycle_rules=[s3.LifecycleRule(expiration=retention, abort_incomplete_multipart_upload_after=_LEFT_OVER)],
    )
    acknowledge(
        bucket, {"AwsSolutions-S1": "Only one state machine and its functions use it, and they log what they do."}
    )
    return bucket


def reading_runs(bucket: s3.IBucket) -> BucketAccess:
    """What the Map needs to read what was planned, and what a function needs that only looks."""
    return BucketAccess(bucket=bucket, objects=f"{RUNS}*", actions=READ, listing="*", reason=_NAMED_BY_RUN)


def writing_runs(bucket: s3.IBucket, *, listing: bool) -> BucketAccess:
    """What the writer of results needs, and, with `listing`, the functions that plan and account.

    https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
    """
    return BucketAccess(
        bucket=bucket,
        objects=f"{RUNS}*",
        actions=READ_AND_WRITE,
        listing="*" if listing else None,
        reason=_NAMED_BY_RUN,
    )

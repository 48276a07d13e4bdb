"""What was in the bucket before the pipeline is sent through it, also when that is interrupted."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn

from embedded_aws import EmbeddedAws, RequestFault
from tests.end_to_end.pipeline.account import Pipeline, deployed, make_pipeline, surroundings
from tests.end_to_end.test_definition_on_embedded_aws import eventually

BUCKET = "archive"
OLD = [f"old/{number:04d}.csv" for number in range(240)]
OTHERS = ["other/1.csv", "older.csv", "old/small.csv", "old/folder/"]
NEW = "old/new.csv"


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Archive")
    bucket = s3.Bucket.from_bucket_name(stack, "Bucket", BUCKET)
    # Tried once in an execution, and the shortest work there is.
    work = sfn.Wait(stack, "Shortly", time=sfn.WaitTime.duration(Duration.seconds(0)))
    make_pipeline(surroundings(stack), "Archive", bucket=bucket, job=work, max_concurrency=50, min_size=2)
    return stack


@pytest.fixture(scope="module")
def archive(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    storage = embedded_aws.client("s3")
    storage.create_bucket(Bucket=BUCKET)

    def put(key: str) -> None:
        body = b"" if key.endswith("/") else b"x" if "small" in key else b"some bytes"
        storage.put_object(Bucket=BUCKET, Key=key, Body=body)

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(put, [*OLD, *OTHERS]))
    # What was there before the buffer is told by the second.
    time.sleep(1)
    with deployed(embedded_aws, make_stack, tmp_path_factory.mktemp("archive")) as account:
        yield account.pipeline("Archive")


def test_what_was_there_before_is_done_once_though_the_backfill_dies_in_the_middle(archive: Pipeline) -> None:
    before = archive.aws.requests()["sqs:SendMessageBatch"]
    # After 210 objects.
    fault = RequestFault.killed(archive.output("Backfill"))
    archive.aws.fail_requests("sqs:SendMessageBatch", fault, share=1 / 21, times=1)
    output = archive.fill(prefix="old/")
    archive.aws.heal_requests()
    assert (output["sent"], output["done"], output["prefix"]) == (len(OLD), True, "old/")
    # What the first call had sent was sent again by the second.
    assert archive.aws.requests()["sqs:SendMessageBatch"] - before == 21 + len(OLD) / 10

    # A new object comes by its own event.
    archive.put(NEW)
    eventually(archive.is_idle, "the end of all work", within=600)
    done = archive.objects_of(archive.executions("SUCCEEDED"))
    assert Counter(one["key"] for one in done) == Counter([*OLD, NEW])
    assert {one["reason"] for one in done if one["key"] != NEW} == {"Backfill"}
    assert [one["reason"] for one in done if one["key"] == NEW] == ["PutObject"]
    assert len(archive.executions()) == len(OLD) + 1
    archive.assert_nothing_is_lost()


def test_a_second_backfill_finds_all_of_it_done(archive: Pipeline) -> None:
    duplicates, executions = archive.metric("Duplicates"), len(archive.executions())
    # New objects are none for it.
    output = archive.fill(prefix="old/", startAfter=OLD[-31])
    assert (output["sent"], output["done"]) == (30, True)
    # What the log tells of the first backfill's duplicates may still come in.
    eventually(lambda: archive.metric("Duplicates") >= duplicates + 30, "the duplicates")
    archive.settle()
    assert len(archive.executions()) == executions

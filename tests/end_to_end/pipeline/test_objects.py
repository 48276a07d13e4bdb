"""Which objects start a job, and what it is told of them."""

import hashlib
from collections.abc import Iterator

import aws_cdk as cdk
import pytest

from embedded_aws import EmbeddedAws
from tests.end_to_end.pipeline.account import Account, Pipeline, deployed, make_pipeline, surroundings


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Objects")
    around = surroundings(stack)
    make_pipeline(around, "Any")
    make_pipeline(around, "Versioned", versioned=True)
    make_pipeline(
        around, "Some", prefixes=["in/"], suffixes=[".csv"], wildcards=["other/*/data"], min_size=3, max_size=10
    )
    return stack


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with deployed(embedded_aws, make_stack, tmp_path_factory.mktemp("objects")) as account:
        yield account


@pytest.fixture(scope="module")
def any_(account: Account) -> Pipeline:
    return account.pipeline("Any")


KEYS = [
    "two words.csv",
    "a+b.csv",
    "100%.csv",
    "#1.csv",
    "a%2Fb.csv",
    "party 🎉.jpg",
    "受信箱/請求書 2026年.pdf",
    "no/../way",
    "twice//in",
    "?a=b&c=d",
    'in/"quoted" <tag> {a}[b] *~`$;:|\\^.csv',
]


def test_a_key_arrives_as_it_is(any_: Pipeline, prefix: str) -> None:
    keys = [prefix + key for key in KEYS]
    keys += [prefix + "x" * (1024 - len(prefix))]
    any_.put_all(keys)
    any_.assert_each_ran_once(keys, prefix)


@pytest.mark.parametrize("key", ["/leading.csv", "//", "../up.csv", "🎉"])
def test_a_key_may_begin_with_anything(any_: Pipeline, key: str) -> None:
    any_.put(key)
    any_.assert_each_ran_once([key], key)


def test_the_job_is_told_all_of_the_object(any_: Pipeline, prefix: str) -> None:
    body = b"some of this and some of that"
    any_.put(f"{prefix}a.csv", body)
    [run] = any_.assert_each_ran_once([f"{prefix}a.csv"], prefix)
    assert (run.bucket, run.size, run.version_id, run.reason) == (any_.bucket, len(body), "", "PutObject")
    assert run.etag == hashlib.md5(body).hexdigest()
    assert int(run.sequencer, 16) > 0


def test_an_empty_object_is_processed_and_a_folder_marker_is_not(any_: Pipeline, prefix: str) -> None:
    ignored = any_.metric("Ignored")
    any_.put(f"{prefix}folder/", b"")
    any_.put(f"{prefix}empty.csv", b"")
    any_.put(f"{prefix}no folder/", b"x")
    any_.assert_each_ran_once([f"{prefix}empty.csv", f"{prefix}no folder/"], prefix)
    assert any_.metric("Ignored") == ignored + 1


def test_an_upload_in_parts_is_one_object(any_: Pipeline, prefix: str) -> None:
    storage, key = any_.aws.client("s3"), f"{prefix}large.bin"
    place = {"Bucket": any_.bucket, "Key": key}
    upload = storage.create_multipart_upload(**place)["UploadId"]
    bodies = {1: b"a" * 5 * 1024**2, 2: b"b" * 1000}
    parts = [
        {
            "PartNumber": number,
            "ETag": storage.upload_part(**place, UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in bodies.items()
    ]
    storage.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})
    [run] = any_.assert_each_ran_once([key], prefix)
    assert (run.size, run.reason) == (5 * 1024**2 + 1000, "CompleteMultipartUpload")


def test_a_copy_is_an_object_of_its_own(any_: Pipeline, prefix: str) -> None:
    any_.put(f"{prefix}a.csv")
    source = {"Bucket": any_.bucket, "Key": f"{prefix}a.csv"}
    any_.aws.client("s3").copy_object(Bucket=any_.bucket, Key=f"{prefix}b.csv", CopySource=source)
    runs = any_.assert_each_ran_once([f"{prefix}a.csv", f"{prefix}b.csv"], prefix)
    assert {run.key: run.reason for run in runs} == {f"{prefix}a.csv": "PutObject", f"{prefix}b.csv": "CopyObject"}


def test_each_version_is_processed_and_told_apart(account: Account, prefix: str) -> None:
    versioned = account.pipeline("Versioned")
    versions = [versioned.put(f"{prefix}a.csv", body) for body in (b"same", b"same", b"other")]
    runs = versioned.assert_each_ran_once([f"{prefix}a.csv"] * 3, prefix)
    assert sorted(run.version_id for run in runs) == sorted(versions)
    assert "" not in versions


def test_the_same_bytes_written_twice_are_two_events(any_: Pipeline, prefix: str) -> None:
    for _ in range(2):
        any_.put(f"{prefix}a.csv")
    any_.assert_each_ran_once([f"{prefix}a.csv"] * 2, prefix)


def test_only_what_is_asked_for_starts_a_job(account: Account) -> None:
    some = account.pipeline("Some")
    for key in ("in/a.txt", "out/a.csv", "other/data", "other/x/data.csv"):
        some.put(key, b"12345")
    for key, size in {"in/small.csv": 2, "in/large.csv": 11, "in/least.csv": 3, "in/most.csv": 10}.items():
        some.put(key, b"x" * size)
    some.put("other/x/data", b"12345")
    some.assert_each_ran_once(["in/least.csv", "in/most.csv", "other/x/data"], "")
    # Only the one that is too small comes so far.
    assert some.metric("Ignored") == 1

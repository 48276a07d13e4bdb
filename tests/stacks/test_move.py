"""The function of the dated folders: whatever happens to it, a file is in one place in the end, and is never lost."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from distributed_map.answers import answers_of
from embedded_aws import EmbeddedAws, RequestFault
from stacks.sample_job import move

PREFIX, FOLDER = "incoming/2026-11-21", "archive/2026/11/21/"
REQUESTS = 4
"""How many it takes to move a file."""

# What a state may hand on: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
LARGEST_ANSWER = 256 * 1024


class KilledError(BaseException):
    """The function's process has ended."""


class Interrupted:
    """A client of S3 to which something happens before or after one of its requests."""

    def __init__(self, storage: Any, happening: Callable[[], None], *, at: int, after: bool = False) -> None:
        self._storage, self._happening, self._at, self._after = storage, happening, at, after
        self.exceptions = storage.exceptions
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        def request(**given: Any) -> Any:
            self.requests += 1
            if self.requests == self._at and not self._after:
                self._happening()
            try:
                return getattr(self._storage, name)(**given)
            finally:
                if self.requests == self._at and self._after:
                    self._happening()

        return request


class Files:
    """A bucket, and the function at work on it."""

    def __init__(self, aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch, *, versioned: bool) -> None:
        self.storage = aws.client("s3")
        self.bucket = f"files-{uuid.uuid4()}"
        self._monkeypatch = monkeypatch
        self.storage.create_bucket(Bucket=self.bucket)
        if versioned:
            self.storage.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})

    def put(self, key: str, content: bytes = b"content", **options: Any) -> None:
        self.storage.put_object(Bucket=self.bucket, Key=key, Body=content, **options)

    def put_in_parts(self, key: str, content: bytes) -> None:
        where = {"Bucket": self.bucket, "Key": key}
        upload = {**where, "UploadId": self.storage.create_multipart_upload(**where)["UploadId"]}
        part = self.storage.upload_part(**upload, PartNumber=1, Body=content)
        parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
        self.storage.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    def contents(self) -> dict[str, bytes]:
        listed = self.storage.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {each["Key"]: self.get(each["Key"])["Body"].read() for each in listed}

    def get(self, key: str) -> Any:
        return self.storage.get_object(Bucket=self.bucket, Key=key)

    def versions(self) -> list[str]:
        """Every version and every delete marker, by key."""
        listed = self.storage.list_object_versions(Bucket=self.bucket)
        found = [("version of", each) for each in listed.get("Versions", [])]
        found += [("marker on", each) for each in listed.get("DeleteMarkers", [])]
        return sorted(f"{what} {each['Key']}" for what, each in found)

    def move(self, *keys: str, storage: Any = None) -> list[dict[str, Any]]:
        """The answers of the function for a batch."""
        sizes = {
            each["Key"]: each["Size"] for each in self.storage.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        }
        run = {"execution": "night", "date": "2026-11-21", "bucket": self.bucket, "prefix": PREFIX, "key": None}
        event = {
            "Items": [{"Key": key, "Size": sizes.get(key, 1)} for key in keys],
            "BatchInput": {"run": run, "constants": {"archive": "archive/"}},
        }
        self._monkeypatch.setattr(move, "s3", lambda: storage or self.storage)
        answer = move.handle(event, None)
        read, _ = answers_of(answer, len(keys))
        assert len(read) == len(keys)
        items: list[dict[str, Any]] = answer["items"]
        return items


@pytest.fixture(params=[False, True], ids=["plain", "versioned"])
def files(embedded_aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Files:
    return Files(embedded_aws, monkeypatch, versioned=request.param)


@pytest.fixture
def versioned(embedded_aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> Files:
    return Files(embedded_aws, monkeypatch, versioned=True)


def test_a_file_comes_into_the_folder_of_its_day_with_all_that_belongs_to_it(files: Files) -> None:
    files.put(f"{PREFIX}_orders.csv", b"a,b", ContentType="text/csv", Metadata={"from": "shop"}, Tagging="kind=orders")
    assert files.move(f"{PREFIX}_orders.csv") == [{}]
    assert files.contents() == {f"{FOLDER}orders.csv": b"a,b"}
    moved = files.get(f"{FOLDER}orders.csv")
    assert (moved["ContentType"], moved["Metadata"], moved["TagCount"]) == ("text/csv", {"from": "shop"}, 1)


@pytest.mark.parametrize(
    "name",
    [
        "\N{GRINNING FACE} Bücher.csv",
        "a+b %2B & c?versionId=1.csv",
        "deep/er/a.csv",
        'it\'s "quoted"',
        "_",
        "x" * 1_004,
    ],
    ids=["emoji", "marks", "folders", "quotes", "underscore", "longest"],
)
def test_a_name_may_be_anything_that_s3_takes(name: str, files: Files) -> None:
    files.put(f"{PREFIX}_{name}")
    assert files.move(f"{PREFIX}_{name}") == [{}]
    assert files.contents() == {FOLDER + name: b"content"}


def test_an_empty_file_is_moved_too_and_told_of(files: Files) -> None:
    files.put(f"{PREFIX}_a.csv", b"")
    assert files.move(f"{PREFIX}_a.csv") == [{"notice": ["a.csv is empty"]}]
    assert files.contents() == {f"{FOLDER}a.csv": b""}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, REQUESTS + 1))
def test_who_dies_at_any_request_has_moved_the_file_once_when_it_is_called_again(
    at: int, after: bool, files: Files
) -> None:
    key, target = f"{PREFIX}_a.csv", f"{FOLDER}a.csv"
    files.put(key)

    def die() -> None:
        raise KilledError

    with pytest.raises(KilledError):
        files.move(key, storage=Interrupted(files.storage, die, at=at, after=after))
    # It is never in neither place.
    assert set(files.contents().values()) == {b"content"}
    assert files.move(key) == [{}]
    assert files.contents() == {target: b"content"}
    assert files.versions().count(f"version of {target}") == 1


def test_so_many_requests_are_all(files: Files) -> None:
    """The control of the test above."""
    files.put(f"{PREFIX}_a.csv")
    storage = Interrupted(files.storage, lambda: None, at=1)
    files.move(f"{PREFIX}_a.csv", storage=storage)
    assert storage.requests == REQUESTS


@pytest.mark.parametrize("other", [b"CONTENT", b"more content", b""], ids=["as long", "longer", "empty"])
def test_another_file_in_its_place_is_not_written_over(other: bytes, files: Files) -> None:
    files.put(f"{PREFIX}_a.csv", b"content")
    files.put(f"{FOLDER}a.csv", other)
    [answer] = files.move(f"{PREFIX}_a.csv")
    assert answer["error"] == "TargetExists"
    assert answer["cause"] == f"{FOLDER} has another file of this name: take one of the two away"
    assert files.contents() == {f"{PREFIX}_a.csv": b"content", f"{FOLDER}a.csv": other}


def test_a_copy_is_known_by_its_content_where_the_original_came_in_parts(files: Files) -> None:
    files.put_in_parts(f"{PREFIX}_a.csv", b"content")
    files.put(f"{FOLDER}a.csv", b"content")
    assert files.move(f"{PREFIX}_a.csv") == [{}]
    assert files.contents() == {f"{FOLDER}a.csv": b"content"}


@pytest.mark.parametrize("key", [f"{PREFIX}.csv", f"{PREFIX}-a.csv", f"{PREFIX}_", f"{PREFIX}1_a.csv", PREFIX])
def test_a_file_with_a_wrong_name_stays_and_it_is_said_what_is_right(key: str, files: Files) -> None:
    files.put(key)
    [answer] = files.move(key)
    assert answer["error"] == "WrongName"
    assert f"{PREFIX}_<name>" in answer["cause"]
    assert files.contents() == {key: b"content"}


def test_a_file_that_is_in_neither_place_is_told_of(files: Files) -> None:
    [answer] = files.move(f"{PREFIX}_a.csv")
    assert answer["error"] == "Gone"


@pytest.mark.parametrize("at", range(3, REQUESTS + 1), ids=["before it is copied", "before it is deleted"])
def test_what_is_written_meanwhile_is_not_lost(at: int, files: Files) -> None:
    key = f"{PREFIX}_a.csv"
    files.put(key, b"old")
    [answer] = files.move(key, storage=Interrupted(files.storage, lambda: files.put(key, b"new"), at=at))
    assert answer["error"] == "PreconditionFailed"
    assert files.contents()[key] == b"new"


def test_who_is_called_twice_at_once_does_it_once(files: Files) -> None:
    key = f"{PREFIX}_a.csv"
    files.put(key)
    twice = Interrupted(
        files.storage, lambda: move.move(files.storage, files.bucket, key, FOLDER, "a.csv"), at=REQUESTS
    )
    assert files.move(key, storage=twice) == [{}]
    assert files.contents() == {f"{FOLDER}a.csv": b"content"}


def test_in_a_bucket_with_versions_a_second_time_adds_nothing(versioned: Files) -> None:
    key = f"{PREFIX}_a.csv"
    versioned.put(key)
    for _ in range(2):
        versioned.move(key)
    assert versioned.versions() == [f"marker on {key}", f"version of {FOLDER}a.csv", f"version of {key}"]


@pytest.fixture
def _healed(embedded_aws: EmbeddedAws) -> Iterator[None]:
    yield
    embedded_aws.heal_requests()


@pytest.mark.usefixtures("_healed")
def test_what_s3_refuses_is_told_in_its_own_words_and_done_the_next_time(
    files: Files, embedded_aws: EmbeddedAws
) -> None:
    files.put(f"{PREFIX}_a.csv")
    embedded_aws.fail_requests("s3:DELETE", RequestFault.error("AccessDenied", "Access Denied", status=403))
    [answer] = files.move(f"{PREFIX}_a.csv")
    assert answer["error"] == "AccessDenied"
    assert answer["cause"].endswith("when calling the DeleteObject operation: Access Denied")
    embedded_aws.heal_requests()
    assert files.move(f"{PREFIX}_a.csv") == [{}]
    assert files.contents() == {f"{FOLDER}a.csv": b"content"}


def test_one_that_fails_keeps_no_other_from_being_moved(files: Files) -> None:
    names = ["_a.csv", "-b.csv", "_c.csv", "_d.csv", "_e.csv"]
    for name in names:
        files.put(PREFIX + name, name.encode())
    files.put(f"{FOLDER}c.csv", b"another")

    def break_off() -> None:
        raise EndpointConnectionError(endpoint_url="https://s3")

    # The first takes four requests, the second none, and the third three: then the fourth begins.
    storage = Interrupted(files.storage, break_off, at=REQUESTS + 2 + 1)
    answers = files.move(*(PREFIX + name for name in names), storage=storage)
    assert [answer.get("error") for answer in answers] == [
        None,
        "WrongName",
        "TargetExists",
        "EndpointConnectionError",
        None,
    ]
    assert {f"{FOLDER}a.csv", f"{FOLDER}e.csv", f"{PREFIX}_d.csv"} <= set(files.contents())


def test_the_answer_for_a_batch_of_the_longest_names_is_no_more_than_a_state_may_hand_on(files: Files) -> None:
    key = f"{PREFIX}_{chr(0x1F600) * 250}"
    files.put(key, b"")
    answers = files.move(*[key] * 50)
    assert [len(answer["notice"]) for answer in answers] == [1] * 50
    assert len(json.dumps({"items": answers})) < LARGEST_ANSWER

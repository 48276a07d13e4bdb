"""What is read from an event, and what an execution gets of it."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.objects import (
    ObjectEvent,
    UnreadableEventError,
    body_of,
    execution_input,
    execution_name,
    is_folder_marker,
    newer,
    padded,
    read,
)
from tests.lambda_src.pipeline.events import ODD_KEYS, object_event

# An event as S3 sends it: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
FROM_S3: dict[str, Any] = {
    "version": "0",
    "id": "2ee9cc15-d022-99ea-1fb8-1b1bac4850f9",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2026-11-22T06:00:00Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:s3:::uploads"],
    "detail": {
        "version": "0",
        "bucket": {"name": "uploads"},
        "object": {
            "key": "in/a+b c.csv",
            "size": 5,
            "etag": "b57f9512698f4b09e608f4f2a65852e5",
            "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            "sequencer": "00617F08299329D189",
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
        "reason": "PutObject",
    },
}

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=1024)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
EVENTS = st.builds(
    ObjectEvent,
    bucket=TEXTS,
    key=KEYS,
    version_id=st.just("") | TEXTS,
    size=st.integers(0, 2**46),
    etag=TEXTS,
    sequencer=st.just("") | TEXTS,
    time=TEXTS,
    reason=TEXTS,
)


def without(*path: str) -> str:
    event = json.loads(json.dumps(FROM_S3))
    place = event
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return json.dumps(event)


def with_object(**values: object) -> str:
    event = json.loads(json.dumps(FROM_S3))
    event["detail"]["object"].update(values)
    return json.dumps(event)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_an_event_of_s3_is_read() -> None:
    assert read(json.dumps(FROM_S3)) == ObjectEvent(
        bucket="uploads",
        key="in/a+b c.csv",
        version_id="IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
        size=5,
        etag="b57f9512698f4b09e608f4f2a65852e5",
        sequencer="00617F08299329D189",
        time="2026-11-22T06:00:00Z",
        reason="PutObject",
    )


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (("detail", "object", "version-id"), "version_id"),
        (("detail", "object", "sequencer"), "sequencer"),
        (("detail", "reason"), "reason"),
        (("time",), "time"),
    ],
)
def test_what_an_event_may_lack_is_empty(path: tuple[str, ...], field: str) -> None:
    assert getattr(read(without(*path)), field) == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "the message must be JSON: Expecting value"),
        ("in/report.csv", "the message must be JSON: Expecting value"),
        ("[]", "the message must be an event of EventBridge, got []"),
        ('"text"', 'the message must be an event of EventBridge, got "text"'),
        ('{"Event": "s3:TestEvent"}', 'detail-type must be "Object Created", got nothing'),
        ('{"detail-type": "Object Deleted"}', 'detail-type must be "Object Created", got "Object Deleted"'),
        ('{"detail-type": ["Object Created"]}', 'detail-type must be "Object Created", got ["Object Created"]'),
        (without("detail"), "detail must be an object, got nothing"),
        (without("detail", "bucket"), "detail.bucket must be an object, got nothing"),
        (without("detail", "bucket", "name"), "detail.bucket.name must be text, got nothing"),
        (without("detail", "object"), "detail.object must be an object, got nothing"),
        (without("detail", "object", "key"), "detail.object.key must be text, got nothing"),
        (without("detail", "object", "size"), "detail.object.size must be a whole number of bytes, got nothing"),
        (without("detail", "object", "etag"), "detail.object.etag must be text, got nothing"),
        (with_object(key=""), 'detail.object.key must be text, got ""'),
        (with_object(key=7), "detail.object.key must be text, got 7"),
        (with_object(key="\ud800"), r'detail.object.key must be text in Unicode, got "\ud800"'),
        (with_object(size="5"), 'detail.object.size must be a whole number of bytes, got "5"'),
        (with_object(size=5.5), "detail.object.size must be a whole number of bytes, got 5.5"),
        (with_object(size=True), "detail.object.size must be a whole number of bytes, got true"),
        (with_object(size=-1), "detail.object.size must be a whole number of bytes, got -1"),
        (with_object(sequencer=7), "detail.object.sequencer must be text, got 7"),
        (with_object(**{"version-id": {}}), "detail.object.version-id must be text, got {}"),
    ],
)
def test_what_is_no_event_is_refused_with_what_is_wrong(body: str, message: str) -> None:
    with pytest.raises(UnreadableEventError, match=f"^{re.escape(message)}"):
        read(body)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_odd_key_arrives_as_it_is(key: str) -> None:
    assert read(with_object(key=key)).key == key
    assert execution_input(read(with_object(key=key)))["object"]["key"] == key


@given(EVENTS)
def test_what_is_sent_is_read_again(event: ObjectEvent) -> None:
    body = body_of(event)

    assert read(body) == event
    # Of characters beyond these SQS refuses some: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    assert re.fullmatch("[\x20-\x7e]+", body)


# --- what an execution gets -------------------------------------------------------------------------------------------


def test_an_execution_gets_every_field_whatever_s3_gave() -> None:
    event = object_event(version_id="", sequencer="", time="", reason="")

    assert execution_input(event) == {
        "object": {
            "bucket": "uploads",
            "key": "in/report.csv",
            "versionId": "",
            "size": 12,
            "etag": "d41d8cd98f00b204e9800998ecf8427e",
            "sequencer": "",
            "time": "",
            "reason": "",
        }
    }


def is_legal(name: str) -> bool:
    """https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html"""
    return re.fullmatch("[0-9A-Za-z_-]{1,80}", name) is not None


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_odd_key_has_a_legal_name(key: str) -> None:
    assert is_legal(execution_name(object_event(key=key)))


@given(EVENTS)
def test_every_event_has_a_legal_name(event: ObjectEvent) -> None:
    assert is_legal(execution_name(event))


@given(EVENTS)
def test_an_event_that_is_delivered_twice_has_the_same_name(event: ObjectEvent) -> None:
    assert execution_name(read(body_of(event))) == execution_name(event)


def identity(event: ObjectEvent) -> tuple[str, ...]:
    return event.bucket, event.key, event.version_id or event.etag, event.sequencer


@given(EVENTS, EVENTS)
def test_events_of_different_objects_have_different_names(one: ObjectEvent, other: ObjectEvent) -> None:
    assert (execution_name(one) == execution_name(other)) is (identity(one) == identity(other))


@pytest.mark.parametrize(
    "changes",
    [
        {"bucket": "upload"},
        {"key": "in/report.csv "},
        {"key": "in/Report.csv"},
        {"key": "/in/report.csv"},
        {"bucket": "uploads/in", "key": "report.csv"},
        {"version_id": "another"},
        {"etag": "another"},
        {"sequencer": "0055AED6DCD90281E6"},
        {"sequencer": ""},
    ],
)
def test_what_tells_two_events_apart_changes_the_name(changes: dict[str, str]) -> None:
    assert execution_name(object_event(**changes)) != execution_name(object_event())


@pytest.mark.parametrize("changes", [{"time": "later"}, {"reason": "CopyObject"}, {"size": 13}])
def test_what_only_describes_an_event_does_not_change_the_name(changes: dict[str, Any]) -> None:
    assert execution_name(object_event(**changes)) == execution_name(object_event())


def test_names_are_the_same_in_every_release() -> None:
    """Otherwise the first redelivery after a deployment would start a second time."""
    assert execution_name(object_event()) == "report-csv-929be606443de4749495d2f80b6e907c4f798be3"


@pytest.mark.parametrize(
    ("key", "slug"),
    [
        ("in/report.csv", "report-csv"),
        ("in/two  words.csv", "two-words-csv"),
        ("in/snake_case-1.CSV", "snake_case-1-CSV"),
        ("in/folder/", "folder"),
        ("受信箱/請求書 2026年.pdf", "2026-pdf"),
        ("請求書", "object"),
        ("..", "object"),
        ("/", "object"),
        ("in/" + "a" * 40, "a" * 39),
        ("in/" + "a" * 38 + ".csv", "a" * 38),
    ],
)
def test_a_name_begins_with_the_last_part_of_the_key(key: str, slug: str) -> None:
    assert execution_name(object_event(key=key))[:-41] == slug


@pytest.mark.parametrize(
    ("key", "size", "expected"),
    [("in/", 0, True), ("in/", 5, False), ("in/empty", 0, False), ("/", 0, True), ("in/a/", 0, True)],
)
def test_a_folder_marker_ends_with_a_slash_and_is_empty(key: str, size: int, expected: bool) -> None:
    assert is_folder_marker(object_event(key=key, size=size)) is expected


# --- sequencers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "later"),
    [
        ("0055AED6DCD90281E5", "0055AED6DCD90281E6"),
        ("0055AED6DCD90281E5", "0055AED6DCD90281E501"),
        ("0055AED6DCD902", "0055AED6DCD90281E5"),
        ("0055AED6DCD90281E5", "0055AED6DCD903"),
        ("0055aed6dcd90281e5", "0055AED6DCD90281E6"),
        ("09", "0A"),
        ("", "1"),
    ],
)
def test_the_later_event_is_newer_whatever_the_lengths(older: str, later: str) -> None:
    assert newer(later, older)
    assert not newer(older, later)


@pytest.mark.parametrize(("one", "other"), [("A1", "A1"), ("A1", "A100"), ("a1", "A1"), ("", "0")])
def test_the_same_sequencer_is_not_newer(one: str, other: str) -> None:
    assert not newer(one, other)
    assert not newer(other, one)


HEX = st.text("0123456789ABCDEF", max_size=32)


@given(HEX, HEX)
def test_sequencers_compare_as_fractions_do(one: str, other: str) -> None:
    assert newer(one, other) is (int(one.ljust(32, "0"), 16) > int(other.ljust(32, "0"), 16))
    assert len(padded(one)) == len(padded(other))

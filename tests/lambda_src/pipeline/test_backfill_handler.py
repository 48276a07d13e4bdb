"""The backfill: what was there before the pipeline is sent once, whatever stops it on the way."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from pipeline import backfill
from pipeline.backfill import BATCH, InvalidRequestError, NotSentError
from pipeline.objects import ObjectEvent, body_of, execution_name, read
from pipeline.patience import MARGIN, TimeIsOverError
from tests.lambda_src.pipeline.events import BUCKET, ODD_KEYS, Time

BUFFER = "https://sqs.eu-central-1.amazonaws.com/111122223333/buffer"
MADE_AT = datetime(2026, 11, 22, 6, tzinfo=UTC)
EARLIER = MADE_AT - timedelta(days=1)
ETAG = "d41d8cd98f00b204e9800998ecf8427e"
ANY_OBJECT = '{"prefixes": [], "suffixes": [], "wildcards": [], "minSize": null, "maxSize": null}'

VARIABLES = {
    "BUCKET": BUCKET,
    "BUFFER_URL": BUFFER,
    "FILTERS": ANY_OBJECT,
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    yield
    backfill.s3.cache_clear()
    backfill.sqs.cache_clear()


@pytest.fixture
def time_left(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch, seconds=60)


@pytest.fixture
def bucket(environment: None) -> Iterator[Stubber]:
    with Stubber(backfill.s3()) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def buffer(environment: None) -> Iterator[Stubber]:
    with Stubber(backfill.sqs()) as stub:
        yield stub
        stub.assert_no_pending_responses()


def found(key: str, *, size: int = 12, written: datetime = EARLIER) -> dict[str, Any]:
    return {"Key": key, "Size": size, "ETag": f'"{ETAG}"', "LastModified": written, "StorageClass": "STANDARD"}


def expect_page(
    stub: Stubber, *objects: Mapping[str, Any], more: bool = False, prefix: str = "", after: str = ""
) -> None:
    asked = {"Bucket": BUCKET, "Prefix": prefix, **({"StartAfter": after} if after else {})}
    page: dict[str, Any] = {"IsTruncated": more, "KeyCount": len(objects)}
    if objects:
        page["Contents"] = list(objects)
    stub.add_response("list_objects_v2", page, asked)


def message(key: str, size: int = 12, written: str = "2026-11-21T06:00:00Z") -> str:
    event = ObjectEvent(
        bucket=BUCKET, key=key, version_id="", size=size, etag=ETAG, sequencer="", time=written, reason="Backfill"
    )
    return body_of(event)


def expect_batch(stub: Stubber, *keys: str, first: int = 0, refused: Sequence[int] = (), fault: bool = False) -> None:
    """Messages of a batch; `refused` are the ids that SQS does not accept."""
    ids = [str(first + place) for place in range(len(keys))]
    entries = [{"Id": id_, "MessageBody": message(key)} for id_, key in zip(ids, keys, strict=True)]
    failed = [{"Id": str(each), "SenderFault": fault, "Code": "Busy", "Message": "because"} for each in refused]
    accepted = [{"Id": id_, "MessageId": "m", "MD5OfMessageBody": "x"} for id_ in ids if id_ not in map(str, refused)]
    stub.add_response(
        "send_message_batch", {"Successful": accepted, "Failed": failed}, {"QueueUrl": BUFFER, "Entries": entries}
    )


def expect_made_at(stub: Stubber) -> None:
    stub.add_response(
        "get_queue_attributes",
        {"Attributes": {"CreatedTimestamp": str(int(MADE_AT.timestamp()))}},
        {"QueueUrl": BUFFER, "AttributeNames": ["CreatedTimestamp"]},
    )


def handle(time_left: Time, **event: Any) -> dict[str, Any]:
    return backfill.handle({"before": "2026-11-22T06:00:00Z", **event}, time_left)


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_what_was_there_before_the_buffer_is_sent(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    expect_made_at(buffer)
    late = [found("b", written=MADE_AT), found("c", written=MADE_AT + timedelta(seconds=1))]
    expect_page(bucket, found("a", written=MADE_AT - timedelta(seconds=1)), *late)
    entries = [{"Id": "0", "MessageBody": message("a", written="2026-11-22T05:59:59Z")}]
    buffer.add_response(
        "send_message_batch", {"Successful": [], "Failed": []}, {"QueueUrl": BUFFER, "Entries": entries}
    )

    answer = backfill.handle({}, time_left)

    expected = {"prefix": "", "before": "2026-11-22T06:00:00Z", "startAfter": "c", "sent": 1, "done": True}
    assert answer == expected


@pytest.mark.parametrize("before", ["2026-11-22T07:00:00+02:00", "2026-11-22T05:00:00", "2026-11-22T05:00:00Z"])
def test_another_time_may_be_given(before: str, time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    five = datetime(2026, 11, 22, 5, tzinfo=UTC)
    expect_page(bucket, found("a", written=five))

    assert handle(time_left, before=before)["before"] == "2026-11-22T05:00:00Z"


def test_pages_are_listed_one_after_the_other(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    expect_page(bucket, found("in/a"), found("in/b"), more=True, prefix="in/", after="in/")
    expect_batch(buffer, "in/a", "in/b")
    expect_page(bucket, found("in/c"), prefix="in/", after="in/b")
    expect_batch(buffer, "in/c")

    answer = handle(time_left, prefix="in/", startAfter="in/", sent=7)

    expected = {"prefix": "in/", "before": "2026-11-22T06:00:00Z", "startAfter": "in/c", "sent": 10, "done": True}
    assert answer == expected


def test_an_empty_bucket_is_done_at_once(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    expect_page(bucket)

    assert handle(time_left)["done"] is True


def test_ten_are_sent_at_once(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    keys = [f"{number:02}" for number in range(25)]
    expect_page(bucket, *map(found, keys))
    expect_batch(buffer, *keys[:10])
    expect_batch(buffer, *keys[10:20])
    expect_batch(buffer, *keys[20:])

    assert handle(time_left)["sent"] == 25


def test_what_the_rule_does_not_take_is_not_sent(
    time_left: Time, bucket: Stubber, buffer: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    filters = '{"prefixes": ["in/"], "suffixes": [".csv", "/"], "wildcards": [], "minSize": null, "maxSize": 20}'
    monkeypatch.setenv("FILTERS", filters)
    objects = [found("in/"), found("in/a/", size=0), found("in/a.csv"), found("in/b.csv", size=21), found("out/c.csv")]
    expect_page(bucket, *objects)
    expect_batch(buffer, "in/a.csv")

    assert handle(time_left) == {
        "prefix": "",
        "before": "2026-11-22T06:00:00Z",
        "startAfter": "out/c.csv",
        "sent": 1,
        "done": True,
    }


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_odd_key_is_sent_as_it_is(key: str, time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    expect_page(bucket, found(key))
    expect_batch(buffer, key)

    assert handle(time_left)["startAfter"] == key
    assert read(message(key)).key == key


def test_the_same_object_has_the_same_name_in_every_backfill() -> None:
    assert execution_name(read(message("a"))) == execution_name(read(message("a", written="later")))


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_what_sqs_does_not_accept_is_sent_again(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    expect_page(bucket, *map(found, "abcd"))
    expect_batch(buffer, *"abcd", refused=[1, 2])
    expect_batch(buffer, "b", "c", first=1, refused=[2])
    expect_batch(buffer, "c", first=2)

    assert handle(time_left)["sent"] == 4

    assert time_left.slept == [0.1, 0.2]


def test_busy_services_are_outlived(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    bucket.add_client_error("list_objects_v2", "SlowDown", http_status_code=503)
    expect_page(bucket, found("a"))
    buffer.add_client_error("send_message_batch", "ThrottlingException")
    expect_batch(buffer, "a")

    assert handle(time_left)["done"] is True


def test_a_message_that_sqs_never_takes_is_an_error(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    expect_page(bucket, found("a"))
    expect_batch(buffer, "a", refused=[0], fault=True)

    with pytest.raises(NotSentError, match="SQS refuses a message: Busy: because"):
        handle(time_left)


def test_what_aws_refuses_is_raised(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    bucket.add_client_error("list_objects_v2", "AccessDenied", http_status_code=403)

    with pytest.raises(ClientError, match="AccessDenied"):
        handle(time_left)


def test_when_the_time_is_over_it_says_where_to_go_on(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    keys = [f"{number:02}" for number in range(20)]
    expect_page(bucket, *map(found, keys))
    expect_batch(buffer, *keys[:10])
    buffer.client.meta.events.register("provide-client-params.sqs.SendMessageBatch", lambda **_: time_left.spend(60))

    answer = handle(time_left)

    assert (answer["startAfter"], answer["sent"], answer["done"]) == ("09", 10, False)


def test_of_a_batch_that_is_half_accepted_it_goes_on_from_the_first_gap(
    time_left: Time, bucket: Stubber, buffer: Stubber
) -> None:
    expect_page(bucket, *map(found, "abcd"))
    expect_batch(buffer, *"abcd", refused=[2])
    buffer.client.meta.events.register("provide-client-params.sqs.SendMessageBatch", lambda **_: time_left.spend(60))

    answer = handle(time_left)

    assert (answer["startAfter"], answer["sent"], answer["done"]) == ("b", 2, False)


def test_a_call_that_gets_nowhere_is_an_error(time_left: Time, bucket: Stubber, buffer: Stubber) -> None:
    """Its caller would call it with the same event for ever."""
    time_left.left = MARGIN + 0.2
    for _ in range(2):
        bucket.add_client_error("list_objects_v2", "SlowDown", http_status_code=503)

    with pytest.raises(TimeIsOverError, match="SlowDown"):
        handle(time_left, startAfter="a")


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (None, "the event must be an object, got null"),
        ({"prefx": "in/"}, 'the event may have prefix, before, startAfter, sent, done, got ["prefx"]'),
        ({"prefix": None}, "prefix must be text, got null"),
        ({"startAfter": 7}, "startAfter must be text, got 7"),
        ({"sent": -1}, "sent must be a whole number of at least 0, got -1"),
        ({"sent": "1"}, 'sent must be a whole number of at least 0, got "1"'),
        ({"before": "yesterday"}, 'before must be a time in ISO 8601, got "yesterday"'),
        ({"before": None}, "before must be a time in ISO 8601, got null"),
    ],
)
def test_an_event_that_makes_no_sense_is_an_error(event: object, message: str, time_left: Time) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        backfill.handle(event, time_left)

    assert str(raised.value) == message


# --- any bucket, stopped anywhere -------------------------------------------------------------------------------------


@dataclass
class World:
    """A bucket and a queue. A request takes a second; the queue accepts what it likes."""

    objects: list[dict[str, Any]]
    chance: Random
    left: float = 0
    accepted: list[str] = field(default_factory=list)

    PAGE = 7

    def list_objects_v2(self, *, Bucket: str, Prefix: str, StartAfter: str = "") -> dict[str, Any]:
        assert Bucket == BUCKET
        self.left -= 1
        listed = [each for each in self.objects if each["Key"].startswith(Prefix) and each["Key"] > StartAfter]
        return {"Contents": listed[: self.PAGE], "IsTruncated": len(listed) > self.PAGE}

    def send_message_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        assert QueueUrl == BUFFER
        assert 0 < len(Entries) <= 10
        self.left -= 1
        if self.chance.random() < 0.1:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "SendMessageBatch")
        refused = [each for each in Entries if self.chance.random() < 0.2]
        self.accepted += [read(each["MessageBody"]).key for each in Entries if each not in refused]
        return {"Failed": [{"Id": each["Id"], "SenderFault": False, "Code": "Busy"} for each in refused]}

    def get_remaining_time_in_millis(self) -> int:
        return round(self.left * 1000)

    def sleep(self, seconds: float) -> None:
        self.left -= seconds


@given(
    keys=st.lists(st.text("abc/", min_size=1, max_size=5), unique=True, max_size=45),
    prefix=st.sampled_from(("", "a", "b/")),
    seed=st.integers(0, 2**16),
)
def test_wherever_it_stops_nothing_is_lost_and_nothing_before_that_is_sent_again(
    keys: list[str], prefix: str, seed: int
) -> None:
    chance = Random(seed)
    objects = [
        found(key, size=chance.choice((0, 12)), written=chance.choice((EARLIER, MADE_AT))) for key in sorted(keys)
    ]
    wanted = [
        each["Key"]
        for each in objects
        if each["Key"].startswith(prefix)
        and each["LastModified"] < MADE_AT
        and not (each["Key"].endswith("/") and each["Size"] == 0)
    ]
    world = World(objects, chance)
    event: dict[str, Any] = {"prefix": prefix, "before": "2026-11-22T06:00:00Z"}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backfill, "s3", lambda: world)
        patched.setattr(backfill, "sqs", lambda: world)
        patched.setattr("time.sleep", world.sleep)
        patched.setattr(random, "uniform", lambda _least, most: most)
        while not event.get("done"):
            world.left, before = MARGIN + chance.uniform(0.5, 6), len(world.accepted)
            started_after = event.get("startAfter", "")
            try:
                event = backfill.handle(event, world)
            except TimeIsOverError:
                stopped_after = started_after
            else:
                stopped_after = event["startAfter"]
            sent_now = world.accepted[before:]

            assert len(set(sent_now)) == len(sent_now)
            assert all(key > started_after for key in sent_now)
            # Only of the last batch may some come again: those behind its first gap.
            assert len([key for key in sent_now if key > stopped_after]) < BATCH
            assert {key for key in wanted if key <= stopped_after} <= set(world.accepted)
            assert event.get("sent", 0) == len([key for key in wanted if key <= stopped_after])

    assert set(world.accepted) == set(wanted)

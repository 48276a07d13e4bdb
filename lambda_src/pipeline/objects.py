"""What happened to an object, as EventBridge tells it and as an execution gets it. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NoReturn

LONGEST_SLUG = 39
LONGEST_SEQUENCER = 64
"""Hexadecimal digits; S3 sends 16 to 18."""


class UnreadableEventError(ValueError):
    """The message does not tell of a new object."""


@dataclass(frozen=True, kw_only=True)
class ObjectEvent:
    """An object was written.

    Args:
        bucket: The bucket's name.
        key: The object's key as it is, not URL-encoded.
        version_id: Empty where the bucket keeps no versions.
        size: Bytes.
        etag: Without quotes.
        sequencer: Orders what happens to one key, see `newer`. Empty for objects that were found by listing.
        time: When it happened, in ISO 8601.
        reason: The request that wrote it, such as `PutObject`.
    """

    bucket: str
    key: str
    version_id: str
    size: int
    etag: str
    sequencer: str
    time: str
    reason: str


def read(body: str) -> ObjectEvent:
    """Reads the body of a message, which is an event of EventBridge.

    Raises:
        UnreadableEventError: it is no such event, or tells too little. Says what is missing.
    """
    try:
        event = json.loads(body)
    except ValueError as problem:
        raise UnreadableEventError(f"the message must be JSON: {problem}") from problem
    if not isinstance(event, dict):
        _refuse("the message must be an event of EventBridge", event)
    if event.get("detail-type") != "Object Created":
        _refuse('detail-type must be "Object Created"', event.get("detail-type"))
    detail = _object(event, "detail")
    bucket = _object(detail, "bucket", "detail.")
    found = _object(detail, "object", "detail.")
    size = found.get("size")
    if type(size) is not int or size < 0:
        _refuse("detail.object.size must be a whole number of bytes", size)
    return ObjectEvent(
        bucket=_text(bucket, "name", "detail.bucket."),
        key=_text(found, "key", "detail.object."),
        version_id=_text(found, "version-id", "detail.object.", may_be_missing=True),
        size=size,
        etag=_text(found, "etag", "detail.object."),
        sequencer=_text(found, "sequencer", "detail.object.", may_be_missing=True),
        time=_text(event, "time", may_be_missing=True),
        reason=_text(detail, "reason", "detail.", may_be_missing=True),
    )


def body_of(event: ObjectEvent) -> str:
    """The event as a message that `read` understands. ASCII, so that SQS takes every key."""
    version = {"version-id": event.version_id} if event.version_id else {}
    return json.dumps(
        {
            "version": "0",
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": event.time,
            "detail": {
                "version": "0",
                "bucket": {"name": event.bucket},
                "object": {
                    "key": event.key,
                    "size": event.size,
                    "etag": event.etag,
                    **version,
                    "sequencer": event.sequencer,
                },
                "reason": event.reason,
            },
        }
    )


def execution_input(event: ObjectEvent) -> dict[str, Any]:
    """What an execution gets. Every field is always there: JSONPath fails on what is missing."""
    return {
        "object": {
            "bucket": event.bucket,
            "key": event.key,
            "versionId": event.version_id,
            "size": event.size,
            "etag": event.etag,
            "sequencer": event.sequencer,
            "time": event.time,
            "reason": event.reason,
        }
    }


def execution_name(event: ObjectEvent) -> str:
    """The same for the same event however often it is delivered, another for every other; at most 80 characters.

    Begins with the last part of the key, for people. Only letters, digits, `-` and `_`, so that CloudWatch can log
    it: https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
    """
    last_part = event.key.rstrip("/").rpartition("/")[2]
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", last_part).strip("-")[:LONGEST_SLUG].rstrip("-")
    identity = [event.bucket, event.key, event.version_id or event.etag, event.sequencer]
    digest = sha256(json.dumps(identity, separators=(",", ":")).encode()).hexdigest()
    return f"{slug or 'object'}-{digest[:40]}"


def is_folder_marker(event: ObjectEvent) -> bool:
    """Whether it is the empty object that the S3 console makes as a folder."""
    return event.key.endswith("/") and event.size == 0


def newer(a: str, b: str) -> bool:
    """Whether the sequencer `a` is of a later event than `b`. Both have to be of the same key."""
    return padded(a) > padded(b)


def padded(sequencer: str) -> str:
    """A sequencer that compares as text: the shorter one is padded with zeros on the right.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    return sequencer.upper().ljust(LONGEST_SEQUENCER, "0")


# --- reading --------------------------------------------------------------------------------------------------------


def _object(values: Mapping[str, Any], name: str, place: str = "") -> Mapping[str, Any]:
    value = values.get(name)
    if not isinstance(value, dict):
        _refuse(f"{place}{name} must be an object", value)
    return value


def _text(values: Mapping[str, Any], name: str, place: str = "", *, may_be_missing: bool = False) -> str:
    value = values.get(name)
    if may_be_missing and (value is None or value == ""):
        return ""
    if not isinstance(value, str) or not value:
        _refuse(f"{place}{name} must be text", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair: no key of S3, and no service would take it.
        _refuse(f"{place}{name} must be text in Unicode", value)
    return value


def _refuse(rule: str, value: object) -> NoReturn:
    got = "nothing" if value is None else json.dumps(value)[:200]
    raise UnreadableEventError(f"{rule}, got {got}")

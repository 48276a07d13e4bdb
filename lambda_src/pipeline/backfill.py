"""Sends the objects that were there before the pipeline through it, as if they were written now."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, NoReturn

import boto3

from pipeline.filters import matches
from pipeline.objects import ObjectEvent, body_of, is_folder_marker
from pipeline.patience import ONE_REQUEST, Patience, TimeIsOverError

BATCH = 10
"""Messages in one request, the most that SQS takes."""

FIELDS = ("prefix", "before", "startAfter", "sent", "done")


class InvalidRequestError(ValueError):
    """The event is not one that this function understands."""


class NotSentError(Exception):
    """SQS will never take the message."""


@cache
def s3() -> Any:
    return boto3.client("s3", config=ONE_REQUEST)


@cache
def sqs() -> Any:
    return boto3.client("sqs", config=ONE_REQUEST)


def handle(event: object, context: Any) -> dict[str, Any]:
    """Sends as many objects as the function has time for, and answers with the event that goes on from there.

    Whoever is called again with the answer, until `done` is true, sends every object once. The same event twice sends
    the same messages twice: the starter gives them the same names, so nothing is started twice.

    The event, each field with its default:
        prefix: Which keys, `""`.
        before: ISO 8601; objects written before this, when the buffer was made.
        startAfter: Keys behind this one in the order of S3, `""`.
        sent: How many objects were sent so far, 0.

    Environment: `BUCKET`; `BUFFER_URL`; `FILTERS`, see `filters.matches`, in JSON.

    Raises:
        InvalidRequestError: the event makes no sense.
        TimeIsOverError: not one object was dealt with before the time was over.
    """
    request = event if isinstance(event, dict) else _refuse("the event must be an object", event)
    if unknown := sorted(set(request) - set(FIELDS)):
        _refuse(f"the event may have {', '.join(FIELDS)}", unknown)
    sent = request.get("sent", 0)
    if type(sent) is not int or sent < 0:
        _refuse("sent must be a whole number of at least 0", sent)
    prefix, start_after = _text(request, "prefix"), _text(request, "startAfter")
    buffer = os.environ["BUFFER_URL"]
    patience = Patience.of(context)
    before = _time(request["before"]) if "before" in request else _made_at(buffer, patience)
    backfill = Backfill(
        bucket=os.environ["BUCKET"],
        prefix=prefix,
        before=before,
        filters=json.loads(os.environ["FILTERS"]),
        buffer=buffer,
        patience=patience,
        position=start_after,
        sent=sent,
    )
    done = backfill.run()
    return {
        "prefix": prefix,
        "before": _iso(before),
        "startAfter": backfill.position,
        "sent": backfill.sent,
        "done": done,
    }


@dataclass(kw_only=True)
class Backfill:
    """Lists a bucket and sends what the pipeline takes.

    Args:
        position: All keys up to this one are dealt with: sent, or none to send.
        sent: How many of them were sent.
    """

    bucket: str
    prefix: str
    before: datetime
    filters: Mapping[str, Any]
    buffer: str
    patience: Patience
    position: str
    sent: int

    def run(self) -> bool:
        """Whether everything was sent. If not, the time was over."""
        begun_at = self.position
        try:
            while not self._send_page():
                pass
        except TimeIsOverError:
            # To go on from the same place would be to go on for ever.
            if self.position == begun_at:
                raise
            return False
        return True

    def _send_page(self) -> bool:
        """Whether it was the last page."""
        start = {"StartAfter": self.position} if self.position else {}
        page = self.patience.ask(lambda: s3().list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, **start))
        found = page.get("Contents", [])
        events = [self._event(each) for each in found if each["LastModified"] < self.before]
        wanted = [each for each in events if matches(self.filters, each.key, each.size) and not is_folder_marker(each)]
        for first in range(0, len(wanted), BATCH):
            self._send(wanted[first : first + BATCH])
        if found:
            self.position = found[-1]["Key"]
        return not page["IsTruncated"]

    def _send(self, events: Sequence[ObjectEvent]) -> None:
        """Sends a batch, and again what was not accepted of it. Moves on with all that is accepted without a gap."""
        sent_before, missing, attempt = self.sent, list(range(len(events))), 0
        while missing:
            entries = [{"Id": str(number), "MessageBody": body_of(events[number])} for number in missing]
            failed = self._send_entries(entries)
            missing = [number for number in missing if str(number) in failed]
            accepted = missing[0] if missing else len(events)
            if accepted:
                self.position, self.sent = events[accepted - 1].key, sent_before + accepted
            if missing:
                self.patience.pause(attempt)
                attempt += 1

    def _send_entries(self, entries: Sequence[Mapping[str, str]]) -> set[str]:
        """The ids of those that were not accepted."""
        reply = self.patience.ask(lambda: sqs().send_message_batch(QueueUrl=self.buffer, Entries=entries))
        failed = reply.get("Failed", [])
        for each in failed:
            if each["SenderFault"]:
                raise NotSentError(f"SQS refuses a message: {each['Code']}: {each.get('Message', '')}")
        return {each["Id"] for each in failed}

    def _event(self, found: Mapping[str, Any]) -> ObjectEvent:
        return ObjectEvent(
            bucket=self.bucket,
            key=found["Key"],
            version_id="",
            size=found["Size"],
            etag=found["ETag"].strip('"'),
            sequencer="",
            time=_iso(found["LastModified"]),
            reason="Backfill",
        )


# --- the event ------------------------------------------------------------------------------------------------------


def _made_at(buffer: str, patience: Patience) -> datetime:
    reply = patience.ask(lambda: sqs().get_queue_attributes(QueueUrl=buffer, AttributeNames=["CreatedTimestamp"]))
    return datetime.fromtimestamp(int(reply["Attributes"]["CreatedTimestamp"]), UTC)


def _text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name, "")
    return value if isinstance(value, str) else _refuse(f"{name} must be text", value)


def _time(value: object) -> datetime:
    """Without an offset it is UTC."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        _refuse("before must be a time in ISO 8601", value)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _refuse(rule: str, value: object) -> NoReturn:
    raise InvalidRequestError(f"{rule}, got {json.dumps(value, default=str)[:500]}")

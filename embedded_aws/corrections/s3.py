"""Amazon S3: what its events say."""

import contextvars
import json
from typing import Any

from ministack.services import eventbridge, s3

from embedded_aws.corrections.registry import AnyFunction, correction

_version: contextvars.ContextVar[str | None] = contextvars.ContextVar("version", default=None)


@correction(
    s3,
    "_fire_s3_event",
    "(bucket_name, key, event_name, size, etag, deletion_type, restore_event_data, version_id, sequencer, "
    "object_extra, record_extra)",
)
def an_event_keeps_the_version_of_its_object(stock: AnyFunction, *arguments: Any, **options: Any) -> None:
    """Stock: only notifications that go straight to a queue, a topic or a function are told the version.

    AWS: EventBridge is told too. See `events_of_objects_are_as_documented`.
    Document: Amazon S3 User Guide, "EventBridge event message structure".
    """
    token = _version.set(options.get("version_id"))
    try:
        stock(*arguments, **options)
    finally:
        _version.reset(token)


@correction(eventbridge, "_dispatch_event", "(event, view)")
def events_of_objects_are_as_documented(stock: AnyFunction, event: dict[str, Any], view: Any = None) -> None:
    """Stock: no `version-id`, and a time with milliseconds.

    AWS: `version-id` where the bucket keeps versions, and the time in whole seconds.
    Document: Amazon S3 User Guide, "EventBridge event message structure".
    """
    if event.get("Source") == "aws.s3" and view is None:
        event = {**event, "Time": event["Time"].partition(".")[0].rstrip("Z") + "Z"}
        if version := _version.get():
            detail = json.loads(event["Detail"])
            detail["object"]["version-id"] = version
            event["Detail"] = json.dumps(detail)
    stock(event, view)

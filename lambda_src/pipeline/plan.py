"""What is to be done with a message. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.objects import ObjectEvent, UnreadableEventError, is_folder_marker, read


@dataclass(frozen=True)
class Start:
    """An execution is started for the object."""

    event: ObjectEvent


@dataclass(frozen=True)
class Ignore:
    """The object is none to process."""

    event: ObjectEvent
    why: str


@dataclass(frozen=True)
class Reject:
    """The message goes to the dead-letter queue: to receive it again would change nothing."""

    why: str


def plan(body: str, *, bucket: str, ignored_prefixes: Sequence[str], min_size: int = 0) -> Start | Ignore | Reject:
    """Decides by what the message says. Raises nothing, whatever it is.

    Args:
        body: The message.
        bucket: The only bucket whose objects are processed.
        ignored_prefixes: Objects whose keys begin with one of these are never processed.
        min_size: Objects of fewer bytes are never processed.
    """
    try:
        event = read(body)
    except UnreadableEventError as problem:
        return Reject(str(problem))
    except Exception as problem:
        # For one: JSON that is nested too deeply.
        return Reject(f"the message cannot be read: {type(problem).__name__}: {problem}")
    if event.bucket != bucket:
        return Reject(f"the bucket must be {bucket}, got {event.bucket}")
    if is_folder_marker(event):
        return Ignore(event, "a folder marker")
    for prefix in ignored_prefixes:
        if event.key.startswith(prefix):
            return Ignore(event, f"under the ignored prefix {prefix}")
    if event.size < min_size:
        return Ignore(event, f"smaller than {min_size} bytes")
    return Start(event)

"""What is kept of a failed execution: the body of a message. Pure.

Every failure has its place in a line of attempts. The line's id comes from the first execution; an execution that was
started for it again carries the id and its number in its name, and a redrive counts one more. So each failure has one
next name only, however often its message is delivered, moved or written.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Literal, NoReturn

from json_text import members

SCHEMA_VERSION = 1

Status = Literal["FAILED", "TIMED_OUT", "ABORTED"]
STATUSES: tuple[Status, ...] = ("FAILED", "TIMED_OUT", "ABORTED")

_AGAIN = re.compile(r"again-([0-9a-f]{32})-([1-9][0-9]{0,5})")
_KEY_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]|\['([^']+)'\]")
_NOT_FOR_SQS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class UnreadableError(ValueError):
    """The body is not one that this version understands. Says why."""


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where an input lies that is too long for a message."""

    bucket: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A failed execution.

    Args:
        input: The execution's input, JSON as it was written; None where it lies at `input_location`.
        error: The error's name, may be empty.
        cause: What was said about it, may be empty.
        state_machine: The ARN of the state machine.
        execution: The ARN of the execution.
        execution_name: Its name.
        execution_started_at: ISO 8601.
        failed_at: ISO 8601, in UTC.
        failed_state: The name of the state, empty where it is not known.
        status: How the execution ended.
        redrive_count: How often it was redriven before it failed.
        caught: Whether the state machine dealt with the failure itself. A redrive would resume behind it, at the
            state that fails the execution, and do nothing else.
        key: What it is about, in words of the business; may be empty.
    """

    input: str | None
    input_location: Location | None = None
    error: str
    cause: str
    state_machine: str
    execution: str
    execution_name: str
    execution_started_at: str
    failed_at: str
    failed_state: str
    status: Status
    redrive_count: int
    caught: bool
    key: str = ""

    @property
    def id(self) -> str:
        """The same for all attempts with one input."""
        again = _AGAIN.fullmatch(self.execution_name)
        return again[1] if again else sha256(self.execution.encode()).hexdigest()[:32]

    @property
    def attempt(self) -> int:
        """Which attempt has failed, the first is 1."""
        again = _AGAIN.fullmatch(self.execution_name)
        return (int(again[2]) if again else 1) + self.redrive_count

    @property
    def next_name(self) -> str:
        """The name of the execution that is started for it, 45 to 50 characters."""
        return f"again-{self.id}-{self.attempt + 1}"

    @property
    def next_execution(self) -> str:
        """The ARN of that execution."""
        return f"{self.state_machine.replace(':stateMachine:', ':execution:', 1)}:{self.next_name}"


# --- reading --------------------------------------------------------------------------------------------------------


def read(body: str, *, key_path: str = "") -> Envelope:
    """Reads the body of a message.

    Args:
        body: The body.
        key_path: Where the input has the business key, such as `$.order.id`. Whatever is not there is no key.

    Raises:
        UnreadableError: it is not ours, or of a later version.
    """
    try:
        texts = members(body)
        # All but the input, which goes on as it was written.
        fields = {name: json.loads(text) for name, text in texts.items() if name != "input"}
    except (ValueError, RecursionError) as problem:
        raise UnreadableError(f"the body must be a JSON object: {problem}") from problem
    version = fields.get("schemaVersion")
    if type(version) is int and version > SCHEMA_VERSION:
        raise UnreadableError(f"schemaVersion must be at most {SCHEMA_VERSION}, got {version}: deploy a later version")
    if version != SCHEMA_VERSION or type(version) is not int:
        _refuse(f"schemaVersion must be {SCHEMA_VERSION}", version)
    location = _location(fields)
    if location is None and "input" not in texts:
        _refuse("input must be there, or inputLocation", None)
    # An execution that caught the failure hands it on as it was caught: an object with Error, and perhaps Cause.
    failure = fields.get("failure")
    caught_error: Mapping[str, Any] = failure if isinstance(failure, dict) else {}
    envelope = Envelope(
        input=None if location else texts["input"],
        input_location=location,
        error=_text(fields, "error") or _text(caught_error, "Error"),
        cause=_text(fields, "cause") or _text(caught_error, "Cause"),
        state_machine=_needed(fields, "stateMachine"),
        execution=_needed(fields, "execution"),
        execution_name=_needed(fields, "executionName"),
        execution_started_at=_text(fields, "executionStartedAt"),
        failed_at=_needed(fields, "failedAt"),
        failed_state=_text(fields, "failedState"),
        status=_status(fields),
        redrive_count=_count(fields),
        caught=fields.get("caught") is not False,
        key=_text(fields, "key"),
    )
    if envelope.key or envelope.input is None:
        return envelope
    return replace(envelope, key=key_at(key_path, envelope.input))


def key_at(path: str, text: str) -> str:
    """The text or the number at a path of an input in JSON; empty where there is none. Raises nothing."""
    if not path.startswith("$") or _KEY_STEP.sub("", path[1:]):
        return ""
    try:
        value = json.loads(text)
        for name, index, quoted in _KEY_STEP.findall(path):
            value = value[int(index)] if index else value[name or quoted]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _location(fields: Mapping[str, Any]) -> Location | None:
    value = fields.get("inputLocation")
    if value is None:
        return None
    if not isinstance(value, dict):
        _refuse("inputLocation must be an object", value)
    return Location(bucket=_needed(value, "bucket"), key=_needed(value, "key"))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    return value if isinstance(value, str) else _refuse(f"{name} must be text", value)


def _needed(fields: Mapping[str, Any], name: str) -> str:
    value = _text(fields, name)
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(f"{name} must be text in Unicode", value)
    return value or _refuse(f"{name} must be text", fields.get(name))


def _status(fields: Mapping[str, Any]) -> Status:
    value = fields.get("status")
    return next((status for status in STATUSES if status == value), None) or _refuse(
        f"status must be one of {', '.join(STATUSES)}", value
    )


def _count(fields: Mapping[str, Any]) -> int:
    value = fields.get("redriveCount", 0)
    if type(value) is not int or not 0 <= value < 10**6:
        _refuse("redriveCount must be a whole number of at least 0", value)
    return value


def _refuse(rule: str, value: object) -> NoReturn:
    got = "nothing" if value is None else json.dumps(value)[:200]
    raise UnreadableError(f"{rule}, got {got}")


# --- writing --------------------------------------------------------------------------------------------------------


def write(envelope: Envelope) -> str:
    """The body of a message that `read` reads, of characters that SQS takes."""
    fields: dict[str, Any] = {
        "schemaVersion": SCHEMA_VERSION,
        "id": envelope.id,
        "error": envelope.error,
        "cause": envelope.cause,
        "stateMachine": envelope.state_machine,
        "execution": envelope.execution,
        "executionName": envelope.execution_name,
        "executionStartedAt": envelope.execution_started_at,
        "failedAt": envelope.failed_at,
        "failedState": envelope.failed_state,
        "status": envelope.status,
        "redriveCount": envelope.redrive_count,
        "caught": envelope.caught,
        "key": envelope.key,
    }
    if envelope.input_location is not None:
        location = {"bucket": envelope.input_location.bucket, "key": envelope.input_location.key}
        return json.dumps({**fields, "inputLocation": location})
    if envelope.input is None:
        raise ValueError("an envelope needs its input, or where that lies")
    # In JSON such characters can only stand inside of text, where they may be escaped.
    text = _NOT_FOR_SQS.sub(lambda found: json.dumps(found[0])[1:-1], envelope.input)
    return f'{json.dumps(fields)[:-1]}, "input": {text}}}'

"""What is in an event: text from state machines, rules and operators becomes values of the protocol, or is refused."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NoReturn

from semaphore.protocol import Permit, Waiter

LONGEST_KEY = 1024
"""Bytes; a partition key of DynamoDB may have 2,048."""


class InvalidRequestError(ValueError):
    """The event is not one that this function understands."""


def refuse(rule: str, value: object) -> NoReturn:
    raise InvalidRequestError(f"{rule}, got {json.dumps(value, default=str)[:500]}")


def waiter_of(event: Mapping[str, Any], now: float) -> Waiter:
    execution = event.get("execution")
    if not isinstance(execution, str) or not execution:
        refuse("execution must be the ARN of the execution", execution)
    return Waiter(
        permit=Permit(key=key_of(event), id=permit_id(event["token"]), weight=weight_of(event)),
        order=order_of(event),
        execution=execution,
        token=event["token"],
        asked_at=now,
    )


def key_of(event: Mapping[str, Any]) -> str:
    key = event.get("key")
    if not isinstance(key, str) or not key or len(key.encode(errors="replace")) > LONGEST_KEY:
        refuse(f"key must be text of 1 to {LONGEST_KEY} bytes", key)
    return key


def weight_of(event: Mapping[str, Any]) -> int:
    weight = event.get("weight", 1)
    if type(weight) is not int or weight < 1:
        refuse("weight must be a whole number of at least 1", weight)
    return weight


def order_of(event: Mapping[str, Any]) -> str:
    """The start of the execution, always with as many digits: a whole second may come without a fraction."""
    try:
        started = datetime.fromisoformat(event["order"])
        return started.astimezone(UTC).isoformat(timespec="microseconds")
    except (KeyError, TypeError, ValueError):
        refuse("order must be the start time of the execution", event.get("order"))


def permit_of(permit: object) -> Permit:
    if not isinstance(permit, dict) or not isinstance(permit.get("id"), str):
        refuse("permit must be what acquire returned", permit)
    if permit["id"][: len(_tag())] != _tag():
        refuse("permit must be one of this semaphore", permit)
    return Permit(key=key_of(permit), id=permit["id"], weight=weight_of(permit))


def permit_id(token: str) -> str:
    """The same for the same token. Begins with what tells this semaphore from others."""
    return f"{_tag()}{sha256(token.encode()).hexdigest()[:24]}"


def _tag() -> str:
    return sha256(os.environ["TABLE_NAME"].encode()).hexdigest()[:8]

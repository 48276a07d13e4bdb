"""The spool's table: what was spooled, what failed before, and in which way each failure is run again.

    failure#<id>#<attempt>              a failure, and the way that was settled for it
    pardon#<id>                         up to which attempt an operator has forgiven
    spooled#<execution>#<redrives>      a failure that was, or is being, sent to the spool

A message may be delivered twice, and exist twice. Whoever is about to run a failure again settles the way first, and
the first one's way is everybody's: so a failure is not restarted here and redriven there, nor started once dropped.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any

import boto3
from botocore.config import Config

from alert.reading import printable, shortened
from pipeline.patience import BUSY, ONE_REQUEST, Patience
from spool.decide import WAYS, Way
from spool.envelope import Envelope

KEPT = 30 * 24 * 3600
"""Seconds: longer than a message may lie in the spool and then in the quarantine, 14 days each."""

STILL_SPOOLING = 120
"""Seconds for which whoever began to spool a failure is trusted to do it. No function that does may run as long."""

MOST_SETTLED = 25
"""In one transaction: few enough that two that meet do not stop each other for long."""

MOST_HISTORY = 20
LONGEST_CAUSE, LONGEST_ERROR = 500, 200

Item = Mapping[str, str | int | float]

_PASSING = {"None", "ConditionalCheckFailed", "TransactionConflict", "ThrottlingError", *BUSY}


class BeingSpooledError(Exception):
    """Somebody else began to spool the failure a moment ago. Whether they did shows later."""


@cache
def dynamodb() -> Any:
    return boto3.client("dynamodb", config=ONE_REQUEST.merge(Config(max_pool_connections=16)))


class Ledger:
    """What is known of failures.

    Args:
        client: A boto3 client of DynamoDB.
        name: The table's name.
        patience: How long a request is repeated.
        clock: Seconds since the epoch.
    """

    def __init__(self, client: Any, name: str, patience: Patience, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._name = name
        self._patience = patience
        self._clock = clock

    # --- running again ----------------------------------------------------------------------------------------------

    def settle(self, wanted: Sequence[tuple[Envelope, Way]]) -> list[Way]:
        """Settles the way of failures, and writes down what failed. The answer is the way that counts for each.

        Args:
            wanted: Failures, none of them twice, at most `MOST_SETTLED`; each with the way that is meant for it.
        """
        settled: dict[int, Way] = {}
        attempt = 0
        while missing := [number for number in range(len(wanted)) if number not in settled]:
            puts = [self._settling(*wanted[number]) for number in missing]
            try:
                self._patience.ask(partial(self._client.transact_write_items, TransactItems=puts))
            except self._client.exceptions.TransactionCanceledException as cancelled:
                reasons = cancelled.response["CancellationReasons"]
                if not {reason["Code"] for reason in reasons} <= _PASSING:
                    raise
                known = {
                    number: _way(reason["Item"])
                    for number, reason in zip(missing, reasons, strict=True)
                    if reason["Code"] == "ConditionalCheckFailed"
                }
                settled |= known
                if not known:
                    self._patience.pause(attempt)
                    self._patience.check(cancelled)
                    attempt += 1
            else:
                settled |= {number: wanted[number][1] for number in missing}
        return [settled[number] for number in range(len(wanted))]

    def _settling(self, envelope: Envelope, way: Way) -> dict[str, Any]:
        item: Item = {
            "id": _failure(envelope.id, envelope.attempt),
            "way": way,
            "execution": envelope.execution,
            "error": shortened(envelope.error, LONGEST_ERROR),
            "cause": shortened(envelope.cause, LONGEST_CAUSE),
            "failedAt": printable(envelope.failed_at),
            "expires": self._expiry(),
        }
        put = {"TableName": self._name, "Item": _written(item), "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        return {"Put": {**put, **_expressions(ConditionExpression="attribute_not_exists(#id)")}}

    def history(self, envelope: Envelope, *, after: int = 0) -> list[dict[str, str]]:
        """The failures before this one and after an attempt, the first is the oldest; at most the last 20."""
        first = max(after + 1, envelope.attempt - MOST_HISTORY)
        found = [self._get(_failure(envelope.id, attempt)) for attempt in range(first, envelope.attempt)]
        return [{name: each[name] for name in ("execution", "error", "cause", "failedAt")} for each in found if each]

    def pardoned(self, id_: str) -> int:
        """The last attempt that does not count any more, 0 where all do."""
        return int(self._get(f"pardon#{id_}").get("attempt", 0))

    def pardon(self, id_: str, attempt: int) -> None:
        """Lets attempts up to this one not count any more."""
        with suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._patience.ask(
                lambda: self._client.put_item(
                    TableName=self._name,
                    Item=_written({"id": f"pardon#{id_}", "attempt": attempt, "expires": self._expiry()}),
                    **_expressions(
                        ConditionExpression="attribute_not_exists(#id) OR #attempt < :attempt", attempt=attempt
                    ),
                )
            )

    # --- spooling ---------------------------------------------------------------------------------------------------

    def begin(self, execution: str, redrives: int) -> bool:
        """Whether the caller is to spool the failure; not if that was done.

        Raises:
            BeingSpooledError: somebody else began a moment ago.
        """
        now = self._clock()
        item: Item = {**_spooled(execution, redrives), "state": "spooling", "at": now, "expires": self._expiry()}
        try:
            self._patience.ask(
                lambda: self._client.put_item(
                    TableName=self._name,
                    Item=_written(item),
                    **_expressions(
                        ConditionExpression="attribute_not_exists(#id) OR (#state = :state AND #at < :before)",
                        state="spooling",
                        before=now - STILL_SPOOLING,
                    ),
                )
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            if self._get(_spooled(execution, redrives)["id"]).get("state") == "spooled":
                return False
            raise BeingSpooledError(f"{execution} is being spooled by somebody else, or by a call that died") from None
        return True

    def done(self, execution: str, redrives: int) -> None:
        """Writes down that the failure is in the spool."""
        item: Item = {
            **_spooled(execution, redrives),
            "state": "spooled",
            "at": self._clock(),
            "expires": self._expiry(),
        }
        self._patience.ask(lambda: self._client.put_item(TableName=self._name, Item=_written(item)))

    def unknown(self, failures: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Which failures (execution, redrives) are not known to be in the spool, or to have been."""
        known: set[str] = set()
        ids = [_spooled(*failure)["id"] for failure in failures]
        for first in range(0, len(ids), 100):
            wanted = {self._name: {"Keys": [_written({"id": id_}) for id_ in ids[first : first + 100]]}}
            attempt = 0
            while wanted:
                reply = self._patience.ask(partial(self._client.batch_get_item, RequestItems=wanted))
                items = [_read(item) for item in reply["Responses"].get(self._name, [])]
                known |= {item["id"] for item in items if item["state"] == "spooled"}
                wanted = reply.get("UnprocessedKeys") or {}
                if wanted:
                    self._patience.pause(attempt)
                    attempt += 1
        return [failure for failure, id_ in zip(failures, ids, strict=True) if id_ not in known]

    # --- calls ------------------------------------------------------------------------------------------------------

    def _get(self, id_: str) -> dict[str, Any]:
        key = _written({"id": id_})
        reply = self._patience.ask(lambda: self._client.get_item(TableName=self._name, Key=key, ConsistentRead=True))
        return _read(reply.get("Item", {}))

    def _expiry(self) -> int:
        return int(self._clock()) + KEPT


def _failure(id_: str, attempt: int) -> str:
    return f"failure#{id_}#{attempt}"


def _spooled(execution: str, redrives: int) -> dict[str, str]:
    return {"id": f"spooled#{execution}#{redrives}"}


def _way(item: Mapping[str, Mapping[str, Any]]) -> Way:
    found = _read(item)["way"]
    return next(way for way in WAYS if way == found)


# --- DynamoDB's JSON ------------------------------------------------------------------------------------------------


def _written(values: Item) -> dict[str, dict[str, str]]:
    return {name: {"S": value} if isinstance(value, str) else {"N": repr(value)} for name, value in values.items()}


def _read(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for name, attribute in item.items() for value in attribute.values()}


def _expressions(*, ConditionExpression: str, **values: str | int | float) -> dict[str, Any]:
    names = {f"#{name}": name for name in re.findall(r"#(\w+)", ConditionExpression)}
    return {
        "ConditionExpression": ConditionExpression,
        "ExpressionAttributeNames": names,
        **({"ExpressionAttributeValues": _written({f":{name}": v for name, v in values.items()})} if values else {}),
    }

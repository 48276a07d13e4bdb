"""The semaphore's table: carries effects of the protocol out against DynamoDB.

One partition per key. Its items sort so that one consistent query reads the counter and the head of the line:

    0                       the counter
    1#<order>#<id>          who waits, first come first
    2#<id>                  who holds

One item says what an operator wants of every key: partition `*`, item `defaults`, which no key's items collide with.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from semaphore.protocol import (
    MOST_GRANTS,
    Commit,
    Committed,
    Counter,
    Defaults,
    Forget,
    Found,
    Holder,
    Known,
    Line,
    Permit,
    ReleaseLater,
    SetCounter,
    SetDefaults,
    Snapshot,
    Waiter,
)

BY_EXECUTION = "ByExecution"
COUNTER, WAITING, HELD = "0", "1#", "2#"
DEFAULTS = {"key": "*", "item": "defaults"}

Value = str | int | float | bool
Item = Mapping[str, Any]
"""An item as it is read: numbers are text, as DynamoDB sends them."""


class ForeignPermitError(Exception):
    """What is to be given back is not what is held."""


@dataclass(kw_only=True)
class Usage:
    """What is going on under a key.

    Args:
        counter: `None` while nobody was ever let in.
        in_use: The weights held.
        waiting: How many stand in line.
        oldest: When the one who waits longest asked, in seconds since the epoch.
    """

    counter: Counter | None = None
    in_use: int = 0
    waiting: int = 0
    oldest: float | None = None


class Table:
    """Who holds, who waits, and how much is free.

    Args:
        client: A boto3 client of DynamoDB.
        name: The table's name.
        clock: Seconds since the epoch.
    """

    def __init__(self, client: Any, name: str, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._name = name
        self._clock = clock

    # --- who waits --------------------------------------------------------------------------------------------------

    def enqueue(self, waiter: Waiter) -> None:
        # Where the same call comes again, it keeps the place and the time of the first.
        with suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.put_item(**self._put_new(_waiter_item(waiter))["Put"])

    def withdraw(self, waiter: Waiter) -> None:
        self._client.delete_item(TableName=self._name, Key=_written(_waiter_key(waiter)))

    def read_line(self, key: str) -> Line:
        now = self._clock()
        page = self._client.query(
            TableName=self._name,
            ConsistentRead=True,
            Limit=1 + MOST_GRANTS,
            **_expressions(KeyConditionExpression="#key = :key AND #item < :held", key=key, held=HELD),
        )
        items = [_read(item) for item in page["Items"]]
        counter = _counter(items.pop(0)) if items and items[0]["item"] == COUNTER else None
        return Line(
            counter=counter,
            defaults=None if counter else self.defaults(),
            waiting=[_waiter(item) for item in items],
            now=now,
        )

    # --- who holds --------------------------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> Committed | Known:
        """Raises `ForeignPermitError` if what is given back has another weight than what is held."""
        back = [self._take_back(commit.released)] if commit.released else []
        into = [self._hold(holder) for holder in commit.granted]
        out = [self._leave_line(holder.waiter) for holder in commit.granted] if commit.from_line else []
        try:
            self._client.transact_write_items(TransactItems=[*back, *into, *out, *self._move_counter(commit)])
        except self._client.exceptions.TransactionCanceledException as cancelled:
            reasons = cancelled.response["CancellationReasons"]
            failed = [reason["Code"] == "ConditionalCheckFailed" for reason in reasons]
            if back and failed[0]:
                if reasons[0].get("Item"):
                    raise ForeignPermitError(
                        f"permit {commit.released} was never given: it has another weight"
                    ) from None
                return Committed.NOT_HELD
            # Who holds and no longer waits was let in a moment ago by somebody else. Who holds and waits asked twice.
            twice, gone = failed[len(back) :], failed[len(back) + len(into) :] if out else []
            known = [
                holder.waiter
                for place, holder in enumerate(commit.granted)
                if twice[place] and not (gone and gone[place])
            ]
            if known:
                return Known(known)
            if _has_changed(reasons):
                return Committed.CHANGED
            raise
        return Committed.YES

    def release_later(self, effect: ReleaseLater) -> None:
        self._note(effect.holder, "attribute_not_exists(#releaseAt)", releaseAt=effect.at)

    def mark_told(self, holder: Holder) -> None:
        self._note(holder, "attribute_exists(#key)", told=True)

    def find_by_execution(self, execution: str) -> Found:
        now = self._clock()
        query = {
            "IndexName": BY_EXECUTION,
            **_expressions(KeyConditionExpression="#execution = :execution", execution=execution),
        }
        items = list(self._pages("query", query))
        return Found(
            waiting=[_waiter(item) for item in items if item["item"].startswith(WAITING)],
            held=[_holder(item) for item in items if item["item"].startswith(HELD)],
            now=now,
        )

    # --- what the sweeper and the operator need ---------------------------------------------------------------------

    def read_all(self, key: str) -> Snapshot:
        line = self.read_line(key)
        query = {
            "ConsistentRead": True,
            **_expressions(KeyConditionExpression="#key = :key AND begins_with(#item, :held)", key=key, held=HELD),
        }
        defaults = line.defaults if line.counter is None else self.defaults()
        return Snapshot(
            Line(counter=line.counter, defaults=defaults, waiting=line.waiting, now=line.now),
            [_holder(item) for item in self._pages("query", query)],
        )

    def usage(self) -> dict[str, Usage]:
        """Reads the whole table: what is going on under each key that has a counter or somebody in line."""
        scan = {
            "ConsistentRead": True,
            **_expressions(
                ProjectionExpression=(
                    "#key, #item, #weight, #askedAt, #limit, #free, #declared, #paused, #refuses, #nextStart, #usedAt"
                )
            ),
        }
        found: dict[str, Usage] = {}
        for item in self._pages("scan", scan):
            if item["key"] == DEFAULTS["key"] and item["item"] == DEFAULTS["item"]:
                continue
            usage = found.setdefault(item["key"], Usage())
            if item["item"] == COUNTER:
                usage.counter = _counter(item)
            elif item["item"].startswith(HELD):
                usage.in_use += int(item["weight"])
            else:
                asked_at = float(item["askedAt"])
                usage.waiting += 1
                usage.oldest = asked_at if usage.oldest is None else min(usage.oldest, asked_at)
        return found

    def set_counter(self, effect: SetCounter) -> bool:
        wanted, seen = effect.counter, effect.line.counter
        if seen is None:
            actions = [self._make_counter(effect.key, wanted), self._defaults_are(effect.line.defaults)]
        else:
            update = self._change(
                {"key": effect.key, "item": COUNTER},
                "SET #limit = :limit, #declared = :declared, #paused = :paused, #refuses = :refuses ADD #free :change",
                "#limit = :seenLimit AND #declared = :seenDeclared AND #paused = :seenPaused"
                # Counters of earlier versions do not say.
                " AND (#refuses = :seenRefuses OR attribute_not_exists(#refuses))",
                limit=wanted.limit,
                declared=wanted.declared,
                paused=wanted.paused,
                refuses=wanted.refuses,
                change=wanted.limit - seen.limit,
                seenLimit=seen.limit,
                seenDeclared=seen.declared,
                seenPaused=seen.paused,
                seenRefuses=seen.refuses,
            )
            actions = [{"Update": update}]
        return self._transact(actions)

    def forget(self, effect: Forget) -> None:
        seen = effect.seen
        delete = self._conditional(
            {"key": effect.key, "item": COUNTER},
            "#limit = :limit AND #free = :free AND #declared = :declared AND #paused = :paused AND #usedAt = :usedAt",
            limit=seen.limit,
            free=seen.limit,
            declared=seen.declared,
            paused=seen.paused,
            usedAt=seen.used_at,
        )
        self._transact([{"Delete": delete}, self._defaults_are(effect.defaults)])

    def set_defaults(self, effect: SetDefaults) -> None:
        changes: dict[str, Value] = {}
        if effect.limit is not None:
            changes |= {"limit": effect.limit, "declared": effect.declared}
        if effect.paused is not None:
            changes |= {"paused": effect.paused, "refuses": effect.refuses}
        assignments = ", ".join(f"#{name} = :{name}" for name in changes)
        self._client.update_item(
            TableName=self._name,
            Key=_written(DEFAULTS),
            **_expressions(UpdateExpression=f"SET {assignments} ADD #version :one", one=1, **changes),
        )

    # --- parts of a transaction -------------------------------------------------------------------------------------

    def _take_back(self, permit: Permit) -> dict[str, Any]:
        delete = self._conditional(_holder_key(permit), "#weight = :weight", weight=permit.weight)
        return {"Delete": {**delete, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}}

    def _hold(self, holder: Holder) -> dict[str, Any]:
        return self._put_new(_holder_item(holder))

    def _leave_line(self, waiter: Waiter) -> dict[str, Any]:
        return {"Delete": self._conditional(_waiter_key(waiter), "attribute_exists(#key)")}

    def _move_counter(self, commit: Commit) -> list[dict[str, Any]]:
        seen = commit.seen
        if commit.line.counter is None:
            made = Counter(
                limit=seen.limit,
                free=seen.free + commit.change,
                declared=seen.declared,
                paused=seen.paused,
                refuses=seen.refuses,
                next_start=commit.next_start,
                used_at=commit.line.now,
            )
            return [self._make_counter(commit.key, made), self._defaults_are(commit.line.defaults)]
        key: dict[str, Value] = {"key": commit.key, "item": COUNTER}
        if not commit.granted:
            update = self._change(
                key,
                "SET #usedAt = :now ADD #free :change",
                "attribute_exists(#key)",
                now=commit.line.now,
                change=commit.change,
            )
        else:
            update = self._change(
                key,
                "SET #usedAt = :now, #nextStart = :nextStart ADD #free :change",
                "#limit = :limit AND #free = :free AND #paused = :paused AND #nextStart = :seenNextStart",
                now=commit.line.now,
                nextStart=commit.next_start,
                change=commit.change,
                limit=seen.limit,
                free=seen.free,
                paused=False,
                seenNextStart=seen.next_start,
            )
        return [{"Update": update}]

    def _make_counter(self, key: str, counter: Counter) -> dict[str, Any]:
        return self._put_new(_counter_item(key, counter))

    def _defaults_are(self, seen: Defaults | None) -> dict[str, Any]:
        if seen is None:
            return {"ConditionCheck": self._conditional(DEFAULTS, "attribute_not_exists(#key)")}
        return {"ConditionCheck": self._conditional(DEFAULTS, "#version = :version", version=seen.version)}

    def _put_new(self, item: Mapping[str, Value | None]) -> dict[str, Any]:
        condition = _expressions(ConditionExpression="attribute_not_exists(#key)")
        return {"Put": {"TableName": self._name, "Item": _written(item), **condition}}

    def _conditional(self, key: Mapping[str, Value], condition: str, **values: Value) -> dict[str, Any]:
        return {
            "TableName": self._name,
            "Key": _written(key),
            **_expressions(ConditionExpression=condition, **values),
        }

    def _change(self, key: Mapping[str, Value], update: str, condition: str, **values: Value) -> dict[str, Any]:
        return {
            "TableName": self._name,
            "Key": _written(key),
            **_expressions(UpdateExpression=update, ConditionExpression=condition, **values),
        }

    # --- calls ------------------------------------------------------------------------------------------------------

    def defaults(self) -> Defaults | None:
        reply = self._client.get_item(TableName=self._name, Key=_written(DEFAULTS), ConsistentRead=True)
        if "Item" not in reply:
            return None
        item = _read(reply["Item"])
        return Defaults(
            version=int(item["version"]),
            limit=int(item["limit"]) if "limit" in item else None,
            declared=int(item["declared"]) if "declared" in item else None,
            paused=item.get("paused", False),
            refuses=item.get("refuses", False),
        )

    def _note(self, holder: Holder, condition: str, **values: Value) -> None:
        """Writes to a holder, unless it is another one by now: the same id may be let in again if it asked twice."""
        ((name, value),) = values.items()
        change = self._change(
            _holder_key(holder.permit),
            f"SET #{name} = :{name}",
            f"#grantedAt = :grantedAt AND {condition}",
            grantedAt=holder.granted_at,
            **{name: value},
        )
        with suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.update_item(**change)

    def _transact(self, actions: Sequence[Mapping[str, Any]]) -> bool:
        """Whether it was done; not if something that it rests on has changed."""
        try:
            self._client.transact_write_items(TransactItems=actions)
        except self._client.exceptions.TransactionCanceledException as cancelled:
            if _has_changed(cancelled.response["CancellationReasons"]):
                return False
            raise
        return True

    def _pages(self, operation: str, request: Mapping[str, Any]) -> Iterator[Item]:
        for page in self._client.get_paginator(operation).paginate(TableName=self._name, **request):
            yield from (_read(item) for item in page["Items"])


def _has_changed(reasons: Sequence[Mapping[str, Any]]) -> bool:
    """Two transactions that meet at one item: one of them is cancelled, and like a condition it has to look again."""
    codes = {reason["Code"] for reason in reasons} - {"None"}
    return codes <= {"ConditionalCheckFailed", "TransactionConflict"}


# --- items ----------------------------------------------------------------------------------------------------------


def _waiter_key(waiter: Waiter) -> dict[str, Value]:
    return {"key": waiter.permit.key, "item": f"{WAITING}{waiter.order}#{waiter.permit.id}"}


def _holder_key(permit: Permit) -> dict[str, Value]:
    return {"key": permit.key, "item": f"{HELD}{permit.id}"}


def _waiter_values(waiter: Waiter) -> dict[str, Value]:
    return {
        "id": waiter.permit.id,
        "weight": waiter.permit.weight,
        "order": waiter.order,
        "execution": waiter.execution,
        "token": waiter.token,
        "askedAt": waiter.asked_at,
    }


def _waiter_item(waiter: Waiter) -> dict[str, Value]:
    return {**_waiter_key(waiter), **_waiter_values(waiter)}


def _waiter(item: Item) -> Waiter:
    return Waiter(
        permit=Permit(key=item["key"], id=item["id"], weight=int(item["weight"])),
        order=item["order"],
        execution=item["execution"],
        token=item["token"],
        asked_at=float(item["askedAt"]),
    )


def _holder_item(holder: Holder) -> dict[str, Value | None]:
    return {
        **_holder_key(holder.permit),
        **_waiter_values(holder.waiter),
        "grantedAt": holder.granted_at,
        "startAt": holder.start_at,
        "told": holder.told or None,
        "releaseAt": holder.release_at,
    }


def _holder(item: Item) -> Holder:
    return Holder(
        waiter=_waiter(item),
        granted_at=float(item["grantedAt"]),
        start_at=float(item["startAt"]) if "startAt" in item else None,
        told=item.get("told", False),
        release_at=float(item["releaseAt"]) if "releaseAt" in item else None,
    )


def _counter_item(key: str, counter: Counter) -> dict[str, Value]:
    return {
        "key": key,
        "item": COUNTER,
        "limit": counter.limit,
        "free": counter.free,
        "declared": counter.declared,
        "paused": counter.paused,
        "refuses": counter.refuses,
        "nextStart": counter.next_start,
        "usedAt": counter.used_at,
    }


def _counter(item: Item) -> Counter:
    return Counter(
        limit=int(item["limit"]),
        free=int(item["free"]),
        declared=int(item["declared"]),
        paused=item["paused"],
        refuses=item.get("refuses", False),
        next_start=float(item["nextStart"]),
        used_at=float(item["usedAt"]),
    )


# --- DynamoDB's JSON ------------------------------------------------------------------------------------------------


def _written(values: Mapping[str, Value | None]) -> dict[str, dict[str, Any]]:
    return {name: _attribute(value) for name, value in values.items() if value is not None}


def _attribute(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case _:
            return {"N": repr(value)}


def _read(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for name, attribute in item.items() for value in attribute.values()}


def _expressions(**parts: Value) -> dict[str, Any]:
    """Splits a request's expressions (`ConditionExpression=…`) from the values in them (`limit=…` is `:limit`).

    Names all attributes by `#`, as half of them (`key`, `limit`, `order`, `token`) are reserved words.
    """
    expressions = {name: text for name, text in parts.items() if name.endswith("Expression")}
    values = {f":{name}": _attribute(value) for name, value in parts.items() if name not in expressions}
    names = {f"#{name}": name for text in expressions.values() for name in re.findall(r"#(\w+)", str(text))}
    return {
        **expressions,
        **({"ExpressionAttributeNames": names} if names else {}),
        **({"ExpressionAttributeValues": values} if values else {}),
    }

"""A real table for the tests, and whoever asks for its permits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from semaphore.protocol import Permit, Waiter


@contextmanager
def semaphore_table(client: Any) -> Iterator[str]:
    """A table as the construct makes it. Yields its name."""
    name = f"semaphore-{uuid4().hex[:8]}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("key", "item", "execution")],
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "ByExecution",
                "KeySchema": [{"AttributeName": "execution", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    yield name
    client.delete_table(TableName=name)


def waiter(number: int, *, key: str = "key", weight: int = 1) -> Waiter:
    """The later ones have higher numbers."""
    return Waiter(
        permit=Permit(key=key, id=f"id-{number:05}", weight=weight),
        order=f"2026-11-22T00:00:00.{number:06}+00:00",
        execution=f"execution-{number}",
        token=f"token-{number}",
        asked_at=1000.0 + number,
    )

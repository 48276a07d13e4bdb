"""A real table for the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4


@contextmanager
def spool_table(client: Any) -> Iterator[str]:
    """A table as the construct makes it. Yields its name."""
    name = f"spool-{uuid4().hex[:8]}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    yield name
    client.delete_table(TableName=name)

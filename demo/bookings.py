"""The unreliable neighbour of the example: its mood, which is switched from outside, and what it has booked."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from embedded_aws import EmbeddedAws


class Bookings:
    """The neighbour as its operators see it.

    Args:
        aws: Where it is.
        mood: The name of the parameter that says how it is today.
        table: The table in which it counts.
    """

    def __init__(self, aws: EmbeddedAws, mood: str, table: str) -> None:
        self._ssm: Any = aws.client("ssm")
        self._dynamodb: Any = aws.client("dynamodb")
        self._mood, self._table = mood, table

    @contextmanager
    def down(self, *, seconds: float = 0.0) -> Iterator[None]:
        """Has it fail for a while, each time after so many seconds."""
        self._be(down=True, seconds=seconds)
        try:
            yield
        finally:
            self._be(down=False, seconds=0)

    def counted(self, what: str, names: Collection[str]) -> Mapping[str, int]:
        """How often something was done, `prepared` or `booked`, by name."""
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True)
        items = {item["name"]["S"]: int(item.get(what, {"N": "0"})["N"]) for page in pages for item in page["Items"]}
        return {name: items.get(name, 0) for name in names}

    def _be(self, *, down: bool, seconds: float) -> None:
        mood = json.dumps({"down": down, "seconds": seconds})
        self._ssm.put_parameter(Name=self._mood, Value=mood, Overwrite=True)

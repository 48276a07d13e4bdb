"""How many items of a map may fail."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from constructs import Construct

from .validation import invalid, require_whole_number

MOST_ITEMS = 100_000_000
"""What a distributed Map takes at the most: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html"""


Kind = Literal["none", "count", "percentage", "collect"]


@dataclass(frozen=True)
class FailureTolerance:
    """How many items may fail before the run fails. Made by its class methods.

    An item that was processed, and answered that it failed, counts as one whose work failed.
    """

    kind: Kind
    value: int | None = None

    @classmethod
    def none(cls) -> "FailureTolerance":
        """One failed item fails the run at once; items that wait are not begun."""
        return cls("none")

    @classmethod
    def count(cls, most: int) -> "FailureTolerance":
        """So many items may fail. With one more the run fails at once, and items that wait are not begun."""
        return cls("count", most)

    @classmethod
    def percentage(cls, most: int) -> "FailureTolerance":
        """So many in a hundred items may fail. With more the run fails at once, and items that wait are not begun."""
        return cls("percentage", most)

    @classmethod
    def collect(cls) -> "FailureTolerance":
        """Every item is processed, whatever became of the others; the run fails in the end if any failed."""
        return cls("collect")

    def check(self, where: Construct) -> None:
        """Refuses what Step Functions would refuse.

        Raises:
            ConfigurationError: with the rule and the remedy.
        """
        if self.kind not in get_args(Kind):
            remedy = "Pass for example FailureTolerance.percentage(5)."
            raise invalid(where, "tolerance", f"must be one of {', '.join(get_args(Kind))}", self.kind, remedy)
        if self.kind in ("count", "percentage"):
            most = MOST_ITEMS if self.kind == "count" else 100
            require_whole_number(where, "tolerance", self.value, at_least=0, at_most=most, known_at_synthesis=True)

    @property
    def failure_count(self) -> int | None:
        """What the Map itself may tolerate, as a number of items."""
        return self.value if self.kind == "count" else None

    @property
    def failure_percentage(self) -> int | None:
        """What the Map itself may tolerate, as a part of all items."""
        return 100 if self.kind == "collect" else self.value if self.kind == "percentage" else None

    def as_json(self) -> Mapping[str, Any]:
        """For the function that judges."""
        return {"kind": self.kind, "value": self.value}

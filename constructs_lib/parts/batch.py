"""How many items a child of a map gets at once."""

from dataclasses import dataclass

from constructs import Construct

from .validation import invalid, require_type, require_whole_number

LARGEST_BATCH = 256 * 1024
"""Bytes, as JSON: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itembatcher.html"""

_MOST_ITEMS = 100_000


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Items are processed together, up to so many, and up to so many bytes.

    Args:
        max_items: At most so many, up to 100,000. Default: as many as ``max_bytes`` takes.
        max_bytes: What they take as JSON at the most, with what is added to each batch; up to 262,144 (default).
    """

    max_items: int | None = None
    max_bytes: int | None = None

    def check(self, where: Construct) -> None:
        """Refuses what Step Functions would refuse.

        Raises:
            ConfigurationError: with the argument, the rule and the remedy.
        """
        if self.max_items is None and self.max_bytes is None:
            raise invalid(where, "batch", "must say how many items or bytes", self, "Pass for example max_items=100.")
        for argument, value, most in (
            ("batch.max_items", self.max_items, _MOST_ITEMS),
            ("batch.max_bytes", self.max_bytes, LARGEST_BATCH),
        ):
            if value is not None:
                require_whole_number(where, argument, value, at_least=1, at_most=most, known_at_synthesis=True)


def check_batch(where: Construct, batch: Batch | None) -> None:
    """Refuses what is no `Batch`, or cannot work.

    Raises:
        ConfigurationError: with the argument, the rule and the remedy.
    """
    if batch is not None:
        require_type(where, "batch", batch, Batch, "Pass for example Batch(max_items=100).")
        batch.check(where)

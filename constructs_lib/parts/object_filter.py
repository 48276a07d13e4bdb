"""Which objects of a bucket count: as a pattern of EventBridge, as JSON, and beside where a job writes to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from aws_cdk import Token
from aws_cdk import aws_events as events
from aws_cdk import aws_s3 as s3
from constructs import Construct

from .validation import invalid, require_type, require_whole_number
from .wildcards import ANY, Wildcard, beginning, escaped, have_common_text, matches, read

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_LONGEST_KEY = 1024

# 10,000 parts of 5 GiB: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_LARGEST_OBJECT = 10_000 * 5 * 1024**3

# What EventBridge compares numbers up to:
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
_GREATEST_NUMBER = 5_000_000_000


@dataclass(frozen=True, kw_only=True)
class ObjectFilter:
    """A key counts that begins with one of the prefixes and ends with one of the suffixes, or matches a wildcard.

    Args:
        prefixes: What keys begin with. Default: anything.
        suffixes: What keys end with. Default: anything.
        wildcards: What keys look like, ``*`` for any characters; a ``\\`` before a ``*`` that means itself.
        min_size: In bytes.
        max_size: In bytes.
    """

    prefixes: Sequence[str] = ()
    suffixes: Sequence[str] = ()
    wildcards: Sequence[str] = ()
    min_size: int | None = None
    max_size: int | None = None

    def check(self, where: Construct) -> None:
        """Refuses what EventBridge would refuse, or what no object matches.

        Raises:
            ConfigurationError: with the argument, the rule and the remedy.
        """
        for argument, example in (("prefixes", "incoming/"), ("suffixes", ".csv"), ("wildcards", "incoming/*.csv")):
            check_texts(where, argument, getattr(self, argument), f"Pass for example [{example!r}].")
        check_wildcards(where, "wildcards", self.wildcards, "Pass for example ['incoming/*.csv'].")
        check_sizes(where, self.min_size, self.max_size, greatest=_GREATEST_NUMBER)

    def event_pattern(self, bucket: s3.IBucket) -> events.EventPattern:
        """Matches the event of each object that counts, and of those that are smaller than `min_size`.

        The reader leaves these out: EventBridge would leave out those above 5,000,000,000 bytes as well, as no number
        that it does not know matches a pattern.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
        """
        of_object: dict[str, Any] = {}
        if keys := self._keys():
            of_object["key"] = keys
        if self.max_size is not None:
            of_object["size"] = [{"numeric": ["<=", self.max_size]}]
        return events.EventPattern(
            source=["aws.s3"],
            detail_type=["Object Created"],
            detail={"bucket": {"name": [bucket.bucket_name]}, **({"object": of_object} if of_object else {})},
        )

    def as_json(self) -> Mapping[str, Any]:
        """For the function that lists the bucket, and matches as EventBridge does."""
        return {
            "prefixes": list(self.prefixes),
            "suffixes": list(self.suffixes),
            "wildcards": list(self.wildcards),
            "minSize": self.min_size,
            "maxSize": self.max_size,
        }

    def _keys(self) -> list[Any]:
        # One entry is enough for a key to count, so a prefix and a suffix for the same key must be one entry.
        if self.prefixes and self.suffixes:
            named = [{"wildcard": pair} for pair in self._pairs()]
        else:
            named = [*({"prefix": text} for text in self.prefixes), *({"suffix": text} for text in self.suffixes)]
        return [*named, *({"wildcard": wildcard} for wildcard in self.wildcards)]

    def _pairs(self) -> list[str]:
        return [f"{escaped(prefix)}*{escaped(suffix)}" for prefix in self.prefixes for suffix in self.suffixes]

    # --- beside where the job writes to -----------------------------------------------------------------

    @cached_property
    def keys(self) -> Sequence[Wildcard]:
        """What keys that count look like."""
        if not (self.prefixes or self.suffixes or self.wildcards):
            return [(ANY,)]
        if self.prefixes and self.suffixes:
            named = [read(pair) for pair in self._pairs()]
        else:
            named = [*((*prefix, ANY) for prefix in self.prefixes), *((ANY, *suffix) for suffix in self.suffixes)]
        return [*named, *map(read, self.wildcards)]

    def counts_under(self, prefix: str) -> Literal["never", "perhaps", "always"]:
        """Whether keys under `prefix` count: all of them or all that count are there, or none, or it depends."""
        under: Wildcard = (*prefix, ANY)
        common = [key for key in self.keys if have_common_text(key, under)]
        if not common:
            return "never"
        within = any(beginning(key).startswith(prefix) for key in common)
        around = any(key[-1:] == (ANY,) and matches(key, prefix) for key in common)
        return "always" if within or around else "perhaps"


def check_texts(where: Construct, argument: str, texts: Sequence[str], remedy: str) -> None:
    """Refuses what is no list of texts that could be parts of keys.

    Raises:
        ConfigurationError: with the rule and `remedy`.
    """
    # A text is a sequence, too: of its letters.
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise invalid(where, argument, "must be a list of texts", texts, remedy)
    for text in texts:
        require_type(where, argument, text, str, remedy)
    # A list that only the deployment tells is one token, with a text in it that is none.
    for value in (*texts, list(texts)):
        if Token.is_unresolved(value):
            raise invalid(where, argument, "must be known at synthesis", value, remedy)
    for text in texts:
        if not 1 <= len(text.encode()) <= _LONGEST_KEY:
            raise invalid(where, argument, f"must have 1 to {_LONGEST_KEY} bytes each", text, remedy)


def check_wildcards(where: Construct, argument: str, wildcards: Sequence[str], remedy: str) -> None:
    """Refuses wildcards that EventBridge would refuse, also where they are only matched alike.

    Raises:
        ConfigurationError: with the rule and `remedy`.
    """
    for wildcard in wildcards:
        try:
            read(wildcard)
        except ValueError as problem:
            raise invalid(where, argument, f"cannot be read: {problem}", wildcard, remedy) from problem


def check_sizes(
    where: Construct, least: int | None, most: int | None, *, greatest: int = _LARGEST_OBJECT, prefix: str = ""
) -> None:
    """Refuses bounds of sizes that no object is within; `greatest` is what ``max_size`` may be.

    Raises:
        ConfigurationError: with the rule and the remedy.
    """
    for argument, size, bound in (("min_size", least, _LARGEST_OBJECT), ("max_size", most, greatest)):
        if size is not None:
            require_whole_number(where, f"{prefix}{argument}", size, at_least=0, at_most=bound, known_at_synthesis=True)
    if least is not None and most is not None and least > most:
        rule = f"must not be less than min_size ({least})"
        raise invalid(where, f"{prefix}max_size", rule, most, "Swap the two, or leave one out.")

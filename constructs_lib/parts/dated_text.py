"""Texts with the date of a run in them, such as ``incoming/{date:%Y/%m/%d}/``: checked here, filled in by the run."""

import re
from collections.abc import Iterator
from datetime import date
from string import Formatter

from aws_cdk import Token
from constructs import Construct

from .validation import invalid, require_type

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_LONGEST_KEY = 1024

# What Python's strftime knows of a date everywhere. A time of day there is not.
_FORMAT = re.compile(r"(?:%-?[aAbBdGjmuUVwWyY]|%%|[^%{}])*")

# Of all days this one has the longest text.
_LONG_DAY = date(2028, 9, 20)

_EXAMPLE = "incoming/{date:%Y/%m/%d}/"


def check_dated(
    where: Construct | str, argument: str, text: str, *, example: str = _EXAMPLE, empty: bool = False
) -> None:
    """Refuses what a run could not fill in, or S3 would not take.

    Raises:
        ConfigurationError: with the argument, the rule and the remedy.
    """
    remedy = f"Pass for example {example!r}; a brace itself is written twice."
    require_type(where, argument, text, str, remedy)
    if Token.is_unresolved(text):
        raise invalid(where, argument, "must be known at synthesis", text, remedy)
    try:
        fields = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(text)]
    except ValueError as problem:
        raise invalid(where, argument, f"cannot be read: {problem}", text, remedy) from problem
    for field, spec, conversion in fields:
        if field is None:
            continue
        if field != "date" or conversion is not None:
            raise invalid(where, argument, "must have nothing but the date in braces", text, remedy)
        if not _FORMAT.fullmatch(spec or ""):
            raise invalid(where, argument, "must have a format of a date, as strftime knows it", text, remedy)
    least = 0 if empty else 1
    if not least <= len(text.format(date=_LONG_DAY).encode()) <= _LONGEST_KEY:
        raise invalid(where, argument, f"must have {least} to {_LONGEST_KEY} bytes", text, remedy)


def as_resource(text: str) -> str:
    """What it may be on any day, as the resource of a policy has it: ``incoming/*/``."""
    return "".join(_parts(text))


def _parts(text: str) -> Iterator[str]:
    for literal, field, _, _ in Formatter().parse(text):
        # Characters that mean something else in a policy: any one stands for them.
        yield re.sub(r"[*?$]", "?", literal)
        if field is not None:
            yield "*"

"""Reads what may be anything, and keeps what is told short and printable. Nothing here raises."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Everything that has no length of its own gets one, in characters.
MAX_NAME = 200
MAX_SENTENCE = 600


def as_object(value: object) -> Mapping[str, Any]:
    """A JSON object, empty where there is none."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[Mapping[str, Any]]:
    """The objects in a JSON array."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """A string, empty where there is none."""
    return value if isinstance(value, str) else ""


def text_at(mapping: Mapping[str, Any], key: str, limit: int = MAX_NAME) -> str:
    """The string at `key`, shortened; empty where there is none."""
    return shortened(as_text(mapping.get(key)), limit)


def as_integer(value: object) -> int | None:
    """A number of JSON, small enough to be printed; True is none."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    return None


def has_any(text: str, any_of: Iterable[str]) -> bool:
    """Whether one of `any_of` is part of `text`."""
    return any(each in text for each in any_of)


_UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(text: str) -> str:
    """Without control characters and halves of surrogate pairs, which no transport of a message accepts."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def shortened(text: str, limit: int) -> str:
    """Printable, and at most `limit` characters long."""
    text = printable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def as_sentence(what: str, text: str) -> str:
    """Our words, then those of AWS, on one line."""
    words = " ".join(text.split()).rstrip(".")
    sentence = shortened(f"{what}: {words}" if words else what, MAX_SENTENCE)
    return sentence if sentence.endswith("…") else f"{sentence}."

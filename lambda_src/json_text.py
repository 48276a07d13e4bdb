"""Takes JSON apart and leaves the pieces as they were written: 1.10 stays 1.10, and 1e400 a number. Pure."""

import json
import re
from collections.abc import Iterator
from typing import NoReturn

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def members(text: str) -> dict[str, str]:
    """The members of a JSON object.

    Raises:
        ValueError: it is no JSON object.
        RecursionError: it is nested too deeply.
    """
    found: dict[str, str] = {}
    place = _expect(text, 0, "{")
    if text[place : place + 1] == "}":
        _expect_end(text, place + 1, "the object")
        return found
    while True:
        if text[place : place + 1] != '"':
            raise ValueError("a name must be text")
        name, end = _DECODER.raw_decode(text, place)
        start = _expect(text, end, ":")
        _, end = _DECODER.raw_decode(text, start)
        found[name] = text[start:end]
        place = _skip(text, end)
        if text[place : place + 1] == "}":
            _expect_end(text, place + 1, "the object")
            return found
        place = _expect(text, place, ",")


def elements(text: str) -> Iterator[str]:
    """The elements of a JSON array.

    Raises:
        ValueError: it is no JSON array.
        RecursionError: it is nested too deeply.
    """
    place = _expect(text, 0, "[")
    if text[place : place + 1] == "]":
        _expect_end(text, place + 1, "the array")
        return
    while True:
        _, end = _DECODER.raw_decode(text, place)
        yield text[place:end]
        place = _skip(text, end)
        if text[place : place + 1] == "]":
            _expect_end(text, place + 1, "the array")
            return
        place = _expect(text, place, ",")


def one_line(text: str) -> str:
    """The same JSON as one line of ASCII: what separates lines for some readers is a character of a text for others."""
    # Such characters stand between JSON's texts as white space, or within them, where they may be escaped.
    plain = text.replace("\n", " ").replace("\r", " ")
    return plain if plain.isascii() else _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], plain)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant)


def _skip(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\n", "\r"):
        place += 1
    return place


def _expect(text: str, place: int, sign: str) -> int:
    """Where the next thing begins behind a sign."""
    place = _skip(text, place)
    if text[place : place + 1] != sign:
        raise ValueError(f"{sign} is missing at character {place}")
    return _skip(text, place + 1)


def _expect_end(text: str, place: int, what: str) -> None:
    if _skip(text, place) != len(text):
        raise ValueError(f"something stands behind {what}")

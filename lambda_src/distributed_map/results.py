"""Reads what Step Functions writes about the children of a map run, a piece at a time. Pure.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alert.reading import as_object, as_text
from json_text import elements, members

LONGEST_VALUE = 64 * 1024 * 1024
"""Characters. What is longer is no child of a map run: its input and its output have 256 KiB each."""

_SIGN = re.compile(r"\S")
_BEHIND_A_NUMBER = tuple(" \t\r\n,:]}")


class UnreadableError(ValueError):
    """The file is not what it should be. Says why; all that was read before is good."""


class JsonStream:
    """JSON of any length, read from the front.

    Args:
        chunks: The file's bytes.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._place, self._ended = "", 0, False

    def sign(self) -> str:
        """The next character that is not white space; empty at the end. It stays the next one."""
        while True:
            if found := _SIGN.search(self._text, self._place):
                self._place = found.start()
                return found[0]
            self._place = len(self._text)
            if not self._more():
                return ""

    def take(self, *signs: str) -> str:
        """The next character, which has to be one of these."""
        sign = self.sign()
        if sign not in signs:
            raise UnreadableError(f"{' or '.join(signs)} was expected, not {sign}" if sign else "the end is missing")
        self._place += 1
        return sign

    def value(self) -> Any:
        """The next value."""
        self.sign()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
            except RecursionError as problem:
                raise UnreadableError("it is nested too deeply") from problem
            except ValueError as problem:
                if len(self._text) - self._place <= LONGEST_VALUE and self._more():
                    continue
                raise UnreadableError(f"a value is cut, or no JSON: {problem}") from problem
            # A number at the end of a chunk may go on in the next one.
            if isinstance(value, int | float) and self._text[end : end + 1] not in _BEHIND_A_NUMBER and self._more():
                continue
            self._place = end
            return value

    def _more(self) -> bool:
        if self._ended:
            return False
        chunk = next(self._chunks, None)
        self._ended = chunk is None
        try:
            text = self._decoder.decode(chunk or b"", final=self._ended)
        except UnicodeDecodeError as problem:
            raise UnreadableError(f"it is no UTF-8: {problem}") from problem
        self._text, self._place = self._text[self._place :] + text, 0
        return True


_DECODER = json.JSONDecoder()


def array_elements(chunks: Iterable[bytes]) -> Iterator[Any]:
    """The elements of a file that is one JSON array.

    Raises:
        UnreadableError: it is none, or it is cut.
    """
    stream = JsonStream(chunks)
    stream.take("[")
    if stream.sign() == "]":
        return
    while True:
        yield stream.value()
        if stream.take(",", "]") == "]":
            return


@dataclass(frozen=True, kw_only=True)
class Child:
    """A child execution.

    Args:
        status: `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED` or `PENDING`.
        execution: Its ARN, None where it was never started.
        input: JSON.
        output: JSON, `null` where there is none.
        error: The error's name, may be empty.
        cause: What was said about it, may be empty or cut.
    """

    status: str
    execution: str | None
    input: str
    output: str
    error: str
    cause: str

    @classmethod
    def read(cls, record: object) -> "Child":
        """Reads an element of a file of results. What is missing is empty: the item's fate is known all the same."""
        fields = as_object(record)
        return cls(
            status=as_text(fields.get("Status")),
            execution=as_text(fields.get("ExecutionArn")) or None,
            input=_json_text(fields.get("Input")),
            output=_json_text(fields.get("Output")),
            error=as_text(fields.get("Error")),
            cause=as_text(fields.get("Cause")),
        )

    @property
    def items(self) -> list[str]:
        """Its items as JSON, as they were before anything was added to them.

        Raises:
            UnreadableError: its input is not readable.
        """
        fields = self._fields()
        if not _is_batch(fields):
            return [fields.get("item", self.input)]
        try:
            return list(elements(fields["Items"]))
        except ValueError as problem:
            raise UnreadableError(f"the input of {self.execution or 'a child'} is not readable: {problem}") from problem

    @property
    def is_batch(self) -> bool:
        """Whether it was given a list of items, if only of one.

        Raises:
            UnreadableError: its input is not readable.
        """
        # Most inputs need not be taken apart to know it.
        return '"Items"' in self.input and _is_batch(self._fields())

    def _fields(self) -> dict[str, str]:
        """Its input's members. An input that is no object is an item that nothing was added to."""
        if not self.input.lstrip().startswith("{"):
            return {}
        try:
            return members(self.input)
        except (ValueError, RecursionError) as problem:
            raise UnreadableError(f"the input of {self.execution or 'a child'} is not readable: {problem}") from problem


def _is_batch(fields: Mapping[str, str]) -> bool:
    return "Items" in fields and set(fields) <= {"Items", "BatchInput"}


def _json_text(value: object) -> str:
    """Inputs and outputs are texts; should one ever come as it is, it is taken as well."""
    return value if isinstance(value, str) else json.dumps(value)

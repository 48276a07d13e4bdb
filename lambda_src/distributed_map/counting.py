"""Counts the items of a file as the reader of a map does, without keeping them. Pure.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html
"""

import codecs
import importlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from distributed_map.results import JsonStream, UnreadableError

DELIMITERS = {"COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "SPACE": " ", "TAB": "\t"}
"""By the words of the reader's configuration."""

PARQUET_END = 8
"""Bytes at the end of a Parquet file: the footer's length, and a mark."""


def csv_rows(chunks: Iterable[bytes]) -> int:
    """Rows of delimited text that are not empty, a header included. Newlines between double quotes separate nothing."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rows, quoted, has_text, rest = 0, False, False, ""
    for chunk in chunks:
        text = rest + decoder.decode(chunk)
        # A backslash belongs to what follows it.
        rest = "\\" if (len(text) - len(text.rstrip("\\"))) % 2 else ""
        for found in _CSV_SIGNS.finditer(text, 0, len(text) - len(rest)):
            sign = found[0]
            if sign == "\n" and not quoted:
                rows += has_text
                has_text = False
            else:
                has_text = True
                quoted ^= sign == '"'
    return rows + (has_text or bool(rest))


_CSV_SIGNS = re.compile(r'\\[\\"]|"|\n|[^"\\\r\n]+|\\')


def json_items(chunks: Iterable[bytes]) -> int:
    """The elements of a JSON array, or the members of a JSON object.

    Raises:
        UnreadableError: it is neither.
    """
    stream = JsonStream(chunks)
    opening = stream.take("[", "{")
    closing = {"[": "]", "{": "}"}[opening]
    count = 0
    while stream.sign() != closing:
        stream.value()
        if opening == "{":
            stream.take(":")
            stream.value()
        count += 1
        if stream.take(",", closing) == closing:
            break
    return count


def json_lines(chunks: Iterable[bytes]) -> int:
    """The lines that are not empty."""
    lines, has_text = 0, False
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        has_text |= bool(first.strip())
        for line in others:
            lines += has_text
            has_text = bool(line.strip())
    return lines + has_text


def decompressed(chunks: Iterable[bytes], key: str) -> Iterator[bytes]:
    """The bytes of a file as they were before it was compressed: `.gz`, `.zst` and `.zstd` by the end of its key.

    Raises:
        UnreadableError: it is not compressed, it is cut, or this Python knows no zstd.
    """
    if key.endswith(".gz"):
        return _inflated(chunks, lambda: zlib.decompressobj(wbits=31), zlib.error)
    if key.endswith((".zst", ".zstd")):
        try:
            zstd: Any = importlib.import_module("compression.zstd")
        except ImportError as problem:
            raise UnreadableError("zstd is not known here") from problem
        return _inflated(chunks, zstd.ZstdDecompressor, zstd.ZstdError)
    return iter(chunks)


def _inflated(chunks: Iterable[bytes], new: Callable[[], Any], problem_type: type[Exception]) -> Iterator[bytes]:
    """A file may have several streams, one after the other."""
    stream, begun = new(), False
    try:
        for chunk in chunks:
            data = chunk
            while data:
                yield stream.decompress(data)
                begun, data = not stream.eof, stream.unused_data
                if stream.eof:
                    stream = new()
    except problem_type as problem:
        raise UnreadableError(f"it cannot be decompressed: {problem}") from problem
    if begun:
        raise UnreadableError("it cannot be decompressed: the end is missing")


# --- Parquet: https://github.com/apache/parquet-format --------------------------------------------------------------


def parquet_footer_length(end: bytes) -> int:
    """The bytes of the footer, which stands before the last 8 bytes of the file.

    Raises:
        UnreadableError: it is no Parquet file, or it is encrypted.
    """
    if len(end) < PARQUET_END or end[-4:] != b"PAR1":
        raise UnreadableError("it is no Parquet file, or its footer is encrypted")
    return int.from_bytes(end[-8:-4], "little")


def parquet_rows(footer: bytes) -> int:
    """The number of rows that a footer tells: field 3 of a structure in Thrift's compact protocol.

    Raises:
        UnreadableError: it is no such footer.
    """
    thrift, field = _Thrift(footer), 0
    try:
        while head := thrift.byte():
            field = field + (head >> 4) if head >> 4 else thrift.integer()
            if field == 3:
                rows = thrift.integer()
                if rows >= 0:
                    return rows
                break
            thrift.skip(head & 15)
    except (IndexError, ValueError, RecursionError) as problem:
        raise UnreadableError(f"its footer is not readable: {problem}") from problem
    raise UnreadableError("its footer does not tell the number of rows")


class _Thrift:
    """https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md"""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def byte(self) -> int:
        self._place += 1
        return self._data[self._place - 1]

    def number(self) -> int:
        """Seven bits in each byte, the lowest first."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def integer(self) -> int:
        number = self.number()
        return number >> 1 ^ -(number & 1)

    def skip(self, kind: int) -> None:
        match kind:
            case 1 | 2:  # true and false, which are the type itself
                pass
            case 3:
                self._place += 1
            case 4 | 5 | 6:
                self.number()
            case 7:
                self._place += 8
            case 8:
                length = self.number()
                self._place += length
            case 9 | 10:
                head = self.byte()
                for _ in range(self.number() if head >> 4 == 15 else head >> 4):
                    self._skip_element(head & 15)
            case 11:
                size = self.number()
                kinds = self.byte() if size else 0
                for _ in range(size):
                    self._skip_element(kinds >> 4)
                    self._skip_element(kinds & 15)
            case 12:
                while head := self.byte():
                    if not head >> 4:
                        self.integer()
                    self.skip(head & 15)
            case _:
                raise ValueError(f"there is no type {kind}")

    def _skip_element(self, kind: int) -> None:
        if kind in (1, 2):  # In a collection each of them is a byte.
            self._place += 1
        else:
            self.skip(kind)

"""Writes items so that the reader of a map reads them again as they were. Pure.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from hashlib import md5
from typing import Any, Protocol

from distributed_map.counting import DELIMITERS
from json_text import one_line

Write = Callable[[bytes], None]


class ItemFile(Protocol):
    """A file of items: `add` for each of them as JSON, then `end`."""

    def add(self, item: str) -> None: ...
    def end(self) -> None: ...


class JsonLinesFile:
    """One item a line."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def add(self, item: str) -> None:
        self._write(f"{one_line(item)}\n".encode())

    def end(self) -> None:
        pass


class JsonArrayFile:
    """One JSON array, for people with one item a line."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._before = "[\n"

    def add(self, item: str) -> None:
        self._write(f"{self._before}{one_line(item)}".encode())
        self._before = ",\n"

    def end(self) -> None:
        self._write(b"[]\n" if self._before == "[\n" else b"\n]\n")


class CsvFile:
    """Delimited text, as its reader has made items of it: every item has the columns of the first one.

    Args:
        headers: The columns where the reader knows them without the file, which then has no header.
        delimiter: The word of the reader's configuration.
    """

    def __init__(self, write: Write, *, headers: Sequence[str] | None = None, delimiter: str | None = None) -> None:
        self._write = write
        self._delimiter = DELIMITERS[delimiter or "COMMA"]
        self._columns = list(headers) if headers else []

    def add(self, item: str) -> None:
        row = _object(item)
        if not self._columns:
            self._columns = list(row)
            self._write_row(self._columns)
        self._write_row([_text(row.get(column, "")) for column in self._columns])

    def end(self) -> None:
        pass

    def _write_row(self, row: Sequence[str]) -> None:
        fields = [self._field(value) for value in row]
        # A row of one empty field would be an empty line, which is no row.
        line = self._delimiter.join(fields) or '""'
        self._write(f"{line}\n".encode(errors="replace"))

    def _field(self, value: str) -> str:
        special = any(sign in value for sign in (self._delimiter, '"', "\\", "\n", "\r"))
        return _quoted(value) if special or value != value.strip() else value


class InventoryRows:
    """The rows of an S3 inventory, compressed: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html"""

    def __init__(self, write: Write) -> None:
        self._write = write
        # Without a time in it: the same items are the same file.
        self._gzip = zlib.compressobj(wbits=31)
        self._md5, self._size = md5(usedforsecurity=False), 0
        self._columns: list[str] = []

    def add(self, item: str) -> None:
        row = _object(item)
        self._columns = self._columns or list(row)
        line = ",".join(_quoted(_text(row.get(column, ""))) for column in self._columns)
        self._send(self._gzip.compress(f"{line}\n".encode(errors="replace")))

    def end(self) -> None:
        self._send(self._gzip.flush())

    def manifest(self, *, partition: str, bucket: str, key: str, created_at: float) -> dict[str, Any]:
        """The manifest of these rows, which lie in a bucket at a key. To be asked for at the end.

        Args:
            created_at: Seconds since the epoch.
        """
        file = {"key": key, "size": self._size, "MD5checksum": self._md5.hexdigest()}
        return {
            "sourceBucket": bucket,
            "destinationBucket": f"arn:{partition}:s3:::{bucket}",
            "version": "2016-11-30",
            "creationTimestamp": str(round(created_at * 1000)),
            "fileFormat": "CSV",
            "fileSchema": ", ".join(self._columns),
            "files": [file] if self._columns else [],
        }

    def _send(self, data: bytes) -> None:
        if data:
            self._md5.update(data)
            self._size += len(data)
            self._write(data)


def _object(item: str) -> Mapping[str, Any]:
    row = json.loads(item)
    if not isinstance(row, dict):
        raise ValueError(f"an item of a file with columns must be an object, got {item[:200]}")
    return row


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(value: str) -> str:
    """As Step Functions reads it: for it backslashes are special, too."""
    escaped = value.replace("\\", "\\\\").replace('"', '""')
    return f'"{escaped}"'

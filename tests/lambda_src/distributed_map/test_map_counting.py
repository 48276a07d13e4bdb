"""A dry run counts what the reader of a map would read."""

import csv
import gzip
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_map.counting import (
    csv_rows,
    decompressed,
    json_items,
    json_lines,
    parquet_footer_length,
    parquet_rows,
)
from distributed_map.results import UnreadableError
from tests.lambda_src.distributed_map.parquet_files import footer, parquet


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[first : first + size] for first in range(0, len(data), size))


CSV: list[tuple[str, int]] = [
    ("", 0),
    ("\n\n", 0),
    ("a,b", 1),
    ("a,b\n", 1),
    ("a,b\r\n1,2\r\n", 2),
    ("a,b\n\n1,2\n", 2),
    ('a,b\n"1\n2",3\n4,5', 3),
    ('a\n"say ""hi\n"""\nb', 3),
    ('a\n""\n', 2),
    ('a\nback\\"slash\nb\n', 3),
    ('a\n"back\\\\"\nb\n', 3),
    ("a\nC:\\\\dir\\\\\nb\n", 3),
    ("a\n🎉,é\n", 2),
    ("\ufeffa\nb\n", 2),
    ("a\nb\\", 2),
]


@pytest.mark.parametrize(("text", "rows"), CSV)
def test_rows_of_delimited_text_are_counted(text: str, rows: int) -> None:
    for size in (1, 2, 3, 1000):
        assert csv_rows(pieces(text.encode(), size)) == rows


@settings(deadline=None)
@given(st.lists(st.lists(st.text('a,"\n é', max_size=6), min_size=2, max_size=3), max_size=6), st.integers(1, 20))
def test_whatever_is_written_between_quotes_a_row_is_a_row(rows: list[list[str]], size: int) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)

    assert csv_rows(pieces(file.getvalue().encode(), size)) == len(rows)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("[]", 0),
        (" [ ] ", 0),
        ("{}", 0),
        ("[1, 23, 456]", 3),
        ('[{"a": [1, 2]}, "x", null, [[]]]', 4),
        ('{"a": 1, "b": {"c": 2}}', 2),
    ],
)
def test_items_of_json_are_counted(text: str, items: int) -> None:
    for size in (1, 2, 5, 1000):
        assert json_items(pieces(text.encode(), size)) == items


@pytest.mark.parametrize("text", ["", "7", '"text"', "[1", '{"a": 1', '{"a"}', "[1, x]"])
def test_json_without_items_is_not_readable(text: str) -> None:
    with pytest.raises(UnreadableError):
        json_items([text.encode()])


@pytest.mark.parametrize(
    ("text", "lines"), [("", 0), ("\n \n", 0), ("{}", 1), ("{}\n", 1), ("{}\r\n\r\n{}\n", 2), ("1\n2\n3", 3)]
)
def test_lines_of_json_are_counted(text: str, lines: int) -> None:
    for size in (1, 2, 5, 1000):
        assert json_lines(pieces(text.encode(), size)) == lines


def test_a_compressed_file_is_counted_too() -> None:
    # Of several streams, as some writers make them.
    data = gzip.compress(b"a\nb\n") + gzip.compress(b"c\n")

    for size in (1, 7, 1000):
        assert json_lines(decompressed(pieces(data, size), "in/a.jsonl.gz")) == 3


@pytest.mark.parametrize("data", [b"plain text", gzip.compress(b"a" * 1000, mtime=0)[:-9]], ids=["plain", "cut"])
def test_a_compressed_file_that_is_none_or_cut_is_not_readable(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="cannot be decompressed"):
        json_lines(decompressed([data], "a.gz"))


class FakeZstd:
    """Python knows zstd from version 3.14 on."""

    ZstdError = ValueError

    class ZstdDecompressor:
        def __init__(self) -> None:
            self.eof, self.unused_data = False, b""

        def decompress(self, data: bytes) -> bytes:
            self.eof = data.endswith(b"#")
            return data.removesuffix(b"#")


@pytest.mark.parametrize("key", ["a.csv.zst", "a.csv.zstd"])
def test_zstd_is_counted_where_python_knows_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda _name: FakeZstd)

    assert csv_rows(decompressed([b"a\nb\n", b"c\n#"], key)) == 3


def test_zstd_is_not_readable_where_python_does_not_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compression", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)

    with pytest.raises(UnreadableError, match="zstd is not known here"):
        decompressed([], "a.csv.zst")


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 10_000_000_000])
@pytest.mark.parametrize("columns", [0, 3, 14, 15, 40])
def test_the_rows_of_a_parquet_file_stand_in_its_footer(rows: int, columns: int) -> None:
    data = parquet(rows, columns=columns)

    length = parquet_footer_length(data[-8:])

    assert parquet_rows(data[-8 - length : -8]) == rows


@pytest.mark.parametrize("end", [b"", b"PAR1", b"\0\0\0\0PARE", b"12345678"])
def test_what_is_no_parquet_file_is_not_readable(end: bytes) -> None:
    with pytest.raises(UnreadableError, match="no Parquet file"):
        parquet_footer_length(end)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff" * 50, footer(7)[:5], footer(7)[:40], footer(7, rows_field=False), footer(-1)]
)
def test_a_footer_that_is_cut_or_says_nothing_is_not_readable(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="footer"):
        parquet_rows(data)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_footer_keeps_the_count_busy(data: bytes) -> None:
    with suppress(UnreadableError):
        parquet_rows(data)


@pytest.mark.parametrize("count", [csv_rows, json_lines])
def test_a_very_long_line_is_no_trouble(count: Callable[[Iterable[bytes]], int]) -> None:
    assert count(pieces(json.dumps("x" * 3_000_000).encode(), 65536)) == 1

"""Items that are written are read again as they were."""

import gzip
import json
from collections.abc import Callable
from hashlib import md5
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_map.counting import csv_rows, json_items, json_lines
from distributed_map.formats import CsvFile, InventoryRows, ItemFile, JsonArrayFile, JsonLinesFile
from tests.lambda_src.pipeline.events import ODD_KEYS

ITEMS = [{"Key": key, "Size": "12"} for key in (*ODD_KEYS, 'C:\\new "dir"\\', "a\r\nb", "\\", '"', " x ", "")]


def written(make: Callable[[Callable[[bytes], None]], ItemFile], items: list[Any]) -> bytes:
    data = bytearray()
    file = make(data.extend)
    for each in items:
        file.add(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False))
    file.end()
    return bytes(data)


def rows_as_step_functions_reads_them(text: str, delimiter: str) -> list[list[str]]:
    """By the rules of the Step Functions Developer Guide, "ItemReader (Map)", CSV file in an Amazon S3 bucket."""
    rows: list[list[str]] = [[""]]
    quoted = empty = False
    place = 0
    while place < len(text):
        sign, following = text[place], text[place + 1 : place + 2]
        if sign == "\\":
            # Only these can be escaped; before anything else it is dropped.
            if following in ("\\", '"', delimiter):
                rows[-1][-1] += following
                place += 1
        elif sign == '"' and quoted and following == '"':
            rows[-1][-1] += '"'
            place += 1
        elif sign == '"':
            quoted, empty = not quoted, True
        elif sign == delimiter and not quoted:
            rows[-1].append("")
        elif sign == "\n" and not quoted:
            if rows[-1] == [""] and not empty:
                rows.pop()
            rows.append([""])
            empty = False
        else:
            rows[-1][-1] += sign
        place += 1
    return rows[:-1] if rows[-1] == [""] and not empty else rows


def items_of_csv(data: bytes, delimiter: str = ",", headers: list[str] | None = None) -> list[dict[str, str]]:
    rows = rows_as_step_functions_reads_them(data.decode(), delimiter)
    if headers is None:
        headers, rows = (rows[0], rows[1:]) if rows else ([], [])
    return [dict(zip(headers, row, strict=True)) for row in rows]


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_json_lines_are_one_item_each() -> None:
    items = [*ITEMS, 1, None, [1], {"text": "a\nb\u2028c"}]

    data = written(JsonLinesFile, items)

    assert [json.loads(line) for line in data.decode().splitlines()] == items
    assert json_lines([data]) == len(items)


def test_numbers_stay_as_they_were_written() -> None:
    assert written(JsonLinesFile, ['{"price": 1.10, "big": 1e400}']) == b'{"price": 1.10, "big": 1e400}\n'


@pytest.mark.parametrize("items", [[], [1], ITEMS])
def test_an_array_of_json_is_one(items: list[Any]) -> None:
    data = written(JsonArrayFile, items)

    assert json.loads(data) == items
    assert json_items([data]) == len(items)


# --- delimited text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "delimiter"),
    [(None, ","), ("COMMA", ","), ("PIPE", "|"), ("SEMICOLON", ";"), ("SPACE", " "), ("TAB", "\t")],
)
def test_rows_are_read_as_they_were(word: str | None, delimiter: str) -> None:
    data = written(lambda write: CsvFile(write, delimiter=word), ITEMS)

    assert items_of_csv(data, delimiter) == ITEMS
    assert csv_rows([data]) == len(ITEMS) + 1


def test_without_a_header_the_columns_are_in_the_order_of_the_reader() -> None:
    headers = ["Size", "Key"]

    data = written(lambda write: CsvFile(write, headers=headers), ITEMS)

    assert items_of_csv(data, headers=headers) == ITEMS
    assert csv_rows([data]) == len(ITEMS)


def test_one_column_may_be_empty() -> None:
    items = [{"a": ""}, {"a": "x"}, {"a": ""}]

    data = written(CsvFile, items)

    assert data == b'a\n""\nx\n""\n'
    assert items_of_csv(data) == items


def test_columns_come_in_any_order_and_other_values_are_text() -> None:
    items = [{"a": "1", "b": "2"}, {"b": "4", "a": 3}, {"a": None}]

    assert written(CsvFile, items) == b"a,b\n1,2\n3,4\nnull,\n"


def test_nothing_is_an_empty_file() -> None:
    assert written(CsvFile, []) == b""
    assert written(JsonLinesFile, []) == b""


@settings(deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"a": st.text(), "b c": st.text('a"\\,;| \n\r\t', max_size=8)}), max_size=5),
    st.sampled_from(["COMMA", "PIPE", "SEMICOLON", "SPACE", "TAB"]),
)
def test_whatever_is_in_a_field_is_read_again(items: list[dict[str, str]], word: str) -> None:
    delimiter = {"COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "SPACE": " ", "TAB": "\t"}[word]
    data = written(lambda write: CsvFile(write, delimiter=word), items)

    assert items_of_csv(data, delimiter) == items
    assert csv_rows([data]) == (len(items) + 1 if items else 0)


def test_an_item_that_is_no_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be an object, got 7"):
        written(CsvFile, [7])


# --- an inventory -----------------------------------------------------------------------------------------------------


def test_an_inventory_has_rows_and_a_manifest() -> None:
    items = [
        {"Bucket": "b", "Key": "in/a%20b.csv", "Size": "1", "LastModifiedDate": "2022-11-16T00:27:19.000Z"},
        {"Bucket": "b", "LastModifiedDate": "", "Size": "2", "Key": 'in/"q".csv'},
    ]
    data = bytearray()
    file = InventoryRows(data.extend)
    for each in items:
        file.add(json.dumps(each))
    file.end()

    manifest = file.manifest(partition="aws-cn", bucket="results", key="runs/a/failed/items.csv.gz", created_at=1.5)

    assert manifest == {
        "sourceBucket": "results",
        "destinationBucket": "arn:aws-cn:s3:::results",
        "version": "2016-11-30",
        "creationTimestamp": "1500",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, LastModifiedDate",
        "files": [
            {"key": "runs/a/failed/items.csv.gz", "size": len(data), "MD5checksum": md5(bytes(data)).hexdigest()}
        ],
    }
    columns = manifest["fileSchema"].split(", ")
    assert items_of_csv(gzip.decompress(data), headers=columns) == items


def test_an_inventory_of_nothing_has_no_files() -> None:
    file = InventoryRows(lambda _: None)
    file.end()

    assert file.manifest(partition="aws", bucket="b", key="k", created_at=0)["files"] == []


def test_the_same_rows_are_the_same_file() -> None:
    assert written(InventoryRows, ITEMS) == written(InventoryRows, ITEMS)

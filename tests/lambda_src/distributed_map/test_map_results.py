"""Files of results of any length are read a piece at a time."""

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_map.reckoning import Reckoner
from distributed_map.results import Child, UnreadableError, array_elements
from tests.lambda_src.distributed_map.world import batch, child, raised

MIB = 1024 * 1024


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[first : first + size] for first in range(0, len(data), size))


@settings(deadline=None)
@given(
    st.lists(
        st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.dictionaries(st.text(max_size=5), st.text(), max_size=3)
    ),
    st.integers(1, 40),
    st.sampled_from((None, 1)),
)
def test_however_the_bytes_come_the_elements_are_the_same(array: list[Any], size: int, indent: int | None) -> None:
    data = json.dumps(array, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        data = json.dumps(array, indent=indent).encode()

    assert list(array_elements(pieces(data, size))) == array


@pytest.mark.parametrize(
    ("data", "read", "why"),
    [
        (b"", [], "the end is missing"),
        (b"{}", [], "[ was expected, not {"),
        (b"[1, 2", [1, 2], "the end is missing"),
        (b"[1, 2,", [1, 2], "a value is cut, or no JSON"),
        (b'[{"a": 1}, {"b": "cut', [{"a": 1}], "a value is cut, or no JSON"),
        (b"[1 2]", [1], ", or ] was expected, not 2"),
        (b"[1, x]", [1], "a value is cut, or no JSON"),
        (b'[1, "\xff"]', [], "it is no UTF-8"),
        (b'[1, "\xc3', [1], "it is no UTF-8"),
        (b"[" * 100_000, [], "it is nested too deeply"),
    ],
)
def test_of_a_file_that_is_cut_or_wrong_all_before_that_is_read(data: bytes, read: list[Any], why: str) -> None:
    found: list[Any] = []
    with pytest.raises(UnreadableError) as raised_:
        found.extend(array_elements([data]))

    assert found == read
    assert str(raised_.value).startswith(why)


def test_50_mb_are_read_in_little_memory() -> None:
    """So any length is: nothing is kept but sums, and what stands in one chunk."""
    record = json.dumps([child({"Key": "k" * 400}, output={"text": "é" * 700})]).encode()[1:-1]
    count = 50 * MIB // len(record)

    def file() -> Iterator[bytes]:
        rest = b"["
        for number in range(count):
            rest += record + (b"," if number < count - 1 else b"]")
            while len(rest) >= MIB:
                yield rest[:MIB]
                rest = rest[MIB:]
        yield rest

    reckoner = Reckoner(again=lambda _: None, failure=lambda _: None, notice=lambda _: None)
    tracemalloc.start()
    try:
        for each in array_elements(file()):
            reckoner.add(Child.read(each))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert reckoner.counts.succeeded == count
    assert peak < 12 * MIB


# --- children ---------------------------------------------------------------------------------------------------------


def test_an_item_is_told_from_what_was_added_to_it() -> None:
    record = child({"Key": "a", "price": 1})
    record["Input"] = '{"item": {"Key": "a", "price": 1.10}, "run": {"date": "2026-11-21"}, "constants": {"Items": []}}'

    assert Child.read(record).items == ['{"Key": "a", "price": 1.10}']
    assert not Child.read(record).is_batch


def test_a_batch_has_its_items() -> None:
    found = Child.read(batch([{"Key": "a"}, "b", 3]))

    assert found.items == ['{"Key": "a"}', '"b"', "3"]
    assert found.is_batch


@pytest.mark.parametrize("item", [{"Items": [1], "BatchInput": {}}, {"item": 1}, [1, 2], "text", None, 7])
def test_an_item_may_look_like_anything(item: Any) -> None:
    assert [json.loads(each) for each in Child.read(child(item)).items] == [item]


@pytest.mark.parametrize("given_", ["text", '"text"', "[1]", "7", '{"other": 1}'])
def test_an_input_that_nothing_was_added_to_is_the_item(given_: str) -> None:
    assert Child.read({"Status": "FAILED", "Input": given_}).items == [given_]


@pytest.mark.parametrize("given_", ['{"Items": [1, ', '{"item"', '{"Items": 7, "BatchInput": {}}', "{" * 100_000])
def test_an_input_that_is_cut_is_not_readable(given_: str) -> None:
    with pytest.raises(UnreadableError, match="is not readable"):
        _ = Child.read({"Status": "FAILED", "Input": given_}).items


@pytest.mark.parametrize("record", [{}, None, 7, {"Status": 1, "Input": None, "Error": {}}])
def test_a_record_of_an_odd_shape_is_no_error(record: Any) -> None:
    found = Child.read(record)

    assert (found.status, found.error, found.execution) == ("", "", None)


def test_error_and_cause_are_read() -> None:
    found = Child.read(child("a", "FAILED", error="ValueError", cause=raised("ValueError", "no")))

    assert (found.status, found.error) == ("FAILED", "ValueError")
    assert json.loads(found.cause)["errorMessage"] == "no"

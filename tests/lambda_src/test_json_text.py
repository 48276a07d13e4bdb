"""JSON is taken apart, and its pieces stay as they were."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from json_text import elements, members, one_line

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


def test_the_members_stay_as_they_were_written() -> None:
    text = ' {"price": 1.10, "big" : 1e400 ,"text":"\\ud83d, }" , "list":[ 1,2 ]} '

    assert members(text) == {"price": "1.10", "big": "1e400", "text": '"\\ud83d, }"', "list": "[ 1,2 ]"}
    assert members("{}") == {}


def test_the_elements_stay_as_they_were_written() -> None:
    assert list(elements(' [1.10 , {"a": "]"},[ ], "\\u00e9" ] ')) == ["1.10", '{"a": "]"}', "[ ]", '"\\u00e9"']
    assert list(elements("[ ]")) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a"}', '{"a": 1', '{"a": 1}}', "{1: 2}", '{"a": NaN}', '{"a": 1,}'])
def test_what_is_no_object_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        members(text)


@pytest.mark.parametrize("text", ["", "{}", "[", "[1", "[1,]", "[1]]", "[1 2]", "[Infinity]"])
def test_what_is_no_array_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(elements(text))


@settings(deadline=None)
@given(VALUES)
def test_one_line_is_the_same_value_for_every_reader_of_lines(value: object) -> None:
    for indent in (None, 2):
        line = one_line(json.dumps(value, indent=indent, ensure_ascii=False))

        assert json.loads(line) == value
        assert line.isascii()
        assert len(line.splitlines()) == 1


def test_half_of_a_character_and_odd_line_ends_survive() -> None:
    assert one_line('"\ud83d \u2028 \x85"') == '"\\ud83d \\u2028 \\u0085"'


@settings(deadline=None)
@given(st.lists(VALUES, max_size=5), st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_the_pieces_are_the_whole(array: list[object], mapping: dict[str, object]) -> None:
    assert [json.loads(each) for each in elements(json.dumps(array))] == array
    assert {name: json.loads(each) for name, each in members(json.dumps(mapping)).items()} == mapping

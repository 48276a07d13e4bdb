"""Texts with wildcards, against the matching that Python brings along."""

import fnmatch
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constructs_lib.parts.wildcards import ANY, beginning, escaped, have_common_text, matches, read

LETTERS = "ab"
TEXTS = ["".join(letters) for length in range(6) for letters in product(LETTERS, repeat=length)]
wildcards = st.text(alphabet="ab*", max_size=5).map(lambda text: re.sub(r"\*+", "*", text))


@given(wildcards)
def test_it_matches_as_pythons_own_does(wildcard: str) -> None:
    for text in TEXTS:
        assert matches(read(wildcard), text) == fnmatch.fnmatchcase(text, wildcard), text


@given(wildcards, wildcards)
def test_two_have_a_text_in_common_exactly_if_there_is_one(one: str, other: str) -> None:
    # No two of at most five characters need more than all of them.
    longest = ["".join(letters) for length in range(9) for letters in product(LETTERS, repeat=length)]
    found = any(fnmatch.fnmatchcase(text, one) and fnmatch.fnmatchcase(text, other) for text in longest)
    assert have_common_text(read(one), read(other)) == found
    assert have_common_text(read(other), read(one)) == found


@given(st.text())
def test_a_text_that_is_escaped_matches_itself_alone(text: str) -> None:
    assert read(escaped(text)) == tuple(text)
    assert matches(read(escaped(text)), text)
    assert not matches(read(escaped(text)), text + "x")


def test_what_is_escaped_is_meant() -> None:
    assert read(r"a\*b\\*") == ("a", "*", "b", "\\", ANY)


@pytest.mark.parametrize(
    ("wildcard", "problem"),
    [
        ("a**b", r"two \* must not follow each other"),
        (r"a\b", "a backslash must be followed by"),
        ("a\\", "a backslash must be followed by"),
    ],
)
def test_what_eventbridge_refuses_is_not_read(wildcard: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read(wildcard)


def test_the_beginning_is_what_stands_before_the_first_wildcard() -> None:
    assert beginning(read("in/*.csv")) == "in/"
    assert beginning(read("*")) == ""
    assert beginning(read(r"in/\**")) == "in/*"


def test_a_key_may_have_the_greatest_length() -> None:
    assert have_common_text(read("a" * 1024), read("*" + "a" * 1023))

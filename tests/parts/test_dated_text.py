"""Texts with a date in them: what a run fills in is what was checked, and what policies allow is what it may be."""

import fnmatch
import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constructs_lib import ConfigurationError
from constructs_lib.parts.dated_text import as_resource, check_dated
from distributed_map.dates import resolved

ACCEPTED = [
    "in/",
    "in/{date}/",
    "in/{date:%Y/%m/%d}/",
    "{date:%Y}-{date:%j}.csv",
    "{{literal}}/{date:%G-W%V}",
    "100%/{date:%d%%}",
    "ü/{date:%B %-d}",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_the_function_fills_in_what_was_accepted(text: str) -> None:
    check_dated("Here", "key", text)
    for day in (date(2026, 1, 1), date(2028, 2, 29), date(2028, 9, 20)):
        assert resolved(text, day) == text.format(date=day)


@given(st.text(alphabet="a/{}%Ydat:e!.", max_size=12))
def test_what_is_accepted_can_be_filled_in(text: str) -> None:
    try:
        check_dated("Here", "key", text)
    except ConfigurationError:
        return
    assert resolved(text, date(2026, 11, 21))


@given(st.lists(st.sampled_from(["a", "/", "*", "?", "$", "{{", "}}", "{date}", "{date:%Y/%m}"]), min_size=1))
def test_the_resource_of_a_policy_matches_every_day(parts: list[str]) -> None:
    text = "".join(parts)
    resource = as_resource(text)
    # Neither a variable of a policy nor more wildcards than days.
    assert "${" not in resource
    assert resource.count("*") == sum(part.startswith("{d") for part in parts)
    for day in (date(2026, 1, 1), date(2028, 9, 20)):
        assert fnmatch.fnmatchcase(text.format(date=day), resource)


@pytest.mark.parametrize(
    "text", ["", "x" * 1025, "{", "}", "{0}", "{date:%H}", "{date:{date}}", "{date!s}", "{date:%", 5]
)
def test_what_a_run_could_not_fill_in_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape("Here: key ")):
        check_dated("Here", "key", text)


def test_a_text_may_be_empty_where_that_makes_sense() -> None:
    check_dated("Here", "prefix", "", empty=True)

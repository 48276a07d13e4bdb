"""A backfill takes what the rule in EventBridge takes."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded_aws import EmbeddedAws
from pipeline.filters import matches

NONE: dict[str, Any] = {"prefixes": [], "suffixes": [], "wildcards": [], "minSize": None, "maxSize": None}

CASES: list[tuple[dict[str, Any], str, bool]] = [
    ({}, "any", True),
    ({"prefixes": ["in/"]}, "in/a.csv", True),
    ({"prefixes": ["in/"]}, "in/", True),
    ({"prefixes": ["in/"]}, "In/a.csv", False),
    ({"prefixes": ["in/"]}, "out/in/a.csv", False),
    ({"prefixes": ["in/", "also/"]}, "also/a.csv", True),
    ({"suffixes": [".csv"]}, "in/a.csv", True),
    ({"suffixes": [".csv"]}, ".csv", True),
    ({"suffixes": [".csv"]}, "in/a.csv.gz", False),
    ({"suffixes": [".csv"]}, "in/a.CSV", False),
    ({"suffixes": [".csv", ".gz"]}, "in/a.csv.gz", True),
    ({"prefixes": ["in/"], "suffixes": [".csv"]}, "in/a.csv", True),
    ({"prefixes": ["in/"], "suffixes": [".csv"]}, "in/.csv", True),
    ({"prefixes": ["in/"], "suffixes": [".csv"]}, "in/a.txt", False),
    ({"prefixes": ["in/"], "suffixes": [".csv"]}, "out/a.csv", False),
    ({"prefixes": ["in/", "also/"], "suffixes": [".csv", ".txt"]}, "also/a.txt", True),
    # One wildcard `a/*/`, whose two slashes are two characters.
    ({"prefixes": ["a/"], "suffixes": ["/"]}, "a/", False),
    ({"prefixes": ["a/"], "suffixes": ["/"]}, "a//", True),
    # Stars of a prefix or suffix are stars of the key.
    ({"prefixes": ["a*/"], "suffixes": [".csv"]}, "a*/1.csv", True),
    ({"prefixes": ["a*/"], "suffixes": [".csv"]}, "ab/1.csv", False),
    ({"wildcards": ["in/*/data.csv"]}, "in/1/data.csv", True),
    ({"wildcards": ["in/*/data.csv"]}, "in/1/2/data.csv", True),
    ({"wildcards": ["in/*/data.csv"]}, "in//data.csv", True),
    ({"wildcards": ["in/*/data.csv"]}, "in/data.csv", False),
    ({"wildcards": ["in/*/data.csv"]}, "in/1/data.csv.gz", False),
    ({"wildcards": ["*"]}, "anything", True),
    ({"wildcards": ["*.csv"]}, ".csv", True),
    ({"wildcards": ["*a*a*"]}, "a", False),
    ({"wildcards": ["*a*a*"]}, "banana", True),
    ({"wildcards": ["*ab*ab"]}, "abab", True),
    ({"wildcards": ["*ab*ab"]}, "xabxab", True),
    ({"wildcards": ["*ab*ab"]}, "xab", False),
    ({"wildcards": ["exact.csv"]}, "exact.csv", True),
    ({"wildcards": ["exact.csv"]}, "exact.csv2", False),
    ({"wildcards": ["a.csv"]}, "a-csv", False),
    ({"wildcards": [r"in/\*/*"]}, "in/*/a", True),
    ({"wildcards": [r"in/\*/*"]}, "in/1/a", False),
    ({"wildcards": [r"in\\*"]}, "in\\a", True),
    ({"wildcards": [r"in\\*"]}, "in*", False),
    ({"wildcards": ["*.pdf"]}, "受信箱/請求書 🎉.pdf", True),
    ({"wildcards": ["a*b"]}, "a\nb", True),
    # Wildcards are one more way in, and the only one where nothing else is given.
    ({"wildcards": ["*.csv"]}, "in/a.txt", False),
    ({"prefixes": ["in/"], "wildcards": ["*.csv"]}, "out/a.csv", True),
    ({"prefixes": ["in/"], "wildcards": ["*.csv"]}, "in/a.txt", True),
    ({"prefixes": ["in/"], "suffixes": [".gz"], "wildcards": ["*.csv"]}, "in/a.txt", False),
]

SIZES: list[tuple[dict[str, Any], int, bool]] = [
    ({"minSize": 1}, 0, False),
    ({"minSize": 1}, 1, True),
    ({"maxSize": 10}, 10, True),
    ({"maxSize": 10}, 11, False),
    ({"maxSize": 0}, 0, True),
    ({"minSize": 5, "maxSize": 10}, 4, False),
    ({"minSize": 5, "maxSize": 10}, 7, True),
    ({"minSize": 5, "maxSize": 10}, 11, False),
    # Sizes hold for every way in.
    ({"minSize": 5, "wildcards": ["in/*"]}, 4, False),
    ({"minSize": 5, "prefixes": ["in/"]}, 4, False),
]


@pytest.mark.parametrize(("filters", "key", "expected"), CASES)
def test_keys_match_as_in_eventbridge(filters: dict[str, Any], key: str, expected: bool) -> None:
    assert matches({**NONE, **filters}, key, 1) is expected


@pytest.mark.parametrize(("filters", "size", "expected"), SIZES)
def test_sizes_match_as_in_eventbridge(filters: dict[str, Any], size: int, expected: bool) -> None:
    assert matches({**NONE, **filters}, "in/a.csv", size) is expected


def pattern(filters: dict[str, Any]) -> dict[str, Any]:
    """The rule's pattern for filters."""
    pairs = [
        {"wildcard": f"{_escaped(prefix)}*{_escaped(suffix)}"}
        for prefix in filters["prefixes"]
        for suffix in filters["suffixes"]
    ]
    single = [{"prefix": prefix} for prefix in filters["prefixes"]] + [{"suffix": each} for each in filters["suffixes"]]
    key = [*(pairs or single), *({"wildcard": wildcard} for wildcard in filters["wildcards"])]
    least = [">=", filters["minSize"]] if filters["minSize"] is not None else []
    most = ["<=", filters["maxSize"]] if filters["maxSize"] is not None else []
    found: dict[str, Any] = {**({"key": key} if key else {})}
    if least or most:
        found["size"] = [{"numeric": [*least, *most]}]
    return {"source": ["aws.s3"], **({"detail": {"object": found}} if found else {})}


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("*", r"\*")


def test_the_emulators_rules_agree(embedded_aws: EmbeddedAws) -> None:
    events = embedded_aws.client("events")
    cases = [(filters, key, 1) for filters, key, _ in CASES] + [
        (filters, "in/a.csv", size) for filters, size, _ in SIZES
    ]
    envelope = {"id": "1", "account": "1", "source": "aws.s3", "time": "2026-11-22T06:00:00Z", "region": "eu-central-1"}

    different = []
    for filters, key, size in cases:
        event = {**envelope, "resources": [], "detail-type": "x", "detail": {"object": {"key": key, "size": size}}}
        every = {**NONE, **filters}
        reply = events.test_event_pattern(EventPattern=json.dumps(pattern(every)), Event=json.dumps(event))
        if reply["Result"] is not matches(every, key, size):
            different.append((filters, key, size))

    assert different == []


def by_recursion(wildcard: str, key: str) -> bool:
    """The meaning of a wildcard without escapes, slow and plain."""
    if not wildcard:
        return not key
    if wildcard[0] == "*":
        return by_recursion(wildcard[1:], key) or (key != "" and by_recursion(wildcard, key[1:]))
    return key[:1] == wildcard[0] and by_recursion(wildcard[1:], key[1:])


@given(st.text("ab*", max_size=7), st.text("ab", max_size=9))
def test_a_wildcard_means_anything_between_its_pieces(wildcard: str, key: str) -> None:
    assert matches({**NONE, "wildcards": [wildcard]}, key, 1) is by_recursion(wildcard, key)


def test_a_wildcard_of_many_stars_is_quick() -> None:
    started = time.perf_counter()

    assert not matches({**NONE, "wildcards": ["*a" * 200 + "b"]}, "a" * 1024, 1)

    assert time.perf_counter() - started < 0.5

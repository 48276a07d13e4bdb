"""Which objects count: the pattern, the JSON, and that both mean the same."""

import json
from typing import Any

import aws_cdk as cdk
import pytest

from constructs_lib.parts.object_filter import ObjectFilter
from pipeline.filters import matches as backfill_matches
from tests.pipelines import bucket

FILTERS = {
    "all": ObjectFilter(),
    "prefixes": ObjectFilter(prefixes=["in/", "new/"]),
    "suffixes": ObjectFilter(suffixes=[".csv"]),
    "both": ObjectFilter(prefixes=["in/", "a*b/"], suffixes=[".csv", "\\"]),
    "wildcards": ObjectFilter(wildcards=["*/x-*.txt", r"star\*"]),
    "prefixes or wildcards": ObjectFilter(prefixes=["in/"], wildcards=["*.txt"]),
    "sizes": ObjectFilter(min_size=1, max_size=10),
}


def detail(name: str, stack: cdk.Stack) -> dict[str, Any]:
    found: Any = FILTERS[name].event_pattern(bucket(stack)).detail
    return dict(found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("all", None),
        ("prefixes", {"key": [{"prefix": "in/"}, {"prefix": "new/"}]}),
        ("suffixes", {"key": [{"suffix": ".csv"}]}),
        (
            "both",
            {
                "key": [
                    {"wildcard": "in/*.csv"},
                    {"wildcard": "in/*\\\\"},
                    {"wildcard": "a\\*b/*.csv"},
                    {"wildcard": "a\\*b/*\\\\"},
                ]
            },
        ),
        ("wildcards", {"key": [{"wildcard": "*/x-*.txt"}, {"wildcard": "star\\*"}]}),
        ("prefixes or wildcards", {"key": [{"prefix": "in/"}, {"wildcard": "*.txt"}]}),
        ("sizes", {"size": [{"numeric": ["<=", 10]}]}),
    ],
)
def test_the_pattern(name: str, expected: dict[str, Any] | None, stack: cdk.Stack) -> None:
    found = detail(name, stack)
    assert found["bucket"] == {"name": ["incoming"]}
    assert found.get("object") == expected


def test_the_pattern_leaves_small_objects_to_the_reader(stack: cdk.Stack) -> None:
    """A lower bound would drop what is larger than EventBridge can count."""
    least: Any = ObjectFilter(min_size=5).event_pattern(bucket(stack)).detail
    assert "object" not in least


def test_the_json_is_what_the_backfill_reads() -> None:
    told = json.loads(json.dumps(FILTERS["both"].as_json()))
    assert told == {
        "prefixes": ["in/", "a*b/"],
        "suffixes": [".csv", "\\"],
        "wildcards": [],
        "minSize": None,
        "maxSize": None,
    }


KEYS = [
    "in/a.csv",
    "in/.csv",
    "in/a.txt",
    "new/a.csv",
    "a*b/c.csv",
    "axb/c.csv",
    "in/x\\",
    "q/x-1.txt",
    "star*",
    "start",
]


@pytest.mark.parametrize("name", FILTERS)
def test_what_the_backfill_takes_is_what_the_checks_reckon_with(name: str) -> None:
    """`keys` stands for the rule at synthesis; the backfill's own matching was written apart from it."""
    filter_ = FILTERS[name]
    for key in KEYS:
        counts = filter_.counts_under(key) != "never"
        # Under a whole key there is the key itself, and longer ones.
        if backfill_matches(filter_.as_json(), key, 5):
            assert counts, key


@pytest.mark.parametrize(
    ("filter_", "prefix", "expected"),
    [
        (ObjectFilter(), "out/", "always"),
        (ObjectFilter(prefixes=["in/"]), "out/", "never"),
        (ObjectFilter(prefixes=["in/"]), "in/", "always"),
        (ObjectFilter(prefixes=["in/"]), "in/done/", "always"),
        # All that starts a job would be ignored.
        (ObjectFilter(prefixes=["data/in/"]), "data/", "always"),
        (ObjectFilter(prefixes=["in"]), "i", "always"),
        (ObjectFilter(suffixes=[".csv"]), "out/", "perhaps"),
        (ObjectFilter(prefixes=["in/"], suffixes=[".csv"]), "out/", "never"),
        (ObjectFilter(prefixes=["in/"], suffixes=[".csv"]), "in/done/", "perhaps"),
        (ObjectFilter(prefixes=["in/"], suffixes=[".csv"]), "in/", "always"),
        (ObjectFilter(wildcards=["*/in/*"]), "x/in/", "always"),
        (ObjectFilter(wildcards=["*/in/*"]), "out/", "perhaps"),
        (ObjectFilter(wildcards=["in/*/a.csv"]), "out/", "never"),
        (ObjectFilter(prefixes=["in/", "new/"]), "new/x/", "always"),
    ],
)
def test_whether_keys_under_a_prefix_count(filter_: ObjectFilter, prefix: str, expected: str) -> None:
    assert filter_.counts_under(prefix) == expected

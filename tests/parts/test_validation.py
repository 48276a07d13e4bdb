"""The checks, apart from the constructs that make them."""

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration

from constructs_lib import ConfigurationError
from constructs_lib.parts.validation import invalid, leads_somewhere, require_duration, require_whole_number


def test_an_error_says_where_what_why_and_what_instead(stack: cdk.Stack) -> None:
    assert str(invalid(stack, "size", "must be small", 9, "Pass 1.")) == "Stack: size must be small, got 9. Pass 1."
    assert str(invalid("Policy", "size", "must be", None, "Do.")) == "Policy: size must be, got None. Do."


def test_the_app_itself_has_a_name_too(app: cdk.App) -> None:
    assert str(invalid(app, "id", "must be unique", "A", "Rename it.")).startswith("App: id")


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("$", True),
        ("$.day", True),
        ("$.night", False),
        ("$.jobs[0].commands", True),
        ("$.jobs[1].commands", False),
        ("$.jobs.commands", False),
        ("$['two words']", True),
        ("$['no words']", False),
        ("$.day.hour", False),
        ("$[0]", False),
        # What only a run can tell.
        ("$..commands", True),
        ("$.jobs[*].nothing", True),
        ("$.jobs[?(@.a==1)]", True),
    ],
)
def test_paths_are_followed(path: str, *, leads: bool) -> None:
    value = {"day": 1, "jobs": [{"commands": ["a"]}], "two words": None}
    assert leads_somewhere(path, value) is leads


def test_paths_into_a_token_are_left_to_the_run(stack: cdk.Stack) -> None:
    token = cdk.CfnParameter(stack, "Job").value
    assert leads_somewhere("$.job.commands", {"job": token})
    assert not leads_somewhere("$.jobs", {"job": token})


@pytest.mark.parametrize("value", [0, 5])
def test_bounds_are_included(value: int) -> None:
    require_whole_number("Here", "count", value, at_least=0, at_most=5)


def test_durations_at_the_bounds_pass() -> None:
    for seconds in (60, 3600):
        require_duration(
            "Here", "wait", Duration.seconds(seconds), at_least=Duration.minutes(1), at_most=Duration.hours(1)
        )


def test_a_token_number_passes_where_the_deployment_may_decide(stack: cdk.Stack) -> None:
    number: Any = cdk.CfnParameter(stack, "Count", type="Number").value_as_number
    require_whole_number(stack, "count", number, at_least=0, at_most=5)
    with pytest.raises(ConfigurationError, match="count must be known at synthesis, got a token"):
        require_whole_number(stack, "count", number, at_least=0, at_most=5, known_at_synthesis=True)

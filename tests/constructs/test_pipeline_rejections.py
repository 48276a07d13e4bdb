"""What cannot work is refused at synthesis, with a message that says what to write instead."""

import re
from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration

from constructs_lib import ConfigurationError, S3TriggeredThrottledPipeline, Semaphore
from tests.pipelines import bucket, chain, fargate_job, imported_function, pipeline
from tests.scheduled import template_of

Options = Callable[[cdk.Stack], dict[str, Any]]

AN_HOUR = "Pass for example Duration.hours(1)."
A_WILDCARD = "Pass for example ['incoming/*.csv']."
OUTPUT = "Pass a prefix that none of prefixes, suffixes and wildcards match, or write to another bucket."


def token(stack: cdk.Stack) -> str:
    return cdk.CfnParameter(stack, "Text").value_as_string


# The message follows the path of the construct and a colon.
REJECTIONS: list[tuple[Options, str]] = [
    # The limit
    (
        lambda stack: {"max_concurrency": None},
        "max_concurrency must be given, or semaphore in its place, and not both, got None. "
        "Pass for example max_concurrency=50.",
    ),
    (
        lambda stack: {"max_concurrency": 5, "semaphore": Semaphore(stack, "Quota", limit=5)},
        "max_concurrency must be given, or semaphore in its place, and not both, got 5. "
        "Pass for example max_concurrency=50.",
    ),
    (
        lambda stack: {"semaphore": 5},
        "semaphore must be of type SharedSemaphore, got 5. Pass for example Semaphore(self, 'Quota', limit=5).",
    ),
    (
        lambda stack: {"semaphore": Semaphore(stack, "Quota", limit=5), "max_starts_per_second": 5},
        "max_starts_per_second must not be given beside semaphore, which has a pace of its own, got 5. "
        "Pass it to the Semaphore.",
    ),
    # Which objects
    (
        lambda stack: {"bucket": "incoming"},
        "bucket must be a bucket, got 'incoming'. Pass for example s3.Bucket(self, 'Incoming').",
    ),
    (
        lambda stack: {"prefixes": "in/"},
        "prefixes must be a list of texts, got 'in/'. Pass for example ['incoming/'].",
    ),
    (
        lambda stack: {"suffixes": [5]},
        "suffixes must be of type str, got 5. Pass for example ['.csv'].",
    ),
    (
        lambda stack: {"prefixes": [""]},
        "prefixes must have 1 to 1024 bytes each, got ''. Pass for example ['incoming/'].",
    ),
    (
        lambda stack: {"prefixes": ["ü" * 513]},
        f"prefixes must have 1 to 1024 bytes each, got {'ü' * 513!r}. Pass for example ['incoming/'].",
    ),
    (
        lambda stack: {"suffixes": [token(stack)]},
        "suffixes must be known at synthesis, got a token. Pass for example ['.csv'].",
    ),
    (
        lambda stack: {"prefixes": cdk.CfnParameter(stack, "List", type="CommaDelimitedList").value_as_list},
        "prefixes must be known at synthesis, got a token. Pass for example ['incoming/'].",
    ),
    (
        lambda stack: {"wildcards": ["in/**"]},
        f"wildcards cannot be read: two * must not follow each other, got 'in/**'. {A_WILDCARD}",
    ),
    (
        lambda stack: {"wildcards": ["in\\x"]},
        "wildcards cannot be read: a backslash must be followed by * or another backslash, got 'in\\\\x'. "
        f"{A_WILDCARD}",
    ),
    (
        lambda stack: {"min_size": -1},
        "min_size must be a whole number from 0 to 53687091200000, got -1. Pass for example 1.",
    ),
    (
        lambda stack: {"max_size": 5_000_000_001},
        "max_size must be a whole number from 0 to 5000000000, got 5000000001. Pass for example 1.",
    ),
    (
        lambda stack: {"min_size": 10, "max_size": 9},
        "max_size must not be less than min_size (10), got 9. Swap the two, or leave one out.",
    ),
    # Where the output goes
    (
        lambda stack: {"output_prefix": "out/"},
        f"output_prefix must not overlap with what starts the job, got 'out/'. {OUTPUT}",
    ),
    (
        lambda stack: {"prefixes": ["in/"], "output_prefix": "in/done/"},
        f"output_prefix must not overlap with what starts the job, got 'in/done/'. {OUTPUT}",
    ),
    (
        lambda stack: {"prefixes": ["data/in/"], "output_prefix": "data/"},
        f"output_prefix must not overlap with what starts the job, got 'data/'. {OUTPUT}",
    ),
    (
        lambda stack: {"prefixes": ["in/"], "output_bucket": bucket(stack)},
        f"output_prefix must be given if the output goes to the bucket of the input, got None. {OUTPUT}",
    ),
    (
        lambda stack: {"prefixes": ["in/"], "output_prefix": ""},
        f"output_prefix must not be empty, got ''. {OUTPUT}",
    ),
    (
        lambda stack: {"prefixes": ["in/"], "output_prefix": token(stack)},
        f"output_prefix must be known at synthesis, got a token. {OUTPUT}",
    ),
    (
        lambda stack: {"prefixes": ["in/"], "output_prefix": 5},
        f"output_prefix must be of type str, got 5. {OUTPUT}",
    ),
    # How fast and how long
    (
        lambda stack: {"starter_concurrency": 1},
        "starter_concurrency must be a whole number from 2 to 1000, got 1. Pass for example 2.",
    ),
    (
        lambda stack: {"max_waiting": 0},
        "max_waiting must be a whole number from 1 to 1000000, got 0. Pass for example 1.",
    ),
    (
        lambda stack: {"execution_timeout": Duration.days(366)},
        "execution_timeout must be at most 365 days, got Duration of 366 days. "
        "Pass Duration.seconds(31536000) or less.",
    ),
    (
        lambda stack: {"oldest_object_alarm": Duration.seconds(30)},
        f"oldest_object_alarm must be at least 1 minute, in whole seconds, got Duration of 30 seconds. {AN_HOUR}",
    ),
    (
        lambda stack: {"oldest_object_alarm": Duration.days(15)},
        "oldest_object_alarm must be at most 14 days, got Duration of 15 days. Pass Duration.seconds(1209600) or less.",
    ),
    (
        lambda stack: {"job": fargate_job(stack), "vcpu_quota": 0},
        "vcpu_quota must be finite, and more than 0, got 0. Pass for example vcpu_quota=100.",
    ),
    (
        lambda stack: {"job": fargate_job(stack), "vcpu_quota": "100"},
        "vcpu_quota must be of type int or float, got '100'. Pass for example vcpu_quota=100.",
    ),
    (
        lambda stack: {"vcpu_quota": 100},
        "vcpu_quota is of use with a FargateJob only, got 100. Leave it out.",
    ),
    # Who is told
    (
        lambda stack: {"failure_handlers": ["on-call@example.com"]},
        "failure_handlers must be functions, topics or handlers, got 'on-call@example.com'. "
        "Pass for example [AlertFunction(self, 'Alert')].",
    ),
]


@pytest.mark.parametrize(("options", "message"), REJECTIONS, ids=[message[:40] for _, message in REJECTIONS])
def test_what_cannot_work_is_refused(options: Options, message: str, stack: cdk.Stack) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Pipeline: {message}')}$"):
        pipeline(stack, **options(stack))


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        (
            {"max_concurrency": 0},
            "Quota",
            "limit must be a whole number from 1 to 1000000, got 0. Pass for example 1.",
        ),
        (
            {"max_starts_per_second": 0},
            "Quota",
            "max_starts_per_second must be finite, and more than 0, got 0. Pass for example 20.",
        ),
    ],
)
def test_what_the_semaphore_refuses_is_refused(
    options: dict[str, Any], place: str, message: str, stack: cdk.Stack
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Pipeline/{place}: {message}')}$"):
        pipeline(stack, **options)


def test_an_id_that_is_taken_is_refused(stack: cdk.Stack) -> None:
    pipeline(stack)
    message = "Stack: id must be unique within its scope, got 'Pipeline'. Give this construct another id."
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        S3TriggeredThrottledPipeline(
            stack, "Pipeline", bucket=bucket(stack, "other"), job=imported_function(stack), max_concurrency=1
        )


ACCEPTED: list[Options] = [
    lambda stack: {"prefixes": ("in/",), "output_prefix": "i/"},
    lambda stack: {"prefixes": ["in/"], "output_bucket": bucket(stack), "output_prefix": "out/"},
    lambda stack: {"output_bucket": bucket(stack, "results")},
    lambda stack: {"min_size": 0, "max_size": 5_000_000_000},
    lambda stack: {"min_size": 10**13},
    lambda stack: {"max_concurrency": 1_000_000, "starter_concurrency": 1000, "max_waiting": 1_000_000},
    lambda stack: {"job": chain(stack), "max_starts_per_second": 0.5},
]


@pytest.mark.parametrize("number", range(len(ACCEPTED)))
def test_nothing_legal_is_refused(number: int, stack: cdk.Stack) -> None:
    pipeline(stack, **ACCEPTED[number](stack))
    assert template_of(stack)

"""Why items failed: told by side, and the same reasons together."""

import json
from typing import Any

import pytest

from distributed_map.failures import (
    MOST_GROUPS,
    MOST_MESSAGES,
    Groups,
    Reason,
    in_words,
    label_of,
    reason_of_answer,
    reason_of_child,
)
from tests.lambda_src.distributed_map.world import raised

STOPPED_TASK = json.dumps(
    {
        "Containers": [{"Name": "app", "ExitCode": 3, "TaskArn": "arn:aws:ecs:eu-central-1:1:task/c/1"}],
        "Overrides": {"ContainerOverrides": [{"Environment": [{"Name": "PASSWORD", "Value": "hunter2"}]}]},
        "StopCode": "EssentialContainerExited",
        "StoppedReason": "Essential container in task exited",
    }
)

CASES: list[tuple[tuple[str, str, str], tuple[str, str, str]]] = [
    (("FAILED", "ValueError", raised("ValueError", "no date")), ("Lambda", "ValueError", "no date")),
    # Cut in the middle, as Step Functions cuts a cause.
    (
        ("FAILED", "ValueError", '{"errorMessage": "no date", "errorType": "ValueError", "stackTrace": ["Fi'),
        ("Lambda", "ValueError", "no date"),
    ),
    (("FAILED", "ValueError", '{"errorMessage": "no da'), ("Lambda", "ValueError", "no da…")),
    (
        ("FAILED", "Sandbox.Timedout", raised("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 3.00 s")),
        ("Lambda", "Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 3.00 s"),
    ),
    (
        ("FAILED", "Lambda.TooManyRequestsException", "Rate Exceeded."),
        ("Lambda", "Lambda.TooManyRequestsException", "Rate Exceeded."),
    ),
    (("FAILED", "Lambda.Unknown", ""), ("Lambda", "Lambda.Unknown", "")),
    (
        ("FAILED", "States.TaskFailed", STOPPED_TASK),
        ("ECS", "States.TaskFailed", "Container 'app' ended with exit code 3."),
    ),
    (
        ("FAILED", "States.TaskFailed", STOPPED_TASK[:100]),
        ("ECS", "States.TaskFailed", "Container 'app' ended with exit code 3."),
    ),
    (
        ("FAILED", "ECS.AmazonECSException", "Rate exceeded"),
        ("ECS", "ECS.AmazonECSException", "Too many calls: ECS refused the launch: Rate exceeded."),
    ),
    (
        ("FAILED", "AmazonECS.Unknown", '{"Failures": [{"Reason": "RESOURCE:MEMORY"}]}'),
        ("ECS", "AmazonECS.Unknown", "AWS had no capacity for the task: RESOURCE:MEMORY."),
    ),
    (("FAILED", "States.Timeout", ""), ("Step Functions", "States.Timeout", "")),
    (("TIMED_OUT", "", ""), ("Step Functions", "States.Timeout", "")),
    (
        ("FAILED", "States.Runtime", "An error occurred: the JSONPath '$.x' in the input '{\"secret\": 1}'"),
        ("Step Functions", "States.Runtime", "An error occurred: the JSONPath '$.x' in the input …"),
    ),
    (("FAILED", "BadOrder", "no such\n customer"), ("application", "BadOrder", "no such customer")),
    (("FAILED", "BadOrder", 'order {"card": "4111"}'), ("application", "BadOrder", "order …")),
    (("FAILED", "", ""), ("application", "no error name", "")),
]


@pytest.mark.parametrize(("told", "expected"), CASES)
def test_the_side_is_told(told: tuple[str, str, str], expected: tuple[str, str, str]) -> None:
    reason = reason_of_child(*told)

    assert (reason.side, reason.error, reason.message) == expected
    assert "hunter2" not in reason.message


def test_what_is_said_is_kept_short() -> None:
    reason = reason_of_child("FAILED", "ValueError", raised("ValueError", "x" * 5000))
    said = reason_of_answer("E" * 5000, "x" * 5000)

    assert (len(reason.message), len(said.message), len(said.error)) == (1000, 1000, 200)


@pytest.mark.parametrize(
    ("item", "label"),
    [
        ('{"Key": "in/a.csv", "Size": 1}', "in/a.csv"),
        ('{"id": "o-1", "name": "n"}', "o-1"),
        ('{"a": 1}', '{"a": 1}'),
        ('{"Key": 7}', '{"Key": 7}'),
        ('"text"', "text"),
        ("7", "7"),
        ('{"Key": "' + "k" * 1024 + '"}', "k" * 99 + "…"),
        ('{"Key": "two\\nlines \\ud83d"}', "two lines \N{REPLACEMENT CHARACTER}"),
        ("{cut", "{cut"),
    ],
)
def test_an_item_is_called_by_its_key_or_by_its_beginning(item: str, label: str) -> None:
    assert label_of(item) == label


def reason(message: str, error: str = "ValueError") -> Reason:
    return Reason(side="Lambda", error=error, message=message)


def test_the_same_reasons_are_together_the_most_frequent_first() -> None:
    groups = Groups()
    groups.add(reason("rare"), "a", None)
    for number in range(5):
        groups.add(reason("frequent"), f"b-{number}", f"child-{number}")

    first, second = groups.most_first()

    assert (first.count, first.samples, first.execution) == (5, ["b-0", "b-1", "b-2"], "child-0")
    assert (second.count, second.reason.message) == (1, "rare")


@pytest.mark.parametrize(
    "messages",
    [
        ("a.csv is empty", "b.csv is empty"),
        ("request 12345 failed", "request 67890 failed"),
        ("id 0a1b2c3d-aaaa-bbbb-cccc-0123456789ab", "id 99999999-aaaa-bbbb-cccc-0123456789ab"),
    ],
)
def test_what_is_another_for_each_item_does_not_part_them(messages: tuple[str, str]) -> None:
    groups = Groups()
    for label, message in zip(("a.csv", "b.csv"), messages, strict=True):
        groups.add(reason(message), label, None)

    assert [each.count for each in groups.most_first()] == [2]


def test_exit_codes_part_them() -> None:
    groups = Groups()
    for code in (1, 137):
        groups.add(reason(f"exit code {code}"), "a", None)

    assert len(groups.most_first()) == 2


def test_of_however_many_reasons_so_much_is_kept_and_no_more() -> None:
    groups = Groups()
    words = [f"{first}{second}{third}" for first in "ghijklmnop" for second in "ghijklmnop" for third in "ghijklmnop"]
    for word in words:
        groups.add(reason(word), "a", None)
    for error in words:
        for word in ("x", "y"):
            groups.add(reason(word, error), "a", None)

    found = groups.most_first()

    assert sum(each.count for each in found) == 3 * len(words)
    assert len(found) <= MOST_GROUPS + 2
    rest = next(each for each in found if each.reason.message == "other messages")
    assert rest.count == len(words) - MOST_MESSAGES
    assert any(each.reason.error == "other errors" for each in found)


def test_groups_are_told_in_words() -> None:
    groups = Groups()
    for number in range(1200):
        groups.add(reason("no date."), f"{number}.csv", None)
    groups.add(Reason(side="Step Functions", error="States.Timeout", message=""), "a", None)

    assert in_words(groups.most_first()) == (
        "1,200 \N{MULTIPLICATION SIGN} Lambda ValueError: no date, for example 0.csv, 1.csv, 2.csv. "
        "1 \N{MULTIPLICATION SIGN} Step Functions States.Timeout, for example a."
    )


@pytest.mark.parametrize("cause", ["{" * 50_000, '{"errorMessage": 7}', "[]", "null", "\ud83d"])
def test_no_cause_is_too_odd(cause: Any) -> None:
    assert reason_of_child("FAILED", "States.TaskFailed", cause).error

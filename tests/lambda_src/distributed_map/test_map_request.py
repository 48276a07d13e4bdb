"""What an execution's input may say."""

from datetime import date
from typing import Any

import pytest

from distributed_map.request import BadInput, Request, array_at, request_of

RUN = "arn:aws:states:eu-central-1:111122223333:execution:work:a"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Request()),
        (None, Request()),
        ([1, 2], Request()),
        ("text", Request()),
        ({"runDate": None, "dryRun": None, "rerun": None}, Request()),
        ({"runDate": "2024-02-29"}, Request(day=date(2024, 2, 29))),
        ({"dryRun": True}, Request(dry_run=True)),
        ({"dryRun": False}, Request()),
        ({"rerun": {"execution": RUN}, "other": 1}, Request(rerun=RUN)),
        ({"version": "0", "detail-type": "Scheduled Event", "detail": {}, "resources": ["a"]}, Request()),
    ],
)
def test_what_is_asked_for_is_read(given: Any, expected: Request) -> None:
    assert request_of(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"runDate": "21.11.2026"}, 'runDate must be a day such as "2026-11-21", got "21.11.2026"'),
        ({"runDate": "2026-02-29"}, 'runDate must be a day such as "2026-11-21", got "2026-02-29"'),
        ({"runDate": 20261121}, 'runDate must be a day such as "2026-11-21", got 20261121'),
        ({"runDate": ""}, 'runDate must be a day such as "2026-11-21", got ""'),
        ({"dryRun": "yes"}, 'dryRun must be true or false, got "yes"'),
        ({"dryRun": 1}, "dryRun must be true or false, got 1"),
        (
            {"rerun": RUN},
            f'rerun must be {{"execution": "<the ARN of a run of this state machine>"}}, got "{RUN}"',
        ),
        (
            {"rerun": {"execution": "a"}},
            'rerun must be {"execution": "<the ARN of a run of this state machine>"}, got {"execution": "a"}',
        ),
        (
            {"rerun": {}},
            'rerun must be {"execution": "<the ARN of a run of this state machine>"}, got {}',
        ),
    ],
)
def test_what_makes_no_sense_says_what_to_write(given: Any, message: str) -> None:
    with pytest.raises(BadInput) as raised:
        request_of(given)

    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("$", [1], [1]),
        ("$.items", {"items": []}, []),
        ("$.detail.lines", {"detail": {"lines": [1, 2]}}, [1, 2]),
        ("$['a b'][1].c", {"a b": [0, {"c": [3]}]}, [3]),
    ],
)
def test_an_array_of_the_input_is_found(path: str, given: Any, expected: list[Any]) -> None:
    assert array_at(path, given) == expected


@pytest.mark.parametrize(
    ("path", "given", "got"),
    [
        ("$.items", {}, "nothing"),
        ("$.items", [], "nothing"),
        ("$.items", "text", "nothing"),
        ("$.items", {"items": {"a": 1}}, '{"a": 1}'),
        ("$.items[3]", {"items": [[]]}, "nothing"),
        ("$.items", {"items": "[1]"}, '"[1]"'),
    ],
)
def test_without_an_array_the_error_says_where_it_belongs(path: str, given: Any, got: str) -> None:
    with pytest.raises(BadInput) as raised:
        array_at(path, given)

    assert str(raised.value) == f"The input needs an array of items at {path}, got {got}"

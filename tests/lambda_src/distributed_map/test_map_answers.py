"""What processors may say about their items."""

from typing import Any

import pytest

from distributed_map.answers import DONE, Answer, UnreadableAnswerError, answer_of, answers_of


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, DONE),
        ("done", DONE),
        (7, DONE),
        ([{"error": "a"}], DONE),
        ({}, DONE),
        ({"result": 1}, DONE),
        ({"error": None}, DONE),
        ({"error": ""}, DONE),
        ({"error": {"Error": "caught"}}, DONE),
        ({"notice": []}, DONE),
        ({"notice": None}, DONE),
        ({"notice": ["a", {"b": 1}]}, Answer(notices=("a", {"b": 1}))),
        ({"notice": "alone", "result": 1}, Answer(notices=("alone",))),
        ({"error": "Bad", "cause": "why"}, Answer(error="Bad", cause="why")),
        ({"error": "Bad"}, Answer(error="Bad")),
        ({"error": "Bad", "cause": {"line": 7}}, Answer(error="Bad", cause='{"line": 7}')),
        ({"error": "Bad", "notice": ["n"]}, Answer(error="Bad", notices=("n",))),
    ],
)
def test_an_answer_about_one_item(said: Any, expected: Answer) -> None:
    assert answer_of(said) == expected


BAD, ITEM_FAILED = Answer(error="Bad", cause="why"), Answer(error="ItemFailed")
UNREADABLE_PLACES: list[Any] = [
    {"itemIdentifier": 3},
    {"itemIdentifier": -1},
    {"itemIdentifier": "x"},
    {"itemIdentifier": "²"},
    {"itemIdentifier": ""},
    {"itemIdentifier": None},
    {"itemIdentifier": True},
    {"itemIdentifier": 1.0},
    {"itemIdentifier": "1" * 5000},
    {},
    None,
    1,
]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, [DONE, DONE, DONE]),
        ({}, [DONE, DONE, DONE]),
        ({"result": 1}, [DONE, DONE, DONE]),
        ({"items": [None, {}, "x"]}, [DONE, DONE, DONE]),
        ({"items": [{"error": "Bad", "cause": "why"}, {"result": 1}, {}]}, [BAD, DONE, DONE]),
        ([{"error": "Bad", "cause": "why"}, None, None], [BAD, DONE, DONE]),
        ({"items": [{"notice": ["n"]}, {}, {}]}, [Answer(notices=("n",)), DONE, DONE]),
        ({"batchItemFailures": []}, [DONE, DONE, DONE]),
        ({"batchItemFailures": None}, [DONE, DONE, DONE]),
        ({"batchItemFailures": [{"itemIdentifier": 1}]}, [DONE, ITEM_FAILED, DONE]),
        ({"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": 1}]}, [DONE, ITEM_FAILED, DONE]),
        (
            {"batchItemFailures": [{"itemIdentifier": "2", "error": "Bad", "cause": "why"}]},
            [DONE, DONE, BAD],
        ),
        (
            {"items": [{"notice": ["n"]}, {}, {}], "batchItemFailures": [{"itemIdentifier": 0}]},
            [Answer(error="ItemFailed", notices=("n",)), DONE, DONE],
        ),
        ({"error": "Bad", "cause": "why"}, [BAD, BAD, BAD]),
    ],
)
def test_an_answer_about_a_batch(said: Any, expected: list[Answer]) -> None:
    assert answers_of(said, 3) == (expected, DONE)


def test_a_notice_may_be_of_the_whole_batch() -> None:
    assert answers_of({"notice": ["slow"], "items": [None]}, 1) == ([DONE], Answer(notices=("slow",)))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("ok", 'a batch must answer {"items": [an answer for each item]}, got "ok"'),
        (7, 'a batch must answer {"items": [an answer for each item]}, got 7'),
        ([], "items must have an answer for each of the 3 items, got 0"),
        ({"items": [{}, {}]}, "items must have an answer for each of the 3 items, got 2"),
        ({"items": [{}] * 4}, "items must have an answer for each of the 3 items, got 4"),
        ({"items": {"0": {}}}, 'items must be a list with an answer for each item, got {"0": {}}'),
        ({"items": None}, "items must be a list with an answer for each item, got null"),
        ({"batchItemFailures": {}}, "batchItemFailures must be a list, got {}"),
    ],
)
def test_an_answer_that_is_not_clear_is_none(said: Any, message: str) -> None:
    with pytest.raises(UnreadableAnswerError) as raised:
        answers_of(said, 3)

    assert str(raised.value) == message


@pytest.mark.parametrize("place", UNREADABLE_PLACES)
def test_a_place_that_no_item_has_is_not_clear(place: Any) -> None:
    with pytest.raises(UnreadableAnswerError, match="itemIdentifier must be the place of an item, 0 to 2"):
        answers_of({"batchItemFailures": [{"itemIdentifier": 0}, place]}, 3)

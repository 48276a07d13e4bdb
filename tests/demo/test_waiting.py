"""What is waited for is returned when it is there, and what was seen last when the time is up."""

from collections.abc import Iterator

from demo.waiting import eventually


def counting() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def test_it_looks_until_it_is_as_wanted() -> None:
    numbers = counting()
    assert eventually(lambda: next(numbers), lambda number: number == 2) == 2
    assert next(numbers) == 3


def test_what_never_comes_is_given_up() -> None:
    assert eventually(lambda: "nothing", lambda seen: seen == "something", within=0.05) == "nothing"


def test_it_looks_once_at_least() -> None:
    assert eventually(lambda: 1, lambda seen: seen == 1, within=0) == 1

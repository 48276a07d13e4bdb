"""Scenarios are judged by what was seen, and by nothing else."""

import threading
import time

from demo.play import Facts, Outcome, Record, Scenario, play, play_all
from demo.progress import Progress


def scenario(name: str, *, seen: Facts, expected: Facts | None = None, alone: bool = False) -> Scenario:
    return Scenario(name, seen if expected is None else expected, lambda record: seen, alone)


def test_ok_when_everything_was_seen_as_expected() -> None:
    outcome = play(scenario("part/fine", seen={"execution": "SUCCEEDED", "launches": 1}))
    assert outcome.ok
    assert outcome.expected == outcome.observed == "execution: SUCCEEDED; launches: 1"


def test_not_ok_when_one_fact_differs() -> None:
    outcome = play(scenario("part/wrong", expected={"launches": 3}, seen={"launches": 2}))
    assert not outcome.ok
    assert (outcome.expected, outcome.observed) == ("launches: 3", "launches: 2")


def test_not_ok_when_a_fact_is_missing_or_new() -> None:
    assert not play(scenario("part/less", expected={"a": 1, "b": 2}, seen={"a": 1})).ok
    assert not play(scenario("part/more", expected={"a": 1}, seen={"a": 1, "b": 2})).ok


def test_an_error_is_what_was_observed() -> None:
    def breaks(record: Record) -> Facts:
        raise TimeoutError("no alert arrived")

    outcome = play(Scenario("part/breaks", {}, breaks))
    assert not outcome.ok
    assert outcome.observed == "TimeoutError: no alert arrived"


def test_all_are_played_in_spite_of_an_error_and_keep_their_order() -> None:
    def breaks(record: Record) -> Facts:
        raise LookupError

    scenarios = [
        scenario("part/first", seen={"a": 1}),
        Scenario("part/second", {"a": 1}, breaks, alone=True),
        scenario("part/third", seen={"a": 1}, alone=True),
    ]
    outcomes = play_all(scenarios, Progress())
    assert [(outcome.name, outcome.ok) for outcome in outcomes] == [
        ("part/first", True),
        ("part/second", False),
        ("part/third", True),
    ]


def test_alone_means_alone_and_the_others_share_their_time() -> None:
    lock = threading.Lock()
    now = most = 0
    beside_alone = []

    def busy(alone: bool) -> Facts:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.2)
        with lock:
            if alone:
                beside_alone.append(now)
            now -= 1
        return {}

    scenarios = [
        Scenario(f"part/{number}", {}, lambda record, alone=alone: busy(alone), alone)  # type: ignore[misc]  # mypy infers no type for the default
        for number, alone in enumerate([False, True, False, True, False])
    ]
    assert all(outcome.ok for outcome in play_all(scenarios, Progress()))
    assert beside_alone == [1, 1]
    assert most > 1


def test_those_that_share_a_turn_are_kept_apart_and_do_not_count_their_wait() -> None:
    turn = threading.Lock()
    inside: list[str] = []

    def busy(name: str) -> Facts:
        inside.append(name)
        beside = [*inside]
        time.sleep(0.2)
        inside.remove(name)
        return {"beside": len(beside)}

    scenarios = [
        Scenario(f"part/{name}", {"beside": 1}, lambda record, name=name: busy(name), turn=turn)  # type: ignore[misc]  # mypy infers no type for the default
        for name in ("one", "two", "three")
    ]
    outcomes = play_all(scenarios, Progress())
    assert all(outcome.ok for outcome in outcomes)
    assert sum(outcome.seconds < 0.4 for outcome in outcomes) == 3


def test_a_turn_is_free_again_after_an_error() -> None:
    turn = threading.Lock()

    def breaks(record: Record) -> Facts:
        raise LookupError

    play(Scenario("part/breaks", {}, breaks, turn=turn))
    assert not turn.locked()


def test_nothing_to_play() -> None:
    empty: list[Outcome] = play_all([], Progress())
    assert empty == []

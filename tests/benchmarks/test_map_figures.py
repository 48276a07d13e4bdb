import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks import map as items_map
from benchmarks.map import bars, table
from benchmarks.map_designs import BAD_DAY, DO_BATCH, GOOD_DAY
from benchmarks.map_figures import (
    BATCHED,
    CALL_SECONDS,
    CRASH,
    CRASHED,
    EXPRESS,
    ITEM_BY_ITEM,
    ITEM_SECONDS,
    OURS,
    OWN_SECONDS,
    REFUSALS,
    Account,
    Run,
    costs,
    express_seconds,
    failing,
    fewer_calls,
    figures,
    keys_of,
    lambda_gb_seconds,
    s3_calls,
    transitions,
    untruths,
)
from benchmarks.prices import LAMBDA_GB


def event(type_: str, **details: Any) -> dict[str, Any]:
    return {"type": type_, "timestamp": datetime.fromtimestamp(0, UTC), **details}


def history(input_: Any, *, states: int = 1, retries: int = 0, end: str = "Succeeded") -> list[dict[str, Any]]:
    return [
        event("ExecutionStarted", executionStartedEventDetails={"input": json.dumps(input_)}),
        *([event("TaskStateEntered"), event("TaskScheduled")] * states),
        *([event("TaskScheduled")] * retries),
        event(f"Execution{end}"),
    ]


def one(key: str, **other: Any) -> list[dict[str, Any]]:
    return history({"Key": key, "Size": 1}, **other)


def batch(*keys: str, **other: Any) -> list[dict[str, Any]]:
    return history({"Items": [{"Key": key} for key in keys], "BatchInput": {"run": {}}}, **other)


def counted(**other: Any) -> Run:
    given: dict[str, Any] = {
        "keys": ["a", "b", "c", "d"],
        "parent": history({}, states=7),
        "children": [batch("a", "b"), batch("c", "d")],
        "express": False,
        "functions": {"Process": 2, "Plan": 1, "Account": 1},
        "requests": {"s3:GET": 3, "s3:PUT": 2, "states:POST": 9},
        "reads": 1,
        "writes": 2,
        "seconds": 1.25,
    }
    return Run(**{**given, **other})


# --- what became of the items ----------------------------------------------------------------------------------------


def test_a_child_has_one_item_or_those_of_its_batch() -> None:
    assert keys_of(one("a")) == ["a"]
    assert keys_of(batch("a", "b")) == ["a", "b"]


def test_items_that_were_each_in_one_child_that_succeeded_are_neither_lost_nor_doubled() -> None:
    for children in ([batch("a", "b"), batch("c", "d")], [one(key) for key in "abcd"]):
        found = figures(counted(children=children))
        assert (found["lost"], found["doubled"]) == (0, 0)


@pytest.mark.parametrize(
    "children",
    [[batch("a", "b"), batch("c")], [batch("a", "b", "c"), one("d", end="Failed")], [batch("a", "b", "c", "x")]],
    ids=["in no child", "in one that failed", "another one in its place"],
)
def test_an_item_without_a_child_that_succeeded_is_lost(children: Sequence[Any]) -> None:
    assert figures(counted(children=children))["lost"] == 1


@pytest.mark.parametrize(
    "children",
    [
        [batch("a", "b"), batch("b", "c", "d")],
        [batch("a", "b", "b", "c", "d")],
        [batch(*"abcd"), one("b", end="Failed")],
    ],
    ids=["in two children", "twice in one", "in one that failed, too"],
)
def test_an_item_that_was_handed_out_twice_is_doubled(children: Sequence[Any]) -> None:
    found = figures(counted(children=children))
    assert (found["lost"], found["doubled"]) == (0, 1)


# --- what it cost ----------------------------------------------------------------------------------------------------


def test_the_start_of_a_child_is_a_transition_beside_those_of_the_child_itself() -> None:
    assert transitions(counted()) == 7 + 2 + 2
    assert transitions(counted(children=[batch(*"abcd", states=3)])) == 7 + 1 + 3


def test_of_an_express_child_only_the_start_is_a_transition() -> None:
    assert transitions(counted(express=True)) == 7 + 2


def test_each_retry_is_a_transition() -> None:
    assert transitions(counted(children=[batch(*"abcd", retries=2)])) == 7 + 1 + 3
    assert transitions(counted(parent=history({}, states=7, retries=1))) == 8 + 2 + 2


def test_children_that_failed_are_paid_for_too() -> None:
    assert transitions(counted(children=[batch("a", "b", end="Failed"), batch("c", "d")])) == 7 + 2 + 2


def test_counts_are_for_a_thousand_items() -> None:
    found = figures(counted())
    names = ("functions", "children", "transitions", "s3_calls")
    assert [found[f"{name}_per_1000"] for name in names] == [1000, 500, 2750, 2000]
    assert found["events_max"] == len(history({}, states=7))


def test_what_the_map_itself_asks_of_s3_counts_beside_what_functions_ask() -> None:
    assert s3_calls(counted()) == 5 + 1 + 2
    assert s3_calls(counted(requests={"lambda:InvokeFunction": 3}, reads=10, writes=0)) == 10


def test_standard_children_cost_no_requests_and_no_time() -> None:
    assert express_seconds(counted()) == 0
    assert costs(counted())["Step Functions"] == pytest.approx(11 * 25e-6)


def test_express_children_cost_requests_and_time_beside_their_starts() -> None:
    run = counted(express=True)
    gigabyte_seconds = express_seconds(run) * 0.0625
    assert gigabyte_seconds > 0
    expected = 9 * 25e-6 + 2 * 1e-6 + gigabyte_seconds * 0.06 / 3600
    assert costs(run)["Step Functions"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("items", "steps"), [(1, 1), (2, 2), (100, 51)])
def test_an_express_child_is_billed_in_steps_of_a_tenth_of_a_second(items: int, steps: int) -> None:
    assert (CALL_SECONDS, ITEM_SECONDS) == (0.02, 0.05)
    run = counted(express=True, children=[batch(*map(str, range(items)))])
    assert express_seconds(run) == pytest.approx(steps / 10)


def test_a_full_step_is_not_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.map_figures.CALL_SECONDS", 0.0)
    run = counted(express=True, children=[batch(*map(str, range(6)))])
    assert express_seconds(run) == pytest.approx(0.3)


def test_work_on_items_takes_as_long_in_a_batch_and_calls_come_on_top() -> None:
    items = 4 * ITEM_SECONDS * LAMBDA_GB
    alone = counted(functions={"Process": 4})
    assert lambda_gb_seconds(alone) == pytest.approx(items + 4 * CALL_SECONDS * LAMBDA_GB)
    together = counted(functions={"Process": 1})
    assert lambda_gb_seconds(alone) - lambda_gb_seconds(together) == pytest.approx(3 * CALL_SECONDS * LAMBDA_GB)


def test_functions_that_plan_and_account_are_paid_for() -> None:
    with_them, without = counted(), counted(functions={"Process": 2})
    assert lambda_gb_seconds(with_them) - lambda_gb_seconds(without) == pytest.approx(
        2 * CALL_SECONDS + 4 * OWN_SECONDS
    )
    assert figures(with_them)["functions_per_1000"] - figures(without)["functions_per_1000"] == 500


def test_us_dollars_are_for_a_million_items_and_the_sum_of_all_services() -> None:
    found = figures(counted())
    assert found["usd_per_million"] == pytest.approx(sum(found["usd_by_service"].values()), abs=0.02)
    assert found["usd_by_service"]["S3"] == pytest.approx(8 * 5e-6 / 4 * 1e6)


def test_fewer_calls_are_beside_the_item_by_item_of_the_same_run() -> None:
    rows = [{"design": ITEM_BY_ITEM, "functions_per_1000": 1000.0}, {"design": BATCHED, "functions_per_1000": 12.5}]
    assert [fewer_calls(rows, design) for design in (ITEM_BY_ITEM, BATCHED)] == [1, 80]


# --- whether the account is right ------------------------------------------------------------------------------------


def keys(numbers: Sequence[int]) -> list[str]:
    return [f"{number:07}.csv" for number in numbers]


def test_a_crash_takes_its_whole_batch_and_no_other() -> None:
    errors = failing([keys([CRASH - 1, CRASH, CRASH + 1]), keys([CRASH + 2, CRASH + 3])])
    assert errors == dict.fromkeys(keys([CRASH - 1, CRASH, CRASH + 1]), CRASHED)


def test_of_two_errors_of_an_item_the_first_counts() -> None:
    first, second = REFUSALS
    both = REFUSALS[first] * REFUSALS[second]
    assert failing([keys([REFUSALS[first], REFUSALS[second], both, 1])]) == {
        **dict.fromkeys(keys([REFUSALS[first], both]), first),
        **dict.fromkeys(keys([REFUSALS[second]]), second),
    }


ALL = keys(range(1, 1001))
BATCHES = [ALL[:100], ALL[100:]]
ERRORS = failing(BATCHES)
"""The 97th is in the batch that crashes; nine of each 97, and one of each 501, are in the other one."""
TRUE = Account(
    status="FAILED",
    counts={"total": 1000, "succeeded": 890, "failed": 110, "notRun": 0, "unknown": 0},
    groups={CRASHED: 100, "Refused": 9, "Unreadable": 1},
    again=sorted(ERRORS),
    failures=sorted(ERRORS.items()),
)


def test_the_function_fails_what_is_expected_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSALS", json.dumps(REFUSALS))
    monkeypatch.setenv("CRASH", str(CRASH))
    module: dict[str, Any] = {}
    exec(DO_BATCH, module)

    def answers(keys: Sequence[str], day: str) -> list[Any]:
        event = {"Items": [{"Key": key} for key in keys], "BatchInput": {"run": {"date": day}}}
        said: list[Any] = module["handle"](event, None)["items"]
        return said

    crashing, other = BATCHES
    with pytest.raises(RuntimeError):
        answers(crashing, BAD_DAY)
    errors = {
        key: answer["error"] for key, answer in zip(other, answers(other, BAD_DAY), strict=True) if "error" in answer
    }
    assert errors == failing([other])
    assert {CRASHED: 100, **Counter(errors.values())} == TRUE.groups
    for batch in BATCHES:
        assert answers(batch, GOOD_DAY) == [{"result": "done"}] * len(batch)


def test_a_right_account_has_no_untruths() -> None:
    assert untruths(TRUE, ALL, ERRORS) == []
    good = Account(
        status="SUCCEEDED", counts={"total": 2, "succeeded": 2, "failed": 0}, groups={}, again=[], failures=[]
    )
    assert untruths(good, ["a", "b"], {}) == []


@pytest.mark.parametrize(
    ("wrong", "about"),
    [
        ({"status": "SUCCEEDED"}, ["the execution"]),
        ({"counts": {**TRUE.counts, "failed": 109, "succeeded": 891}}, ["failed", "succeeded"]),
        ({"counts": {**TRUE.counts, "total": 999}}, ["total"]),
        ({"counts": {**TRUE.counts, "unknown": 1}}, ["unknown"]),
        ({"counts": {"total": 1000, "succeeded": 890}}, ["no failed"]),
        ({"groups": {**TRUE.groups, "Refused": 8, "Unreadable": 2}}, ["the groups"]),
        ({"again": TRUE.again[1:]}, ["to feed back"]),
        ({"again": [*TRUE.again, TRUE.again[0]]}, ["to feed back"]),
        ({"again": [*TRUE.again[1:], ALL[-1]]}, ["to feed back", "to feed back"]),
        ({"failures": TRUE.failures[1:]}, ["failures"]),
        ({"failures": [*TRUE.failures[1:], (TRUE.failures[0][0], "Other")]}, ["failures", "failures"]),
    ],
    ids=[
        "ended well",
        "one failure less",
        "one item less",
        "one unknown",
        "a count missing",
        "another error",
        "one lost",
        "one twice",
        "another one in its place",
        "one not told",
        "one told with another error",
    ],
)
def test_what_an_account_says_wrongly_is_an_untruth(wrong: Mapping[str, Any], about: Sequence[str]) -> None:
    found = untruths(replace(TRUE, **wrong), ALL, ERRORS)
    assert [each.partition(":")[0] for each in found] == about


# --- what is told ----------------------------------------------------------------------------------------------------


def row(design: str, n: int = 10_000, **other: Any) -> dict[str, Any]:
    return {
        "design": design,
        "n": n,
        "functions_per_1000": 1000.0 if design == ITEM_BY_ITEM else 10.2,
        "children_per_1000": 10.0,
        "transitions_per_1000": 20.7,
        "s3_calls_per_1000": 2.1,
        "usd_per_million": 0.8,
        "fewer_calls": 1.0 if design == ITEM_BY_ITEM else 98.0,
        "lost": 0,
        "doubled": 0,
        "account": None if design == ITEM_BY_ITEM else {"total": n},
        "untruths": [],
        "seconds": 10.0,
        **other,
    }


def failing_bars(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [line.split()[1] for line in bars([dict(each) for each in rows]) if line.split()[0] == "FAILS"]


def test_what_is_right_and_needs_few_calls_holds_all_bars() -> None:
    assert failing_bars([row(design) for design in (ITEM_BY_ITEM, *OURS)]) == []


@pytest.mark.parametrize("design", OURS)
def test_too_many_calls_fail_their_bar(design: str) -> None:
    assert failing_bars([row(ITEM_BY_ITEM), row(design, fewer_calls=50.0)]) == []
    assert failing_bars([row(ITEM_BY_ITEM), row(design, fewer_calls=49.9)]) == ["fewer_calls"]


@pytest.mark.parametrize("design", OURS)
def test_one_lost_doubled_or_told_wrongly_fails_at_every_size(design: str) -> None:
    wrong = row(design, 1000, lost=1, doubled=1, untruths=["failed: 1, should be 2"])
    assert failing_bars([row(ITEM_BY_ITEM), wrong, row(design)]) == ["lost", "doubled", "untruths"]


def test_all_lines_of_the_table_are_as_long() -> None:
    lines = table([row(ITEM_BY_ITEM, usd_per_million=12345.67), row(BATCHED), row(EXPRESS, 100_000)])
    assert len(lines) == 5
    assert len(set(map(len, lines))) == 1


def test_the_table_tells_no_account_from_a_right_one() -> None:
    *_, original, right, wrong = table([row(ITEM_BY_ITEM), row(BATCHED), row(EXPRESS, untruths=["one", "another"])])
    assert [line.split("|")[-3].strip() for line in (original, right, wrong)] == ["no account", "0", "2"]


@pytest.mark.parametrize(
    ("figures", "correct"),
    [
        ({"functions_per_1000": 999.0}, True),
        ({"lost": 1}, False),
        ({"doubled": 1}, False),
        ({"untruths": ["failed: 1, should be 2"]}, False),
    ],
)
def test_a_run_fails_where_ours_is_wrong_and_not_where_it_is_dear(
    figures: Mapping[str, Any],
    correct: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measured(design: str, size: int) -> dict[str, Any]:
        return row(design, size, **(figures if design == EXPRESS else {"lost": 2} if design == ITEM_BY_ITEM else {}))

    monkeypatch.setattr(items_map, "RESULTS", tmp_path / "map.json")
    monkeypatch.setattr(items_map, "_measure", measured)
    assert items_map.run([1000, 200]) is correct
    written = json.loads((tmp_path / "map.json").read_text())
    assert [(each["design"], each["n"]) for each in written] == [
        (design, size) for size in (200, 1000) for design in (ITEM_BY_ITEM, *OURS)
    ]
    told = capsys.readouterr().out
    assert all(untruth in told for untruth in figures.get("untruths", []))


def test_fewer_items_than_a_batch_are_refused() -> None:
    with pytest.raises(SystemExit, match="at least 100, got 99"):
        items_map.run([1000, 99])

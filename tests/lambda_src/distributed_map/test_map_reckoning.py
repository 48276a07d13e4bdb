"""What became of the items is added up, and judged."""

import json
from typing import Any

import pytest

from distributed_map.reckoning import Counts, Reckoner, Tolerance
from distributed_map.results import Child
from tests.lambda_src.distributed_map.world import batch, child, raised


class Account:
    """What a reckoner was told, and what it has written."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.again: list[Any] = []
        self.failures: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.reckoner = Reckoner(
            again=lambda item: self.again.append(json.loads(item)),
            failure=lambda line: self.failures.append(json.loads(line)),
            notice=lambda line: self.notices.append(json.loads(line)),
        )
        for record in records:
            self.reckoner.add(Child.read(record))

    @property
    def counts(self) -> dict[str, int]:
        return {name: count for name, count in self.reckoner.counts.to_dict().items() if count}


def test_each_item_is_counted_once() -> None:
    account = Account(
        child("a"),
        child("b", output={"result": 1}),
        child("c", "FAILED", error="ValueError", cause=raised("ValueError", "no")),
        child("d", "TIMED_OUT"),
        child("e", "ABORTED"),
        child("f", "PENDING"),
        batch(["g", "h"]),
        batch(["i", "j", "k"], "FAILED", error="E"),
        batch(["l", "m"], "PENDING"),
    )

    assert account.counts == {"succeeded": 4, "failed": 5, "notRun": 4, "stopped": 1}
    assert account.again == ["c", "d", "e", "f", "i", "j", "k", "l", "m"]
    assert [each["item"] for each in account.failures] == ["c", "d", "e", "i", "j", "k"]


def test_a_line_tells_of_a_failure() -> None:
    record = child({"Key": "a", "n": 1}, "FAILED", error="ValueError", cause=raised("ValueError", "no"))

    (line,) = Account(record).failures

    assert line == {
        "item": {"Key": "a", "n": 1},
        "side": "Lambda",
        "error": "ValueError",
        "cause": "no",
        "execution": record["ExecutionArn"],
    }


def test_what_was_stopped_is_told_and_is_no_reason() -> None:
    account = Account(child("a", "ABORTED"))

    assert account.failures[0]["error"] == "Stopped"
    assert account.reckoner.groups.most_first() == []


def test_items_that_fail_in_a_batch_fail_alone() -> None:
    said = {"items": [None, {"error": "Bad", "cause": "why"}, {"result": 1}, {"error": "Bad"}]}

    account = Account(batch(["a", "b", "c", "d"], output=said))

    assert account.counts == {"succeeded": 2, "failed": 2}
    assert account.again == ["b", "d"]
    assert account.reckoner.answered_failures == 2
    assert (account.failures[0]["side"], account.failures[0]["cause"]) == ("application", "why")


def test_an_item_may_answer_that_it_failed() -> None:
    account = Account(child("a", output={"error": "Bad", "cause": "why"}), child("b", output={"error": None}))

    assert account.counts == {"succeeded": 1, "failed": 1}
    assert account.reckoner.answered_failures == 1


def test_an_answer_that_is_not_clear_fails_the_batch() -> None:
    account = Account(batch(["a", "b"], output={"items": [None]}))

    assert account.counts == {"failed": 2}
    assert account.failures[0]["error"] == "UnreadableAnswer"
    assert account.failures[0]["cause"] == "items must have an answer for each of the 2 items, got 1"
    assert account.again == ["a", "b"]


@pytest.mark.parametrize("output", ["{cut", '"error" cut', "{" * 50_000 + '"error"'])
def test_an_output_that_is_not_readable_is_a_result(output: str) -> None:
    account = Account({**child("a"), "Output": output})

    assert account.counts == {"succeeded": 1}


def test_notices_are_collected_and_fail_nothing() -> None:
    account = Account(
        child({"Key": "a"}, output={"notice": ["late", {"by": 3}], "result": 1}),
        batch(["b", "c"], output={"notice": "slow", "items": [{"notice": ["x"]}, {"error": "Bad", "notice": ["y"]}]}),
    )

    assert account.counts == {"succeeded": 2, "failed": 1, "notices": 5}
    assert [(each["item"], each["notice"]) for each in account.notices] == [
        ({"Key": "a"}, "late"),
        ({"Key": "a"}, {"by": 3}),
        (None, "slow"),
        ("b", "x"),
        ("c", "y"),
    ]
    assert account.reckoner.notices[:3] == [
        {"item": "a", "notice": "late"},
        {"item": "a", "notice": '{"by": 3}'},
        {"item": "", "notice": "slow"},
    ]


def test_of_notices_ten_are_kept_short() -> None:
    account = Account(*(child(number, output={"notice": ["n" * 500]}) for number in range(30)))

    assert len(account.notices) == 30
    assert [len(each["notice"]) for each in account.reckoner.notices] == [200] * 10


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "ABORTED", "PENDING"])
def test_items_that_cannot_be_read_are_not_counted_and_spoil_nothing(status: str) -> None:
    cut = {**batch(["a", "b"], status), "Input": '{"Items": ["a", "b'}

    account = Account(child("x"), cut, child("y", "FAILED", error="E"))

    assert account.counts == {"succeeded": 1, "failed": 1}


def test_a_status_that_nobody_knows_is_not_done() -> None:
    account = Account({**child("a"), "Status": "PENDING_REDRIVE"})

    assert account.counts == {"notRun": 1}
    assert account.again == ["a"]


# --- judging ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tolerance", "counts", "allowed"),
    [
        (Tolerance(), Counts(total=10, succeeded=10), True),
        (Tolerance(), Counts(total=10, succeeded=9, failed=1), False),
        (Tolerance(), Counts(total=10, succeeded=9, not_run=1), False),
        (Tolerance(), Counts(total=10, succeeded=9, unknown=1), False),
        (Tolerance(kind="collect"), Counts(total=10, failed=1), False),
        (Tolerance(kind="collect", value=5), Counts(total=10, failed=1), False),
        (Tolerance(kind="count", value=2), Counts(total=10, failed=2), True),
        (Tolerance(kind="count", value=2), Counts(total=10, failed=2, not_run=1), False),
        (Tolerance(kind="count", value=0), Counts(total=10, failed=1), False),
        (Tolerance(kind="percentage", value=5), Counts(total=100, failed=5), True),
        (Tolerance(kind="percentage", value=5), Counts(total=99, failed=5), False),
        (Tolerance(kind="percentage", value=0.1), Counts(total=1000, failed=1), True),
        (Tolerance(kind="percentage", value=0), Counts(total=1000, failed=1), False),
        (Tolerance(kind="percentage", value=5), Counts(), True),
    ],
)
def test_a_run_is_judged_by_what_is_not_done(tolerance: Tolerance, counts: Counts, allowed: bool) -> None:
    assert tolerance.allows(counts) is allowed

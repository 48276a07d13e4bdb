"""What the reprocessor may be asked for, and which failures are meant."""

from typing import Any

import pytest

from spool.decide import Failure, Message, by_error, failed_at, is_exhausted, matching, sort_out, way_for
from spool.envelope import write
from spool.requests import (
    MOST,
    Filters,
    InvalidRequestError,
    Selection,
    drop_of,
    park_of,
    release_of,
    reprocess_of,
)
from tests.lambda_src.spool.test_spool_envelope import ID, envelope

NOW = 1_800_000_000.0


def test_reprocess_is_of_the_oldest_ones_by_default() -> None:
    assert reprocess_of({"action": "reprocess"}, most=10) == Selection(most=10, filters=Filters())
    assert reprocess_of({"max": "all", "dryRun": True}, most=10) == Selection(
        most=MOST, filters=Filters(), dry_run=True
    )


def test_all_filters_are_read() -> None:
    event = {"max": 3, "error": "Down", "stateMachine": "arn", "olderThanSeconds": 60, "key": "o-1"}

    wanted = Filters(error="Down", state_machine="arn", older_than=60, key="o-1")
    assert reprocess_of(event, most=10) == Selection(most=3, filters=wanted)
    assert park_of(event) == Selection(most=3, filters=wanted)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"max": 0}, 'max must be a whole number from 1 to 10000, or "all", got 0'),
        ({"max": True}, "got true"),
        ({"max": "some"}, 'got "some"'),
        ({"error": 1}, "error must be text, got 1"),
        ({"key": None}, "key must be text, got null"),
        ({"olderThanSeconds": -1}, "olderThanSeconds must be a number of at least 0, got -1"),
        ({"olderThanSeconds": True}, "olderThanSeconds must be a number of at least 0, got true"),
        ({"dryRun": "yes"}, 'dryRun must be true or false, got "yes"'),
        ({"maximum": 1}, "reprocess takes max, error, stateMachine, olderThanSeconds, key, dryRun"),
    ],
)
def test_a_reprocess_that_makes_no_sense_is_refused(event: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequestError) as problem:
        reprocess_of({"action": "reprocess", **event}, most=10)

    assert why in str(problem.value)


def test_nobody_parks_everything_by_mistake() -> None:
    with pytest.raises(InvalidRequestError, match='park needs a filter, or max "all"'):
        park_of({"action": "park"})
    assert park_of({"action": "park", "max": "all"}).most == MOST


def test_release_is_of_one_or_of_all() -> None:
    assert release_of({"id": ID}) == ID
    assert release_of({"all": True}) is None
    for event in ({}, {"all": False}, {"all": True, "id": ID}, {"all": "true"}, {"id": 1}, {"id": ""}):
        with pytest.raises(InvalidRequestError):
            release_of(event)


def test_drop_has_to_be_confirmed() -> None:
    assert drop_of({"id": ID, "confirm": True}) == ID
    for event in ({"id": ID}, {"id": ID, "confirm": "true"}, {"id": ID, "confirm": False}, {"confirm": True}):
        with pytest.raises(InvalidRequestError):
            drop_of(event)


# --- which ------------------------------------------------------------------------------------------------------------


def failure(**changes: Any) -> Failure:
    return Failure(envelope=envelope(**changes), messages=[])


def test_all_filters_have_to_fit() -> None:
    here = failure(error="Down", key="o-1", failed_at="2027-01-15T07:59:00Z")
    filters = {"error": "Down", "state_machine": here.envelope.state_machine, "key": "o-1", "older_than": 60.0}

    def found(**changes: Any) -> bool:
        return bool(matching([here], Selection(most=1, filters=Filters(**{**filters, **changes})), now=NOW))

    assert found()
    assert not found(error="Up")
    assert not found(error="")
    assert not found(state_machine="other")
    assert not found(key="o-2")
    assert not found(older_than=61.0)


def test_failures_come_oldest_first_and_copies_are_one() -> None:
    late, early = (
        envelope(failed_at="2026-11-22T07:00:00+00:00"),
        envelope(execution="e2", failed_at="2026-11-22T07:30:00+01:00"),
    )
    bodies = [write(late), write(early), "not ours", write(late)]
    messages = [Message(id=str(number), body=body, handle="h") for number, body in enumerate(bodies)]

    contents = sort_out(messages, key_path="")

    assert [[message.id for message in each.messages] for each in contents.failures] == [["1"], ["0", "3"]]
    assert [message.id for message, _ in contents.unreadable] == ["2"]


def test_of_two_copies_the_one_that_may_be_redriven_counts() -> None:
    for pair in ((True, False), (False, True)):
        messages = [
            Message(id=str(number), body=write(envelope(caught=caught)), handle="h")
            for number, caught in enumerate(pair)
        ]

        (found,) = sort_out(messages, key_path="").failures

        assert not found.envelope.caught
        assert len(found.messages) == 2


def test_a_time_that_is_none_is_very_old() -> None:
    assert failed_at(envelope(failed_at="yesterday")) == 0
    assert failed_at(envelope(failed_at="2027-01-15T08:00:00")) == NOW
    assert failed_at(envelope(failed_at="2027-01-15T08:00:00.000Z")) == NOW


def test_only_what_no_catch_dealt_with_is_redriven() -> None:
    assert way_for(envelope(caught=False), mode="redrive") == "redrive"
    assert way_for(envelope(caught=True), mode="redrive") == "restart"
    assert way_for(envelope(caught=False), mode="restart") == "restart"


@pytest.mark.parametrize(
    ("attempt", "pardoned", "exhausted"),
    [
        (1, 0, False),
        (2, 0, False),
        (3, 0, True),
        (4, 0, True),
        (3, 3, False),
        (5, 3, False),
        (6, 3, True),
        (3, 9, False),
    ],
)
def test_attempts_count_from_the_last_pardon(attempt: int, pardoned: int, exhausted: bool) -> None:
    assert is_exhausted(attempt, pardoned=pardoned, most_attempts=3) is exhausted


def test_failures_are_told_by_error() -> None:
    many = [failure(execution=f"e{number}", failed_at=f"2026-11-22T06:0{number}:00Z") for number in range(3)]

    first, second = by_error([*many, failure(error="", status="TIMED_OUT", cause="x" * 9999)])

    assert (first["error"], first["count"], first["oldest"], first["newest"]) == (
        "Down",
        3,
        "2026-11-22T06:00:00Z",
        "2026-11-22T06:02:00Z",
    )
    assert first["sample"]["execution"] == "e2"
    assert (second["error"], second["status"], len(second["sample"]["cause"])) == ("", "TIMED_OUT", 500)

"""The circuit breaker: when it opens, what the gate is told, and what a call that died leaves to the next."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from embedded_aws import EmbeddedAws
from pipeline.patience import MARGIN
from spool import breaker
from spool.breaker import Breaker, GateError, after_ending, after_probe
from spool.decide import NOT_LET_IN
from spool.requests import InvalidRequestError
from tests.lambda_src.pipeline.events import Time
from tests.lambda_src.spool.tables import spool_table

EXECUTION = "arn:aws:states:eu-central-1:111122223333:execution:work:run"


def after(*endings: str, most: int = 3, start: Breaker | None = None) -> Breaker:
    """What the breaker is after executions that ended `well`, or `badly`."""
    found = start or Breaker()
    for number, how in enumerate(endings):
        found = after_ending(found, f"{how}-{number}", failed=how == "badly", most=most)
    return found


# --- deciding ---------------------------------------------------------------------------------------------------------


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    assert after("badly", "badly").state == "closed"
    opened = after("badly", "badly", "badly")
    assert (opened.state, opened.applied) == ("open", False)


def test_a_success_in_between_starts_the_count_anew() -> None:
    assert after("badly", "badly", "well", "badly", "badly").state == "closed"


def test_a_success_where_nothing_failed_changes_nothing() -> None:
    assert after("well", "well") == Breaker()


def test_the_same_ending_counts_once() -> None:
    found = Breaker()
    for _ in range(5):
        found = after_ending(found, "same", failed=True, most=3)

    assert (found.state, found.failures) == ("closed", 1)


def test_only_a_probe_leads_out_of_open() -> None:
    opened = after("badly", most=1)

    assert after("well", start=opened).state == "open"
    assert after_probe(opened).state == "half-open"


def test_half_open_the_first_ending_decides() -> None:
    half = after_probe(after("badly", most=1))

    assert after("well", start=half).state == "closed"
    assert after("well", start=half).failures == 0
    assert after_ending(half, "next", failed=True, most=9).state == "open"


def test_a_probe_sets_a_half_open_gate_again_and_leaves_a_closed_breaker_alone() -> None:
    half = Breaker(state="half-open")

    assert after_probe(half) == Breaker(state="half-open", applied=False)
    assert after_probe(Breaker()) == Breaker()


def test_it_remembers_no_more_than_it_needs() -> None:
    assert len(after(*["well", "badly"] * 200, most=9).seen) == breaker.MOST_SEEN


# --- the function -----------------------------------------------------------------------------------------------------


@pytest.fixture
def semaphore(embedded_aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """The table is real; the semaphore's function is a stub."""
    client = embedded_aws.client("dynamodb")
    with spool_table(client) as table:
        variables = {
            "SEMAPHORE_FUNCTION": "semaphore",
            "REPROCESSOR_FUNCTION": "",
            "TABLE_NAME": table,
            "FAILURES": "2",
            "NEW_WORK": "wait",
            "HOLD": "Neighbour",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
        }
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(breaker, "dynamodb", lambda: client)
        with Stubber(breaker.lambda_()) as stub:
            yield stub
            stub.assert_no_pending_responses()
        breaker.lambda_.cache_clear()


@pytest.fixture
def time_left(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch, seconds=MARGIN + 5)


def gate(stub: Stubber, *requests: dict[str, Any]) -> None:
    """What the semaphore is to be told, in order."""
    for request in requests:
        answer = json.dumps({"limitInCode": 7}).encode()
        reply = {"StatusCode": 200, "Payload": StreamingBody(BytesIO(answer), len(answer))}
        stub.add_response("invoke", reply, {"FunctionName": "semaphore", "Payload": json.dumps(request)})


def ends(number: int, status: str, error: str | None = None) -> dict[str, Any]:
    detail = {"executionArn": f"{EXECUTION}-{number}", "status": status, "redriveCount": 0, "error": error}
    return {"detail": detail}


def state(event: object, time_left: Time) -> str:
    found: str = breaker.handle(event, time_left)["state"]
    return found


PAUSE, RESUME = {"action": "pause", "newWork": "wait"}, {"action": "resume"}
LIMIT_1, LIMIT_7, STATUS = (
    {"action": "set-limit", "limit": 1},
    {"action": "set-limit", "limit": 7},
    {"action": "status"},
)


def test_it_goes_the_whole_way_round(semaphore: Stubber, time_left: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state(ends(1, "SUCCEEDED"), time_left) == "closed"
    assert state(ends(2, "FAILED"), time_left) == "closed"
    gate(semaphore, PAUSE)
    assert state(ends(3, "TIMED_OUT"), time_left) == "open"
    assert state(ends(3, "TIMED_OUT"), time_left) == "open"
    assert state(ends(4, "FAILED"), time_left) == "open"
    gate(semaphore, LIMIT_1, RESUME)
    assert state({"action": "probe"}, time_left) == "half-open"
    gate(semaphore, PAUSE)
    assert state(ends(5, "FAILED"), time_left) == "open"
    gate(semaphore, LIMIT_1, RESUME)
    assert state({"action": "probe"}, time_left) == "half-open"
    gate(semaphore, STATUS, LIMIT_7, RESUME)
    monkeypatch.setenv("REPROCESSOR_FUNCTION", "reprocessor")
    again = {"FunctionName": "reprocessor", "InvocationType": "Event", "Payload": '{"action": "reprocess"}'}
    semaphore.add_response("invoke", {"StatusCode": 202}, again)
    assert state(ends(6, "SUCCEEDED"), time_left) == "closed"


def test_who_was_overtaken_sets_the_gate_again_and_does_not_drain_again(
    semaphore: Stubber, time_left: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate(semaphore, PAUSE, LIMIT_1, RESUME)
    for number in (1, 2):
        state(ends(number, "FAILED"), time_left)
    state({"action": "probe"}, time_left)
    write = breaker._Edge.write

    def overtaken(edge: breaker._Edge, wanted: Breaker) -> bool:
        if wanted.applied:
            # Another call for the same state was done a moment before.
            monkeypatch.setattr(breaker._Edge, "write", write)
            assert write(edge, wanted)
        return write(edge, wanted)

    monkeypatch.setattr(breaker._Edge, "write", overtaken)
    gate(semaphore, STATUS, LIMIT_7, RESUME)
    monkeypatch.setenv("REPROCESSOR_FUNCTION", "reprocessor")
    again = {"FunctionName": "reprocessor", "InvocationType": "Event", "Payload": '{"action": "reprocess"}'}
    semaphore.add_response("invoke", {"StatusCode": 202}, again)
    gate(semaphore, STATUS, LIMIT_7, RESUME)
    assert state(ends(3, "SUCCEEDED"), time_left) == "closed"


def test_a_gate_that_was_not_set_is_set_by_the_next_call(semaphore: Stubber, time_left: Time) -> None:
    state(ends(1, "FAILED"), time_left)
    semaphore.add_client_error("invoke", "ResourceNotFoundException", http_status_code=404)
    with pytest.raises(Exception, match="ResourceNotFoundException"):
        state(ends(2, "FAILED"), time_left)

    gate(semaphore, PAUSE)
    assert state(ends(2, "FAILED"), time_left) == "open"
    assert state(ends(2, "FAILED"), time_left) == "open"


@pytest.mark.parametrize("error", NOT_LET_IN)
def test_what_the_gate_kept_out_says_nothing_of_the_neighbour(error: str, semaphore: Stubber, time_left: Time) -> None:
    """Neither that it is down, nor while it is probed."""
    state(ends(1, "FAILED", "Down"), time_left)
    for number in range(2, 6):
        assert state(ends(number, "FAILED", error), time_left) == "closed"
    gate(semaphore, PAUSE)
    assert state(ends(6, "FAILED", "Down"), time_left) == "open"
    gate(semaphore, LIMIT_1, RESUME)
    assert state({"action": "probe"}, time_left) == "half-open"
    assert state(ends(7, "FAILED", error), time_left) == "half-open"


def test_new_work_fails_while_it_is_open_where_that_was_chosen(
    semaphore: Stubber, time_left: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEW_WORK", "fail")
    gate(semaphore, {"action": "pause", "newWork": "fail"})
    for number in (1, 2):
        state(ends(number, "FAILED"), time_left)


def test_a_breaker_that_opens_is_measured(
    semaphore: Stubber, time_left: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    gate(semaphore, PAUSE)
    for number in range(3):
        state(ends(number, "FAILED"), time_left)

    (found,) = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in line]
    assert found["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "ConstructsLib/Hold"
    assert (found["Hold"], found["Opened"]) == ("Neighbour", 1)


def test_a_semaphore_that_fails_is_told(semaphore: Stubber, time_left: Time) -> None:
    state(ends(1, "FAILED"), time_left)
    text = b'{"errorMessage": "no such table"}'
    reply = {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": StreamingBody(BytesIO(text), len(text))}
    semaphore.add_response("invoke", reply)

    with pytest.raises(GateError, match="no such table"):
        state(ends(2, "FAILED"), time_left)


@pytest.mark.parametrize("event", [None, [], {}, {"action": "x"}, {"detail": {"status": "RUNNING"}}, {"detail": 1}])
def test_an_event_that_makes_no_sense_is_refused(event: object, semaphore: Stubber, time_left: Time) -> None:
    with pytest.raises(InvalidRequestError):
        state(event, time_left)

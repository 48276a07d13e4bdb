"""The valve: when it closes, and what it does to the event source mapping."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from pipeline import valve
from pipeline.valve import StatusError, decide

MAPPING = "0b1f9b0e-1111-2222-3333-444455556666"


@pytest.mark.parametrize(
    ("is_open", "waiting", "expected"),
    [
        (True, 0, True),
        (True, 49, True),
        (True, 50, True),
        (True, 99, True),
        (True, 100, False),
        (True, 10_000, False),
        (False, 10_000, False),
        (False, 99, False),
        (False, 50, False),
        (False, 49, True),
        (False, 0, True),
    ],
)
def test_it_closes_at_the_most_and_opens_below_half(is_open: bool, waiting: int, expected: bool) -> None:
    assert decide(is_open=is_open, waiting=waiting, most=100, paused=False) is expected


@given(st.booleans(), st.integers(0, 10**6), st.integers(1, 10**6))
def test_paused_it_is_closed(is_open: bool, waiting: int, most: int) -> None:
    assert decide(is_open=is_open, waiting=waiting, most=most, paused=True) is False


@given(st.booleans(), st.integers(0, 10**6), st.integers(1, 10**6))
def test_what_it_decides_it_stays_with_while_nothing_changes(is_open: bool, waiting: int, most: int) -> None:
    first = decide(is_open=is_open, waiting=waiting, most=most, paused=False)

    assert decide(is_open=first, waiting=waiting, most=most, paused=False) is first


@given(st.booleans(), st.integers(1, 10**6))
def test_an_empty_line_opens_it_however_low_the_most_is(is_open: bool, most: int) -> None:
    assert decide(is_open=is_open, waiting=0, most=most, paused=False) is True


# --- the function -----------------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    variables = {
        "EVENT_SOURCE_MAPPING": MAPPING,
        "SEMAPHORE_FUNCTION": "semaphore",
        "MOST_WAITING": "100",
        "PAUSED": "",
        "PIPELINE": "Uploads",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with Stubber(valve.lambda_()) as stub:
        yield stub
        stub.assert_no_pending_responses()
    valve.lambda_.cache_clear()


def mapping_is(stub: Stubber, state: str) -> None:
    stub.add_response("get_event_source_mapping", {"UUID": MAPPING, "State": state}, {"UUID": MAPPING})


def semaphore_answers(stub: Stubber, answer: object, **reply: str) -> None:
    body = json.dumps(answer).encode()
    asked = {"FunctionName": "semaphore", "Payload": '{"action": "status", "key": "default"}'}
    stub.add_response("invoke", {"StatusCode": 200, "Payload": StreamingBody(BytesIO(body), len(body)), **reply}, asked)


def waiting(number: int) -> dict[str, Any]:
    """What the semaphore's function answers."""
    usage = {"inUse": 2, "waiting": number, "limit": 2, "paused": False, "oldestWaiterSeconds": 7.5}
    return {"limitInCode": 2, "newKeys": {"limit": 2, "paused": False}, "keys": {"default": usage}}


def expect_update(stub: Stubber, *, enabled: bool) -> None:
    stub.add_response("update_event_source_mapping", {}, {"UUID": MAPPING, "Enabled": enabled})


def valve_open(capsys: pytest.CaptureFixture[str]) -> int:
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (directive,) = record["_aws"]["CloudWatchMetrics"]
    assert directive["Metrics"] == [{"Name": "ValveOpen", "Unit": "Count"}]
    assert record["Pipeline"] == "Uploads"
    found: int = record["ValveOpen"]
    return found


def test_it_closes_when_too_many_wait(aws: Stubber, capsys: pytest.CaptureFixture[str]) -> None:
    mapping_is(aws, "Enabled")
    semaphore_answers(aws, waiting(100))
    expect_update(aws, enabled=False)

    assert valve.handle({}, None) == {"state": "Enabled", "open": False, "waiting": 100}

    assert valve_open(capsys) == 0


def test_it_opens_when_few_wait(aws: Stubber, capsys: pytest.CaptureFixture[str]) -> None:
    mapping_is(aws, "Disabled")
    semaphore_answers(aws, waiting(49))
    expect_update(aws, enabled=True)

    valve.handle({}, None)

    assert valve_open(capsys) == 1


@pytest.mark.parametrize(("state", "expected"), [("Enabled", 1), ("Disabled", 0)])
def test_what_is_right_already_is_not_updated(
    state: str, expected: int, aws: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping_is(aws, state)
    semaphore_answers(aws, waiting(70))

    valve.handle({}, None)

    assert valve_open(capsys) == expected


@pytest.mark.parametrize("state", ["Creating", "Enabling", "Disabling", "Updating", "Deleting"])
def test_what_is_still_changing_is_left_for_the_next_minute(
    state: str, aws: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping_is(aws, state)

    assert valve.handle({}, None) == {"state": state}

    assert capsys.readouterr().out == ""


def test_paused_it_closes_without_asking_how_many_wait(
    aws: Stubber, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAUSED", "true")
    mapping_is(aws, "Enabled")
    expect_update(aws, enabled=False)

    valve.handle({}, None)

    assert valve_open(capsys) == 0


def test_a_semaphore_that_fails_leaves_the_mapping_as_it_is(aws: Stubber) -> None:
    mapping_is(aws, "Enabled")
    semaphore_answers(aws, {"errorMessage": "no such table"}, FunctionError="Unhandled")

    with pytest.raises(StatusError, match=r"the semaphore's function failed: .*no such table"):
        valve.handle({}, None)


@pytest.mark.parametrize("answer", [None, [], {}, {"keys": {}}, {"keys": {"default": {"waiting": None}}}, "text"])
def test_an_answer_that_makes_no_sense_leaves_the_mapping_as_it_is(answer: object, aws: Stubber) -> None:
    mapping_is(aws, "Disabled")
    semaphore_answers(aws, answer)

    with pytest.raises(StatusError, match="the semaphore's function must say how many wait, got"):
        valve.handle({}, None)


def test_what_aws_refuses_is_raised(aws: Stubber) -> None:
    mapping_is(aws, "Enabled")
    semaphore_answers(aws, waiting(100))
    aws.add_client_error("update_event_source_mapping", "ResourceInUseException", http_status_code=400)

    with pytest.raises(ClientError, match="ResourceInUseException"):
        valve.handle({}, None)

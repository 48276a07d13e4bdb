"""The envelope: what is written is read, the input stays as it was, and what is not ours says why."""

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from spool.envelope import STATUSES, Envelope, Location, UnreadableError, key_at, read, write

MACHINE = "arn:aws:states:eu-central-1:111122223333:stateMachine:work"
EXECUTION = "arn:aws:states:eu-central-1:111122223333:execution:work:run-1"
ID = sha256(EXECUTION.encode()).hexdigest()[:32]


def envelope(**changes: Any) -> Envelope:
    values: dict[str, Any] = {
        "input": '{"order": "o-1"}',
        "error": "Down",
        "cause": "the neighbour is down",
        "state_machine": MACHINE,
        "execution": EXECUTION,
        "execution_name": "run-1",
        "execution_started_at": "2026-11-22T06:00:00.000Z",
        "failed_at": "2026-11-22T06:01:00.000Z",
        "failed_state": "Call",
        "status": "FAILED",
        "redrive_count": 0,
        "caught": False,
    }
    return Envelope(**{**values, **changes})


def body(**changes: Any) -> str:
    """A message with other fields; None takes one away."""
    fields = {**json.loads(write(envelope())), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None})


# --- what is written is read ------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(JSON, st.text(), st.text(), st.sampled_from(STATUSES), st.integers(0, 9), st.booleans())
def test_what_is_written_is_read(
    value: object, error: str, cause: str, status: Any, redrives: int, caught: bool
) -> None:
    written = envelope(
        input=json.dumps(value), error=error, cause=cause, status=status, redrive_count=redrives, caught=caught
    )

    assert read(write(written)) == written


@pytest.mark.parametrize(
    "text",
    [
        '{"price": 1.10, "big": 1e400, "long": 123456789012345678901234567890}',
        '{"same": 1, "same": 2}',
        " [ 1 ,\n 2 ] ",
        "null",
        '"}, \\"input\\": 1"',
        '{"half": "\\ud83d", "é": "受信箱 🎉"}',
        "9" * 5000,
    ],
)
def test_an_input_stays_as_it_was_written(text: str) -> None:
    assert read(write(envelope(input=text))).input == text.strip()


def test_an_input_may_stand_anywhere_in_the_body() -> None:
    fields = json.loads(body())
    fields.pop("input")
    rest = json.dumps(fields)[1:]

    assert read('  {"input" : [1.10],' + rest + "\n").input == "[1.10]"


def test_characters_that_sqs_refuses_are_escaped() -> None:
    written = write(envelope(input='{"text": "\uffff\x7f"}'))

    assert "\uffff" not in written
    assert json.loads(read(written).input or "") == {"text": "\uffff\x7f"}


def test_a_long_input_is_a_place() -> None:
    written = envelope(input=None, input_location=Location(bucket="inputs", key="a/1.json"))

    assert read(write(written)) == written


def test_what_an_execution_sends_itself_is_read() -> None:
    sent = {
        "schemaVersion": 1,
        "caught": True,
        "status": "FAILED",
        "failure": {"Error": "Down", "Cause": "the neighbour is down"},
        "input": {"order": "o-1"},
        "stateMachine": MACHINE,
        "execution": EXECUTION,
        "executionName": "run-1",
        "executionStartedAt": "2026-11-22T06:00:00.000Z",
        "failedAt": "2026-11-22T06:01:00.000Z",
    }

    found = read(json.dumps(sent))

    assert found == envelope(failed_state="", caught=True)
    assert read(json.dumps({**sent, "failure": {"Error": "Down"}})).cause == ""


def test_without_a_word_about_it_a_failure_counts_as_caught() -> None:
    assert read(body(caught=None)).caught


# --- the line of attempts ---------------------------------------------------------------------------------------------


def test_the_first_failure_has_the_id_of_its_execution() -> None:
    assert (envelope().id, envelope().attempt) == (ID, 1)
    assert envelope().next_name == f"again-{ID}-2"
    assert envelope().next_execution == f"arn:aws:states:eu-central-1:111122223333:execution:work:again-{ID}-2"


def test_an_execution_that_was_started_again_keeps_the_id_and_counts() -> None:
    again = envelope(execution_name=f"again-{ID}-2", execution=f"{EXECUTION}x")

    assert (again.id, again.attempt, again.next_name) == (ID, 2, f"again-{ID}-3")


def test_a_redrive_is_an_attempt() -> None:
    assert envelope(redrive_count=2).attempt == 3
    assert replace(envelope(redrive_count=2), execution_name=f"again-{ID}-4").attempt == 6


@pytest.mark.parametrize(
    "name", [f"again-{ID[:-1]}-2", f"again-{ID}-0", f"again-{ID}-x", f"x-again-{ID}-2", f"again-{ID}"]
)
def test_a_name_that_is_only_alike_is_any_name(name: str) -> None:
    assert (envelope(execution_name=name).id, envelope(execution_name=name).attempt) == (ID, 1)


def test_names_are_never_too_long() -> None:
    longest = envelope(execution_name=f"again-{ID}-999999", redrive_count=999_999)

    assert len(longest.next_name) <= 80


# --- the business key -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("$.order", "o-1"),
        ("$.lines[1].id", "7"),
        ("$['odd name']", "x"),
        ("$.lines", ""),
        ("$.flag", ""),
        ("$.order.id", ""),
        ("$.lines[5].id", ""),
        ("$.missing", ""),
        ("$..order", ""),
        ("order", ""),
        ("$", ""),
        ("", ""),
    ],
)
def test_a_key_is_text_or_a_number_at_its_path(path: str, key: str) -> None:
    text = '{"order": "o-1", "lines": [{}, {"id": 7}], "odd name": "x", "flag": true}'

    assert key_at(path, text) == key
    assert read(write(envelope(input=text)), key_path=path).key == key


@given(st.text(), JSON)
def test_no_path_and_no_input_raises(path: str, value: object) -> None:
    key_at(path, json.dumps(value))
    key_at(f"$.{path}", json.dumps(value))


# --- what is not ours -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not ours", "the body must be a JSON object"),
        ("", "the body must be a JSON object"),
        ("[]", "the body must be a JSON object"),
        ('"text"', "the body must be a JSON object"),
        ("[" * 100_000, "the body must be a JSON object"),
        ('{"input":' + "[" * 100_000, "the body must be a JSON object"),
        (body() + "x", "something stands behind the object"),
        (body()[:-1], "the body must be a JSON object"),
        (body()[:-1] + ",}", "the body must be a JSON object"),
        (body().replace('"o-1"', "NaN"), "NaN is no JSON"),
        ("{}", "schemaVersion must be 1, got nothing"),
        (body(schemaVersion=2), "schemaVersion must be at most 1, got 2: deploy a later version"),
        (body(schemaVersion=True), "schemaVersion must be 1, got true"),
        (body(schemaVersion="1"), 'schemaVersion must be 1, got "1"'),
        (body(schemaVersion=0), "schemaVersion must be 1, got 0"),
        (body(input=None), "input must be there, or inputLocation, got nothing"),
        (body(inputLocation="s3"), 'inputLocation must be an object, got "s3"'),
        (body(inputLocation={"bucket": "b"}), "key must be text, got nothing"),
        (body(error=1), "error must be text, got 1"),
        (body(stateMachine=""), 'stateMachine must be text, got ""'),
        (body(execution=None), "execution must be text, got nothing"),
        (body(execution="\ud800"), "execution must be text in Unicode"),
        (body(status="SUCCEEDED"), 'status must be one of FAILED, TIMED_OUT, ABORTED, got "SUCCEEDED"'),
        (body(redriveCount=-1), "redriveCount must be a whole number of at least 0, got -1"),
        (body(redriveCount=1.5), "redriveCount must be a whole number of at least 0, got 1.5"),
    ],
    ids=lambda value: value[:40],
)
def test_a_body_that_cannot_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(UnreadableError) as problem:
        read(text)

    assert why in str(problem.value)
    assert len(str(problem.value)) < 500


@given(st.text() | JSON.map(json.dumps))
def test_whatever_a_body_is_it_is_read_or_says_why(text: str) -> None:
    with pytest.raises(UnreadableError):
        read(text)

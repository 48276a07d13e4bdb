"""What went wrong, told by the error and its cause."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alert.failure import Kind, classify
from tests.lambda_src.alert_cases import CASES, TASK_ARN, Case, container, stopped_task
from tests.lambda_src.alert_events import JSON


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_known_failure_gets_its_name(case: Case) -> None:
    failure = classify(case.error, case.cause, case.essential)

    assert (failure.kind, failure.exit_code, failure.container) == (case.kind, case.exit_code, case.container)
    assert (failure.task_arn, failure.started) == (case.task_arn, case.started)
    assert case.says in failure.summary
    assert "\n" not in failure.summary


def test_the_table_has_every_kind_of_failure_and_no_name_twice() -> None:
    assert {case.kind for case in CASES} == set(Kind) - {Kind.ABORTED, Kind.SUCCEEDED, Kind.NOTICES}
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", [case for case in CASES if case.retried not in (None, "spot")], ids=lambda c: c.name)
def test_what_is_launched_again_never_ran(case: Case) -> None:
    assert classify(case.error, case.cause, case.essential).started is not True


def test_a_cause_cut_anywhere_never_turns_into_success_or_another_exit_code() -> None:
    cause = stopped_task(container(exit_code=137), container("proxy", exit_code=0), environment={"A": 'say "{"'})

    found = {classify("States.TaskFailed", cause[:length], ("app",)) for length in range(len(cause))}

    assert {failure.kind for failure in found} == {Kind.UNKNOWN, Kind.APPLICATION}
    assert {failure.exit_code for failure in found} == {None, 137}
    assert {failure.task_arn for failure in found} == {None, TASK_ARN}


def test_without_a_list_of_essential_containers_all_of_them_decide() -> None:
    cause = stopped_task(container(exit_code=0), container("proxy", exit_code=9))

    assert classify("States.TaskFailed", cause, ()).exit_code == 9


@given(error=st.sampled_from(sorted({case.error for case in CASES})), cause=st.text() | JSON.map(json.dumps))
@settings(max_examples=150, deadline=None)
def test_no_cause_is_too_odd_for_a_name(error: str, cause: str) -> None:
    assert classify(error, cause, ("app",)).summary


def test_json_as_deep_as_it_gets_is_not_read() -> None:
    assert classify("States.TaskFailed", '{"a":' * 10_000, ()).kind is Kind.UNKNOWN

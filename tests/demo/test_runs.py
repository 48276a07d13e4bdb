"""What is read out of an execution's history."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo.runs import Step, is_ours, steps, visits

START = datetime(2026, 1, 1, tzinfo=UTC)


def event(at: float, type_: str, **details: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"timestamp": START + timedelta(seconds=at), "type": type_, **details}


def entered(at: float, name: str, type_: str = "Task") -> Mapping[str, Any]:
    return event(at, f"{type_}StateEntered", stateEnteredEventDetails={"name": name})


def exited(at: float, name: str, type_: str = "Task") -> Mapping[str, Any]:
    return event(at, f"{type_}StateExited", stateExitedEventDetails={"name": name})


def scheduled(at: float, resource_type: str, resource: str = "") -> Mapping[str, Any]:
    return event(at, "TaskScheduled", taskScheduledEventDetails={"resourceType": resource_type, "resource": resource})


def failed(at: float, error: str, cause: str = "") -> Mapping[str, Any]:
    return event(at, "TaskFailed", taskFailedEventDetails={"error": error, "cause": cause})


def test_a_refused_launch_a_pause_a_task_and_an_alert() -> None:
    history = [
        event(0, "ExecutionStarted"),
        entered(0.1, "Run task"),
        scheduled(0.1, "ecs"),
        failed(0.2, "AmazonECS.Unknown"),
        exited(0.2, "Run task"),
        entered(0.2, "Wait", "Wait"),
        exited(1.2, "Wait", "Wait"),
        entered(1.2, "Run task"),
        scheduled(1.2, "ecs"),
        event(1.3, "TaskSubmitted"),
        event(4.0, "TaskTimedOut", taskTimedOutEventDetails={"error": "States.Timeout"}),
        exited(4.0, "Run task"),
        entered(4.0, "Tell"),
        scheduled(4.0, "lambda"),
        event(4.5, "TaskSucceeded"),
        exited(4.5, "Tell"),
    ]
    assert steps(history) == [
        Step("refused", 0.1, 0.2, False, "AmazonECS.Unknown"),
        Step("pause", 0.2, 1.2, True, "pause"),
        Step("task", 1.2, 4.0, False, "States.Timeout"),
        Step("told", 4.0, 4.5, True, "Tell"),
    ]
    assert visits(history) == {"Run task": 2, "Wait": 1, "Tell": 1}


def test_a_task_that_ended_well() -> None:
    history = [
        entered(0, "Run task"),
        scheduled(0, "ecs"),
        event(0, "TaskSubmitted"),
        event(2, "TaskSucceeded"),
        exited(2, "Run task"),
    ]
    assert steps(history) == [Step("task", 0, 2, True, "exit code 0")]


def test_a_task_that_never_started_did_not_run() -> None:
    history = [
        entered(0, "Run task"),
        scheduled(0, "ecs"),
        event(0, "TaskSubmitted"),
        failed(1, "States.TaskFailed", '{"StopCode":"TaskFailedToStart"}'),
        exited(1, "Run task"),
    ]
    assert [step.kind for step in steps(history)] == ["refused"]


def test_a_guarded_task_waits_first_and_its_release_is_no_alert() -> None:
    history = [
        entered(0, "Acquire quota"),
        scheduled(0, "lambda", "invoke.waitForTaskToken"),
        event(3, "TaskSucceeded"),
        exited(3, "Acquire quota"),
        entered(3, "Run task"),
        scheduled(3, "ecs", "runTask.sync"),
        event(3, "TaskSubmitted"),
        exited(5, "Run task"),
        entered(5, "Release quota"),
        scheduled(5, "lambda", "invoke"),
        exited(5.5, "Release quota"),
    ]
    assert steps(history) == [Step("waited", 0, 3, True, "permit"), Step("task", 3, 5, True, "exit code 0")]


def test_a_function_that_does_the_work_is_told_from_one_that_tells_somebody() -> None:
    history = [
        entered(0, "Take the order"),
        scheduled(0, "dynamodb", "updateItem"),
        exited(0.1, "Take the order"),
        entered(0.1, "Book the order"),
        scheduled(0.1, "lambda", "invoke"),
        failed(2, "Down"),
        exited(2, "Book the order"),
        entered(2, "Release Permit after failure"),
        scheduled(2, "lambda", "invoke"),
        exited(2.1, "Release Permit after failure"),
        event(2.2, "ExecutionFailed"),
    ]
    assert steps(history, work=["Book the order"]) == [Step("task", 0.1, 2, False, "Down")]
    assert steps(history) == [Step("told", 0.1, 2, False, "Book the order")]


def test_a_redrive_goes_on_at_the_work_that_failed() -> None:
    history = [
        entered(0, "Send the report"),
        scheduled(0, "lambda", "invoke"),
        failed(1, "Down"),
        event(1, "ExecutionFailed"),
        event(5, "ExecutionRedriven"),
        scheduled(5, "lambda", "invoke"),
        event(6, "TaskSucceeded"),
        exited(6, "Send the report"),
    ]
    assert steps(history, work=["Send the report"]) == [
        Step("task", 0, 1, False, "Down"),
        Step("task", 5, 6, True, "done"),
    ]


def test_who_is_aborted_while_it_waits_has_waited() -> None:
    waiting = [entered(0, "Acquire quota"), scheduled(0, "lambda", "invoke.waitForTaskToken")]
    assert steps([*waiting, event(2, "ExecutionAborted")]) == [Step("waited", 0, 2, False, "aborted")]


def test_who_is_aborted_at_work_is_not_said_to_have_waited() -> None:
    history = [
        entered(0, "Acquire quota"),
        scheduled(0, "lambda", "invoke.waitForTaskToken"),
        exited(1, "Acquire quota"),
        entered(1, "Run task"),
        scheduled(1, "ecs", "runTask.sync"),
        event(2, "ExecutionAborted"),
    ]
    assert steps(history) == [Step("waited", 0, 1, True, "permit")]


@pytest.mark.parametrize(("event_type", "ok"), [("MapRunSucceeded", True), ("MapRunFailed", False)])
def test_a_map_is_at_work_between_planning_and_accounting(event_type: str, ok: bool) -> None:
    history = [
        entered(0, "Plan"),
        scheduled(0, "lambda", "invoke"),
        exited(1, "Plan"),
        entered(1, "Process items", "Map"),
        event(1.5, "MapRunStarted"),
        event(7, event_type),
        exited(7, "Process items", "Map"),
        entered(7, "Account for all items"),
        scheduled(7, "lambda", "invoke"),
        exited(8, "Account for all items"),
        entered(8, "Tell of the failure"),
        scheduled(8, "lambda", "invoke"),
        exited(9, "Tell of the failure"),
    ]
    assert steps(history) == [
        Step("task", 1.5, 7, ok, "map run"),
        Step("told", 8, 9, True, "Tell of the failure"),
    ]


def test_who_started_an_execution_is_told_by_its_name() -> None:
    assert is_ours("arn:aws:states:us-east-1:000000000000:execution:demo-machine:demo-succeeds-1234")
    assert not is_ours("arn:aws:states:us-east-1:000000000000:execution:demo-machine:6c2f6c3e")

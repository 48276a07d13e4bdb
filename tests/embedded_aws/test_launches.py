"""Faults of launches, as a state machine meets them."""

import json

import pytest

from embedded_aws import EmbeddedAws, LaunchFault
from tests.embedded_aws.machines import Ending, make_task, run, run_task, stopped_task

RETRY = [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 9}]


def end_with(aws: EmbeddedAws, *faults: LaunchFault | None) -> Ending:
    family = make_task(aws, {"command": ["true"]})
    aws.refuse_launches(family, faults)
    return run(aws, {"Run": run_task(family)})


def test_an_api_error_has_its_name_and_text(aws: EmbeddedAws) -> None:
    end = end_with(aws, LaunchFault.api_error("ECS.InvalidParameterException", "Rate exceeded"))

    assert (end.error, end.cause) == ("ECS.InvalidParameterException", "Rate exceeded")
    assert "TaskSubmitted" not in end.types


def test_no_capacity_is_an_unknown_error(aws: EmbeddedAws) -> None:
    end = end_with(aws, LaunchFault.no_capacity())

    assert end.error == "AmazonECS.Unknown"
    assert end.cause.startswith("Capacity is unavailable at this time")


def test_a_task_that_never_started_has_no_exit_code(aws: EmbeddedAws) -> None:
    end = end_with(aws, LaunchFault.never_started("ResourceInitializationError: unable to pull secrets"))

    cause = json.loads(end.cause)
    assert end.error == "States.TaskFailed"
    assert cause["StopCode"] == "TaskFailedToStart"
    assert cause["StoppedReason"] == "ResourceInitializationError: unable to pull secrets"
    assert "ExitCode" not in cause["Containers"][0]
    assert "StartedAt" not in cause


def test_a_stopped_task_is_told_as_it_was_set(aws: EmbeddedAws) -> None:
    fault = LaunchFault.stopped(
        "SpotInterruption", "Your Spot Task was interrupted.", exit_codes={"app": 137}, reasons={"app": "Gone"}
    )

    end = end_with(aws, fault)

    cause = json.loads(end.cause)
    assert (cause["StopCode"], cause["StoppedReason"]) == ("SpotInterruption", "Your Spot Task was interrupted.")
    assert (cause["Containers"][0]["ExitCode"], cause["Containers"][0]["Reason"]) == (137, "Gone")
    assert "StartedAt" in cause


def test_the_cause_is_compact_json_in_alphabetical_order(aws: EmbeddedAws) -> None:
    end = end_with(aws, LaunchFault.never_started("any"))

    assert end.cause == json.dumps(json.loads(end.cause), separators=(",", ":"), sort_keys=True)
    assert '"StopCode":"TaskFailedToStart"' in end.cause


def test_a_raw_cause_arrives_as_it_is(aws: EmbeddedAws) -> None:
    end = end_with(aws, LaunchFault.raw("States.TaskFailed", '{"StopCode":"TaskFail'))

    assert (end.error, end.cause) == ("States.TaskFailed", '{"StopCode":"TaskFail')


def test_attempts_meet_the_faults_in_order_and_then_run(aws: EmbeddedAws) -> None:
    family = make_task(aws, {"command": ["true"]})
    throttled = LaunchFault.api_error("ECS.AmazonECSException", "Throttling")
    faults = [throttled, LaunchFault.no_capacity(), LaunchFault.never_started("Timeout")]
    aws.refuse_launches(family, faults)

    end = run(aws, {"Run": run_task(family, Retry=RETRY)})

    launches = aws.launches(family)
    assert end.status == "SUCCEEDED"
    assert [launch.fault for launch in launches] == [*faults, None]
    assert [launch.error for launch in launches] == ["ECS.AmazonECSException", "AmazonECS.Unknown", None, None]
    assert [launch.task is None for launch in launches] == [True, True, False, False]
    assert {launch.execution for launch in launches} == {end.arn}
    assert launches == sorted(launches, key=lambda launch: launch.at)
    assert launches[0].request["taskDefinition"] == family


def test_none_lets_one_attempt_run(aws: EmbeddedAws) -> None:
    family = make_task(aws, {"command": ["true"]})
    aws.refuse_launches(family, [None, LaunchFault.no_capacity()])
    machine = {"Run": run_task(family)}

    assert [run(aws, machine).status for _ in range(3)] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]


def test_a_fault_may_come_after_a_while(aws: EmbeddedAws) -> None:
    family = make_task(aws, {"command": ["true"]})
    aws.refuse_launches(family, [LaunchFault.stopped("UserInitiated", "Stopped by hand", after=0.5)])

    end = run(aws, {"Run": run_task(family)})

    task = stopped_task(aws, family)
    assert end.status == "FAILED"
    assert (task["stoppedAt"] - task["startedAt"]).total_seconds() >= 0  # ECS gives whole seconds.
    assert task["stoppedReason"] == "Stopped by hand"


@pytest.mark.parametrize("fault", [LaunchFault.no_capacity(), LaunchFault.never_started("any")])
def test_faults_are_values(fault: LaunchFault) -> None:
    assert fault == LaunchFault(**vars(fault))

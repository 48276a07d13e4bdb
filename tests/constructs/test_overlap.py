"""A run that comes round while the one before it is not over, and permits that are shared with other jobs."""

import re
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration

from asl_tools.resolve import state_machines
from asl_tools.second_interpreter import Error, Outcome, Result, Run, run_all
from constructs_lib import NO_RETRY, ConfigurationError, Overlap, Semaphore
from tests.parts.test_guard import CONTEXT, GRANTED, REFUSED, RELEASED
from tests.scheduled import definition_of, guarded, scheduled, surroundings, template_of
from tests.templates import resources

DONE = Result({"Containers": [{"Name": "app", "ExitCode": 0}]})
EXITED = Error(
    "States.TaskFailed", '{"StopCode":"EssentialContainerExited","Containers":[{"Name":"app","ExitCode":3}]}'
)


def run(asl: dict[str, Any], answers: dict[str, list[Result | Error]]) -> Outcome:
    return run_all([Run(definition=asl, input={"day": "monday"}, context=CONTEXT, tasks=answers)])[0]


def test_a_run_that_is_skipped_succeeds_and_says_so(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), overlap=Overlap.SKIP)
    asl = definition_of(stack)
    assert asl["States"]["Acquire turn"]["Parameters"]["Payload"]["onBusy"] == "skip"
    outcome = run(asl, {"Acquire turn": [REFUSED]})
    assert outcome.status == "SUCCEEDED"
    assert outcome.visited == ["Is there a tick?", "Acquire turn", "Is turn granted?", "Skipped for want of turn"]
    assert outcome.output == {"day": "monday", "permits": {"turn": {"granted": False}}}


def test_a_run_by_hand_waits_for_its_turn_in_three_transitions_more(stack: cdk.Stack) -> None:
    construct = scheduled(surroundings(stack), overlap=Overlap.WAIT)
    assert construct.turns is not None
    assert construct.turns.limit == 1
    asl = definition_of(stack)
    assert asl["States"]["Acquire turn"]["Parameters"]["Payload"]["onBusy"] == "wait"
    outcome = run(asl, {"Acquire turn": [GRANTED], "Run task": [DONE], "Release turn": [RELEASED]})
    assert outcome.visited == ["Is there a tick?", "Acquire turn", "Run task", "Release turn"]
    assert asl["TimeoutSeconds"] == 365 * 24 * 3600


def test_a_run_that_fails_gives_its_turn_back_before_anybody_is_told(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), overlap=Overlap.WAIT)
    outcome = run(
        definition_of(stack),
        {
            "Acquire turn": [GRANTED],
            "Run task": [EXITED],
            "Release turn after failure": [RELEASED],
            "Tell of the failure": [Result()],
        },
    )
    assert (outcome.status, outcome.error) == ("FAILED", "States.TaskFailed")
    assert outcome.visited[-3:] == ["Release turn after failure", "Tell of the failure", "Failed"]


def test_the_turn_is_taken_before_the_quota_and_given_back_after_it(stack: cdk.Stack) -> None:
    guarded(stack, Overlap.WAIT)
    outcome = run(
        definition_of(stack),
        {
            "Acquire turn": [GRANTED],
            "Acquire quota": [GRANTED],
            "Run task": [DONE],
            "Release quota": [RELEASED],
            "Release turn": [RELEASED],
        },
    )
    assert outcome.visited == [
        "Is there a tick?",
        "Acquire turn",
        "Acquire quota",
        "Start quota on time",
        "Run task",
        "Release quota",
        "Release turn",
    ]


def test_jobs_share_a_quota(app: cdk.App) -> None:
    shared = cdk.Stack(app, "Shared")
    quota = Semaphore(shared, "Quota", limit=2)
    stacks = [cdk.Stack(app, name) for name in ("One", "Two")]
    for stack in stacks:
        scheduled(surroundings(stack), semaphore=quota, retry=NO_RETRY)
    functions = set()
    for stack in stacks:
        [definition] = state_machines(template_of(stack)).values()
        functions.add(definition["States"]["Acquire quota"]["Parameters"]["FunctionName"])
    assert len(functions) == 1


def test_a_container_of_an_aborted_run_gets_time_to_stop(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), overlap=Overlap.SKIP)
    [grace] = [
        function["Environment"]["Variables"]["GRACE_SECONDS"]
        for function in resources(template_of(stack), "AWS::Lambda::Function").values()
        if function["Handler"].startswith("semaphore.")
    ]
    assert grace == "120"


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.WAIT])
def test_its_alarms_are_among_those_of_the_construct(overlap: Overlap, stack: cdk.Stack) -> None:
    construct = scheduled(surroundings(stack), overlap=overlap)
    assert len(construct.alarms) == len(resources(template_of(stack), "AWS::CloudWatch::Alarm"))
    assert construct.turns is not None
    assert ("OldestWaiter" in construct.turns.alarms) is (overlap is Overlap.WAIT)


def test_without_a_policy_there_is_no_table(stack: cdk.Stack) -> None:
    assert scheduled(surroundings(stack), overlap=Overlap.ALLOW).turns is None
    assert not resources(template_of(stack), "AWS::DynamoDB::Table")


REJECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"overlap": "skip"}, "overlap must be of type Overlap, got 'skip'. Pass for example Overlap.SKIP."),
    (
        {"semaphore": 5},
        "semaphore must be of type SharedSemaphore, got 5. Pass for example Semaphore(self, 'Quota', limit=5).",
    ),
    (
        {"overlap": Overlap.WAIT, "input": {"permits": 1}},
        "input must not have the keys result, error, launch, permits, tick, which the state machine sets beside the "
        "input, got ['permits']. Rename them, or nest your input one level deeper.",
    ),
]


@pytest.mark.parametrize(("options", "message"), REJECTIONS)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str, stack: cdk.Stack) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Nightly: {message}')}$"):
        scheduled(surroundings(stack), **options)


def test_an_execution_timeout_bounds_the_wait(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), overlap=Overlap.WAIT, execution_timeout=Duration.hours(6))
    assert definition_of(stack)["TimeoutSeconds"] == 6 * 3600

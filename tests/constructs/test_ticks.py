"""A tick of the schedule that is delivered twice: what the trigger tells of it, and where it is noted."""

import json
import re
from typing import Any

import aws_cdk as cdk
import jsii
import pytest
from aws_cdk import Duration
from aws_cdk import aws_scheduler as scheduler

from asl_tools.second_interpreter import Outcome, Result, Run, run_all
from constructs_lib import ConfigurationError, Overlap
from tests.constructs.test_overlap import DONE
from tests.parts.test_guard import CONTEXT, GRANTED, REFUSED, RELEASED
from tests.parts.test_once_per_tick import HAS_RUN, NOTED, TICKED
from tests.scheduled import definition_of, scheduled, surroundings, template_of
from tests.templates import only, resources


@jsii.implements(cdk.IStableAnyProducer)
class Late:
    """A value that is known when the template is made."""

    def produce(self) -> str:
        return "late"


ON_SCHEDULER = scheduler.ScheduleExpression.rate(Duration.hours(1))

ONCE: list[dict[str, Any]] = [{"once_per_tick": True}, {"overlap": Overlap.SKIP}, {"overlap": Overlap.WAIT}]


def rule_target(stack: cdk.Stack) -> dict[str, Any]:
    [rule] = [
        one for one in resources(template_of(stack), "AWS::Events::Rule").values() if one.get("Name") == "nightly"
    ]
    [target] = rule["Targets"]
    assert isinstance(target, dict)
    return target


@pytest.mark.parametrize("options", ONCE)
def test_a_rule_tells_the_scheduled_time_beside_the_input(options: dict[str, Any], stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), rule_name="nightly", input={"day": "monday", "nested": [1]}, **options)
    target = rule_target(stack)
    assert "Input" not in target
    assert target["InputTransformer"]["InputPathsMap"] == {"time": "$.time"}
    template = target["InputTransformer"]["InputTemplate"]
    assert template == '{"day":"monday","nested":[1],"tick":{"time":<time>}}'


@pytest.mark.parametrize("options", ONCE)
def test_a_schedule_tells_the_scheduled_time_beside_the_input(options: dict[str, Any], stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), schedule=ON_SCHEDULER, input={"day": "monday"}, **options)
    target = only(template_of(stack), "AWS::Scheduler::Schedule")["Target"]
    assert json.loads(target["Input"]) == {"day": "monday", "tick": {"time": "<aws.scheduler.scheduled-time>"}}


@pytest.mark.parametrize("options", ONCE)
def test_the_ticks_have_a_table(options: dict[str, Any], stack: cdk.Stack) -> None:
    construct = scheduled(surroundings(stack), **options)
    assert construct.ticks is not None
    table = stack.get_logical_id(construct.ticks.table.node.default_child)  # type: ignore[arg-type]
    note = definition_of(stack)["States"]["Note the tick"]
    assert note["Parameters"]["TableName"] == f"${{{table}}}"


def test_by_default_there_is_neither_tick_nor_table(stack: cdk.Stack) -> None:
    assert scheduled(surroundings(stack), rule_name="nightly").ticks is None
    assert rule_target(stack)["Input"] == "{}"
    assert not resources(template_of(stack), "AWS::DynamoDB::Table")


# --- runs -------------------------------------------------------------------------------------------------


def run(asl: dict[str, Any], input_: object, **answers: list[Any]) -> Outcome:
    scripted = {name.replace("_", " "): results for name, results in answers.items()}
    return run_all([Run(definition=asl, input=input_, context=CONTEXT, tasks=scripted)])[0]


def test_without_overlap_policy_it_costs_two_transitions(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), once_per_tick=True)
    asl = definition_of(stack)
    assert run(asl, TICKED, Note_the_tick=[NOTED], Run_task=[DONE]).visited == [
        "Is there a tick?",
        "Note the tick",
        "Run task",
    ]
    assert run(asl, {}, Run_task=[DONE]).visited == ["Is there a tick?", "Run task"]


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.WAIT])
def test_a_second_delivery_neither_takes_a_turn_nor_waits_for_one(overlap: Overlap, stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), overlap=overlap)
    outcome = run(definition_of(stack), TICKED, Note_the_tick=[HAS_RUN])
    assert outcome.visited == ["Is there a tick?", "Note the tick", "Delivered twice"]
    assert outcome.output["tick"]["duplicate"] is True


def test_the_tick_is_noted_before_the_turn_is_taken(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), overlap=Overlap.WAIT)
    outcome = run(
        definition_of(stack),
        TICKED,
        Note_the_tick=[NOTED],
        Acquire_turn=[GRANTED],
        Run_task=[DONE],
        Release_turn=[RELEASED],
    )
    assert outcome.visited == ["Is there a tick?", "Note the tick", "Acquire turn", "Run task", "Release turn"]


def test_a_tick_that_was_skipped_for_its_predecessor_is_not_run_later(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), overlap=Overlap.SKIP)
    asl = definition_of(stack)
    skipped = run(asl, TICKED, Note_the_tick=[NOTED], Acquire_turn=[REFUSED])
    assert skipped.visited[-1] == "Skipped for want of turn"
    assert run(asl, TICKED, Note_the_tick=[HAS_RUN]).visited[-1] == "Delivered twice"


def test_a_job_that_failed_is_told_with_its_tick(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), once_per_tick=True, retry=None)
    asl = definition_of(stack)
    outcome = run(
        asl,
        TICKED,
        Note_the_tick=[NOTED],
        Run_task=[HAS_RUN],
        Tell_of_the_failure=[Result()],
    )
    [told] = outcome.inputs["Tell of the failure"]
    assert told["Payload"]["Response"]["tick"] == TICKED["tick"]
    assert outcome.error == HAS_RUN.name


# --- what cannot work -------------------------------------------------------------------------------------

REJECTIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"once_per_tick": True, "input": {"tick": 1}},
        "input must not have the keys result, error, launch, tick, which the state machine sets beside the input, "
        "got ['tick']. Rename them, or nest your input one level deeper.",
    ),
    (
        {"overlap": Overlap.SKIP, "input": {"page": ["<title>"]}},
        "input must have no text in angle brackets, which a rule that tells the tick takes for a placeholder, "
        "got '<title>'. Take the brackets away, or pass schedule=scheduler.ScheduleExpression.… instead of "
        "events.Schedule.…",
    ),
    (
        {"once_per_tick": True, "input": {"<time>": 1}},
        "input must have no text in angle brackets, which a rule that tells the tick takes for a placeholder, "
        "got '<time>'. Take the brackets away, or pass schedule=scheduler.ScheduleExpression.… instead of "
        "events.Schedule.…",
    ),
]


@pytest.mark.parametrize(("options", "message"), REJECTIONS)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str, stack: cdk.Stack) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Nightly: {message}')}$"):
        scheduled(surroundings(stack), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"input": {"tick": 1, "page": "<title>"}},
        {"once_per_tick": True, "schedule": ON_SCHEDULER, "input": {"page": "<title>"}},
        {"once_per_tick": True, "input": {"rule": "a < b", "name": cdk.Aws.STACK_NAME, "late": cdk.Lazy.any(Late())}},
    ],
)
def test_what_disturbs_nobody_passes(options: dict[str, Any], stack: cdk.Stack) -> None:
    assert scheduled(surroundings(stack), **options).node.path == "Stack/Nightly"

"""The states around the map and those of its children, in an interpreter that other people wrote.

It knows no distributed Map: a task stands in for that, and each child is a state machine of its own.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_stepfunctions as sfn

from asl_tools.resolve import state_machines
from asl_tools.second_interpreter import Error, Outcome, Result, Run, run_all
from asl_tools.validate import problems
from constructs_lib import Batch, FailureTolerance, LaunchRetry, RetryPolicy, Semaphore
from tests.distributed_maps import ACCOUNT, BAD_ACCOUNT, NOTICES, PLAN, RUN, chain, processor
from tests.lambda_src.alert_cases import container, refused, stopped_task
from tests.parts import test_guard as guards
from tests.parts.test_guard import GRANTED, RELEASED
from tests.pipelines import fargate_job, function
from tests.scheduled import template_of

Answers = Mapping[str, Sequence[Result | Error]]

CONTEXT: dict[str, Any] = {**guards.CONTEXT, "Execution": {**guards.CONTEXT["Execution"], "Name": "night"}}
INPUT = {"runDate": "2026-11-21", "time": "2026-11-21T03:00:00Z"}
ITEM = {"Key": "in/2026/11/21/a b+ü.csv", "Size": 12, "ETag": "9a03", "LastModified": "2026-11-21T02:00:00Z"}
CHILD = {"item": ITEM, "run": RUN, "constants": {"target": "archive"}}
BATCH = {"Items": [ITEM, ITEM], "BatchInput": {"run": RUN, "constants": {}}}

MAPPED = Result(
    {"MapRunArn": "arn:map-run", "ResultWriterDetails": {"Bucket": "results", "Key": "runs/night/map/1/manifest.json"}}
)
TELL, TELL_NOTICES = "Tell of the failure", "Tell of the notices"


def payload(value: Any) -> Result:
    return Result({"Payload": value})


def machine(stack: cdk.Stack, part: str = "Workflow") -> dict[str, Any]:
    """A definition without problems."""
    [asl] = [one for name, one in state_machines(template_of(stack)).items() if part in name]
    assert problems(asl) == []
    return asl


def without_map(asl: Mapping[str, Any]) -> dict[str, Any]:
    """The same with a task in place of the map."""
    state = asl["States"]["Process items"]
    task = {name: state[name] for name in ("ResultPath", "Next")}
    stand_in = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"of.$": "$.plan"}, **task}
    return {**asl, "States": {**asl["States"], "Process items": stand_in}}


def run(asl: Mapping[str, Any], given: Any = INPUT, **answers: Sequence[Result | Error]) -> Outcome:
    """The outcome; ``Process_items`` is the state "Process items"."""
    told = {name: [Result()] for name in (TELL, TELL_NOTICES) if name in asl["States"]}
    tasks = {**told, **{name.replace("_", " "): results for name, results in answers.items()}}
    return run_all([Run(definition=without_map(asl), input=given, context=CONTEXT, tasks=tasks)])[0]


def run_child(asl: Mapping[str, Any], answers: Answers, given: Any = CHILD) -> Outcome:
    child = {**asl["States"]["Process items"]["ItemProcessor"], "QueryLanguage": "JSONPath"}
    child.pop("ProcessorConfig")
    return run_all([Run(definition=child, input=given, context=CONTEXT, tasks=answers)])[0]


@pytest.fixture
def bare(stack: cdk.Stack) -> dict[str, Any]:
    processor(stack)
    return machine(stack)


# --- a run ---------------------------------------------------------------------------------------------------


def test_a_run_that_goes_well_ends_with_its_account(bare: dict[str, Any]) -> None:
    outcome = run(bare, Plan=[payload(PLAN)], Process_items=[MAPPED], Account_for_all_items=[payload(ACCOUNT)])
    assert (outcome.status, outcome.output) == ("SUCCEEDED", ACCOUNT)
    assert [name for name in outcome.visited if "?" not in name] == [
        "Plan",
        "Process items",
        "Account for all items",
        "All items are accounted for",
    ]
    [asked] = outcome.inputs["Plan"]
    assert asked["Payload"]["input"] == INPUT
    assert asked["Payload"]["execution"]["id"] == CONTEXT["Execution"]["Id"]
    assert asked["Payload"]["state"] == {}
    [told] = outcome.inputs["Account for all items"]
    assert (told["Payload"]["plan"], told["Payload"]["map"]) == (PLAN, MAPPED.value)
    assert told["Payload"]["execution"]["stateMachine"] == CONTEXT["StateMachine"]["Id"]


def test_the_input_makes_room_for_the_plan(bare: dict[str, Any]) -> None:
    """With an array of 256 KiB in the input, the plan would not fit beside it."""
    outcome = run(bare, Plan=[payload(PLAN)], Process_items=[MAPPED], Account_for_all_items=[payload(ACCOUNT)])
    entered = {state.name: state.input for state in outcome.states}
    assert entered["Process items"] == {"plan": PLAN}


def test_a_listing_that_takes_long_goes_on_in_another_call(bare: dict[str, Any]) -> None:
    part = {**PLAN, "next": "more", "progress": {"token": "t", "parts": 3}}
    outcome = run(
        bare,
        {**INPUT, "progress": "not ours"},
        Plan=[payload(part)],
        Go_on_planning=[payload(part), Error("Lambda.ServiceException"), payload(PLAN)],
        Process_items=[MAPPED],
        Account_for_all_items=[payload(ACCOUNT)],
    )
    assert outcome.status == "SUCCEEDED"
    # After a failure, from where it was.
    assert [one["Payload"]["state"] for one in outcome.inputs["Go on planning"]] == [part, part, part]


@pytest.mark.parametrize("next_", ["counted", "empty"])
def test_where_nothing_is_to_be_done_nothing_is_done(next_: str, bare: dict[str, Any]) -> None:
    plan = {**PLAN, "next": next_, "count": 7}
    outcome = run(bare, Plan=[payload(plan)])
    assert (outcome.status, outcome.output) == ("SUCCEEDED", {"plan": plan})
    assert not {"Process items", TELL} & set(outcome.visited)


def test_too_many_failures_are_told_once_and_the_run_ends_failed(bare: dict[str, Any]) -> None:
    outcome = run(bare, Plan=[payload(PLAN)], Process_items=[MAPPED], Account_for_all_items=[payload(BAD_ACCOUNT)])
    assert (outcome.status, outcome.error) == ("FAILED", "ItemsFailed")
    assert outcome.cause == BAD_ACCOUNT["error"]["Cause"]
    [told] = outcome.inputs[TELL]
    assert told["Payload"]["Response"] == BAD_ACCOUNT


def test_a_run_may_end_well_although_items_failed(stack: cdk.Stack) -> None:
    processor(stack, fail_execution=False)
    outcome = run(
        machine(stack), Plan=[payload(PLAN)], Process_items=[MAPPED], Account_for_all_items=[payload(BAD_ACCOUNT)]
    )
    assert (outcome.status, outcome.visited[-1]) == ("SUCCEEDED", "Failed, and told")


@pytest.mark.parametrize("account", [ACCOUNT, BAD_ACCOUNT], ids=["well", "badly"])
def test_notices_are_told_whatever_became_of_other_items(account: dict[str, Any], bare: dict[str, Any]) -> None:
    with_notices = {**account, "notices": NOTICES}
    outcome = run(bare, Plan=[payload(PLAN)], Process_items=[MAPPED], Account_for_all_items=[payload(with_notices)])
    assert outcome.status == ("FAILED" if account["failed"] else "SUCCEEDED")
    [told] = outcome.inputs[TELL_NOTICES]
    # Without an error: it is no failure.
    assert told["Payload"]["Response"] == {name: with_notices[name] for name in ("notices", "counts", "summary")}
    assert outcome.calls[TELL] == account["failed"]


def test_notices_that_cannot_be_told_are_kept_and_spoil_nothing(bare: dict[str, Any]) -> None:
    outcome = run(
        bare,
        Plan=[payload(PLAN)],
        Process_items=[MAPPED],
        Account_for_all_items=[payload({**ACCOUNT, "notices": NOTICES})],
        Tell_of_the_notices=[Error("Lambda.ServiceException")] * 5,
        Keep_what_was_not_told_of_the_notices=[Result()],
    )
    assert outcome.status == "SUCCEEDED"
    [kept] = outcome.inputs["Keep what was not told of the notices"]
    assert kept["MessageBody"]["Response"]["notices"] == NOTICES


def test_successes_are_told(stack: cdk.Stack) -> None:
    processor(stack, success_handlers=[function(stack, "Good")])
    outcome = run(
        machine(stack),
        Plan=[payload(PLAN)],
        Process_items=[MAPPED],
        Account_for_all_items=[payload(ACCOUNT)],
        Tell_of_the_success=[Result()],
    )
    assert (outcome.status, outcome.visited[-1]) == ("SUCCEEDED", "Success told")


# --- what a run does again -------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [False, True])
def test_where_the_plan_failed_all_is_to_be_run_again(more: bool, bare: dict[str, Any]) -> None:
    not_there = Error("ItemsNotFound", '{"errorMessage": "no such list"}')
    answers: dict[str, list[Result | Error]] = {"Plan": [not_there]}
    if more:
        answers = {"Plan": [payload({**PLAN, "next": "more"})], "Go on planning": [not_there]}
    outcome = run(bare, **answers)
    assert (outcome.status, outcome.error) == ("FAILED", "ItemsNotFound")
    [told] = outcome.inputs[TELL]
    assert told["Payload"]["Response"]["again"] == INPUT


def test_where_the_account_failed_the_next_run_makes_it(bare: dict[str, Any]) -> None:
    outcome = run(
        bare, Plan=[payload(PLAN)], Process_items=[MAPPED], Account_for_all_items=[Error("TimeIsOverError", "…")]
    )
    assert (outcome.status, outcome.error) == ("FAILED", "TimeIsOverError")
    [told] = outcome.inputs[TELL]
    assert told["Payload"]["Response"]["again"] == {"rerun": {"execution": CONTEXT["Execution"]["Id"]}}


def test_answers_are_not_asked_for_again(bare: dict[str, Any]) -> None:
    assert run(bare, Plan=[Error("BadInput", "{}")]).calls["Plan"] == 1
    assert run(bare, Plan=[Error("ClientError", "{}")] * 6).calls["Plan"] == 6


def test_a_failure_of_the_map_is_not_caught(bare: dict[str, Any]) -> None:
    failed = Error("States.ExceedToleratedFailureThreshold", "…")
    outcome = run(bare, Plan=[payload(PLAN)], Process_items=[failed])
    assert (outcome.status, outcome.error) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    # The last state is the one that a redrive resumes.
    assert outcome.visited[-1] == "Process items"


# --- the report ------------------------------------------------------------------------------------------------

EVENT: dict[str, Any] = {
    "detail-type": "Step Functions Execution Status Change",
    "detail": {
        "executionArn": "arn:aws:states:eu-central-1:111122223333:execution:map:night",
        "stateMachineArn": "arn:aws:states:eu-central-1:111122223333:stateMachine:map",
        "name": "night",
        "status": "FAILED",
        "startDate": 1_771_000_000_000,
        "error": "States.ExceedToleratedFailureThreshold",
    },
}


def report(asl: Mapping[str, Any], **answers: Sequence[Result | Error]) -> Outcome:
    told = {name: [Result()] for name in (TELL, TELL_NOTICES) if name in asl["States"]}
    tasks = {**told, **{name.replace("_", " "): results for name, results in answers.items()}}
    state = {**CONTEXT["State"], "RetryCount": 0}
    return run_all([Run(definition=asl, input=EVENT, context={**CONTEXT, "State": state}, tasks=tasks)])[0]


@pytest.fixture
def reporting(stack: cdk.Stack) -> dict[str, Any]:
    processor(stack)
    return machine(stack, "Report")


def test_a_run_that_failed_as_a_whole_is_accounted_for_and_told_of_as_if_by_itself(reporting: dict[str, Any]) -> None:
    outcome = report(reporting, Account_for_all_items=[payload({**BAD_ACCOUNT, "notices": NOTICES})])
    assert outcome.status == "SUCCEEDED"
    [asked] = outcome.inputs["Account for all items"]
    assert asked["Payload"]["statusChange"] == EVENT["detail"]
    assert asked["Payload"]["retryCount"] == 0
    of_run = {
        "Execution": {
            "Id": EVENT["detail"]["executionArn"],
            "Name": "night",
            "StartTime": EVENT["detail"]["startDate"],
        },
        "StateMachine": {"Id": EVENT["detail"]["stateMachineArn"]},
    }
    [told] = outcome.inputs[TELL]
    assert told["Payload"]["Response"] == {**BAD_ACCOUNT, "notices": NOTICES}
    assert told["Payload"]["Execution"] == of_run
    assert told["Payload"]["Job"]["kind"] == "map"
    [noticed] = outcome.inputs[TELL_NOTICES]
    assert (noticed["Payload"]["Response"]["notices"], noticed["Payload"]["Execution"]) == (NOTICES, of_run)


def test_results_that_are_still_being_written_are_waited_for(reporting: dict[str, Any]) -> None:
    not_ready = Error("ResultsNotReady", "{}")
    outcome = report(reporting, Account_for_all_items=[*[not_ready] * 20, payload(BAD_ACCOUNT)])
    assert outcome.calls["Account for all items"] == 21
    first = reporting["States"]["Account for all items"]["Retry"][0]
    assert (first["ErrorEquals"], first["IntervalSeconds"], first["BackoffRate"]) == (["ResultsNotReady"], 30, 1)
    assert (
        reporting["States"]["Account for all items"]["Parameters"]["Payload"]["retryCount.$"] == "$$.State.RetryCount"
    )


def test_what_cannot_be_accounted_for_is_told_of_all_the_same(reporting: dict[str, Any]) -> None:
    outcome = report(reporting, Account_for_all_items=[Error("TimeIsOverError", "{}")])
    assert outcome.status == "SUCCEEDED"
    [told] = outcome.inputs[TELL]
    assert told["Payload"]["Response"] == {"StatusChange": EVENT["detail"]}


def test_who_cannot_be_told_by_the_report_is_kept_for(reporting: dict[str, Any]) -> None:
    outcome = report(
        reporting,
        Account_for_all_items=[payload(BAD_ACCOUNT)],
        Tell_of_the_failure=[Error("Lambda.ServiceException")] * 5,
        Keep_what_was_not_told_of_the_failure=[Result()],
    )
    assert outcome.status == "SUCCEEDED"
    [kept] = outcome.inputs["Keep what was not told of the failure"]
    assert kept["MessageBody"]["Response"] == BAD_ACCOUNT


# --- children --------------------------------------------------------------------------------------------------


def test_a_function_costs_one_transition_and_its_answer_is_all_there_is(bare: dict[str, Any]) -> None:
    answer = {"notice": ["empty"]}
    outcome = run_child(bare, {"Call the function": [Error("Lambda.TooManyRequestsException"), payload(answer)]})
    assert (outcome.visited, outcome.output) == (["Call the function"], answer)
    assert outcome.inputs["Call the function"][0]["Payload"] == CHILD


def test_what_a_function_raised_is_the_error_of_the_child(bare: dict[str, Any]) -> None:
    outcome = run_child(bare, {"Call the function": [Error("ValueError", '{"errorMessage": "no amount"}')]})
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", "ValueError", '{"errorMessage": "no amount"}')
    assert outcome.visited == ["Call the function"]


def test_a_batch_comes_as_a_whole(stack: cdk.Stack) -> None:
    processor(stack, batch=Batch(max_items=2))
    outcome = run_child(machine(stack), {"Call the function": [payload({"items": [1, 2]})]}, BATCH)
    assert outcome.inputs["Call the function"][0]["Payload"] == BATCH


def test_a_chain_gets_the_item_and_its_output_is_the_answer(stack: cdk.Stack) -> None:
    processor(stack, processor=chain(stack))
    answers = {"Call": [payload(1)], "Publish": [Result({"MessageId": "1"})]}
    outcome = run_child(machine(stack), answers)
    assert (outcome.visited, outcome.output) == (["Call", "Publish"], {"MessageId": "1"})
    assert outcome.inputs["Publish"][0]["Message"] == ITEM["Key"]


DONE = Result(json.loads(stopped_task(container(exit_code=0))))


def variables(outcome: Outcome) -> dict[str, Any]:
    [launch] = outcome.inputs["Run task"]
    [override] = launch["Overrides"]["ContainerOverrides"]
    return {variable["Name"]: json.loads(variable["Value"]) for variable in override["Environment"]}


def test_a_container_finds_its_item_in_its_environment(stack: cdk.Stack) -> None:
    processor(stack, processor=fargate_job(stack))
    # The interpreter takes quotes out of a text that is made of JSON: a number for each is enough here.
    given = {"item": 1, "run": 2, "constants": 3}
    outcome = run_child(machine(stack), {"Run task": [DONE]}, given)
    assert outcome.status == "SUCCEEDED"
    assert variables(outcome) == {"ITEM": 1, "RUN": 2, "CONSTANTS": 3}


def test_a_container_finds_its_batch_in_its_environment(stack: cdk.Stack) -> None:
    processor(stack, processor=fargate_job(stack), batch=Batch(max_bytes=4096))
    given = {"Items": [1, 2], "BatchInput": {"run": 3, "constants": 4}}
    outcome = run_child(machine(stack), {"Run task": [DONE]}, given)
    assert variables(outcome) == {"ITEMS": [1, 2], "RUN": 3, "CONSTANTS": 4}


def test_a_task_that_failed_is_the_error_of_the_child(stack: cdk.Stack) -> None:
    processor(stack, processor=fargate_job(stack, retry=LaunchRetry(throttled=RetryPolicy(max_attempts=1))))
    throttled = Error("ECS.AmazonECSException", refused("Rate exceeded", "ThrottlingException"))
    cause = stopped_task(container(exit_code=3))
    outcome = run_child(machine(stack), {"Run task": [throttled, Error("States.TaskFailed", cause)]})
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", "States.TaskFailed", cause)
    assert outcome.visited[-1] == "Item failed"


def guarded_child(stack: cdk.Stack, work: Any) -> dict[str, Any]:
    processor(stack, processor=work, semaphore=Semaphore(stack, "Quota", limit=5))
    return machine(stack)


def test_a_child_with_a_permit_gives_the_same_answer_and_the_permit_back(stack: cdk.Stack) -> None:
    asl = guarded_child(stack, function(stack))
    answers = {"Acquire quota": [GRANTED], "Call the function": [payload({"result": 5})], "Release quota": [RELEASED]}
    outcome = run_child(asl, answers)
    assert (outcome.visited, outcome.output) == (list(answers), {"result": 5})

    left = run_child(asl, {**answers, "Release quota": [Error("Lambda.ServiceException")] * 10})
    assert (left.visited[-1], left.output) == ("Leave quota to the sweeper", {"result": 5})


def test_a_failed_child_gives_its_permit_back_and_fails_as_it_did(stack: cdk.Stack) -> None:
    asl = guarded_child(stack, function(stack))
    answers: dict[str, list[Result | Error]] = {
        "Acquire quota": [GRANTED],
        "Call the function": [Error("ValueError", "no amount")],
        "Release quota after failure": [RELEASED],
    }
    outcome = run_child(asl, answers)
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", "ValueError", "no amount")
    assert outcome.visited == [*answers, "Item failed"]


def test_a_guarded_chain_answers_as_one_without_a_permit(stack: cdk.Stack) -> None:
    work = sfn.Pass(stack, "Answer", result=sfn.Result.from_object({"result": 5}))
    outcome = run_child(guarded_child(stack, work), {"Acquire quota": [GRANTED], "Release quota": [RELEASED]})
    assert outcome.output == {"result": 5}


# --- a definition for each source and tolerance ------------------------------------------------------------------


@pytest.mark.parametrize(
    "tolerance",
    [FailureTolerance.none(), FailureTolerance.count(0), FailureTolerance.percentage(5), FailureTolerance.collect()],
    ids=lambda tolerance: tolerance.kind,
)
def test_every_tolerance_makes_a_legal_map(tolerance: FailureTolerance, stack: cdk.Stack) -> None:
    processor(stack, tolerance=tolerance)
    assert machine(stack)

"""The states around guarded work: what they cost, and that the permit is given back whatever becomes of the work."""

import re
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from asl_tools.resolve import state_machines
from asl_tools.second_interpreter import Error, Outcome, Result, Run, run_all
from asl_tools.validate import problems
from constructs_lib import ConfigurationError, Semaphore
from constructs_lib.parts.dead_letters import DeadLetters
from constructs_lib.parts.guard import GuardedJob, OnBusy, Terms
from constructs_lib.parts.handlers import TopicHandler
from constructs_lib.parts.workflow import Workflow
from tests.parts.test_workflow import Sending
from tests.scheduled import template_of

PERMIT = {"key": "default", "id": "0f3c", "weight": 1}
GRANTED = Result({"granted": True, "permit": PERMIT, "startAt": "2026-01-01T00:00:00Z"})
REFUSED = Result({"granted": False})
RELEASED = Result({"Payload": {"released": True}})
BROKEN = Error("Lambda.Unknown", "the function died")
CONTEXT = {
    "Execution": {"Id": "arn:aws:states:eu-central-1:111122223333:execution:m:1"},
    "State": {"Name": "Acquire"},
    "StateMachine": {"Id": "m"},
    "Task": {"Token": "token"},
}
INPUT = {"tenant": "a", "weight": 2}


def work(stack: cdk.Stack, name: str = "Work", result_path: str | None = "$.result") -> sfn.CustomState:
    state: dict[str, Any] = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage",
        "Parameters": {"QueueUrl": "https://queue", "MessageBody": "work"},
    }
    return sfn.CustomState(
        stack, name, state_json=state if result_path is None else {**state, "ResultPath": result_path}
    )


def semaphore(stack: cdk.Stack, id_: str = "Semaphore", **options: Any) -> Semaphore:
    return Semaphore(stack, id_, **{"limit": 5, **options})


def machine(stack: cdk.Stack, definition: sfn.IChainable, *connected: Semaphore) -> dict[str, Any]:
    """The definition of a state machine that is connected, without problems."""
    state_machine = sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(definition))
    for one in connected:
        one.connect(state_machine)
    [asl] = state_machines(template_of(stack)).values()
    assert problems(asl) == []
    return asl


def run(asl: dict[str, Any], **answers: list[Result | Error]) -> Outcome:
    """The outcome with these answers; ``Acquire_Quota`` is the state "Acquire Quota"."""
    scripted = {name.replace("_", " "): results for name, results in answers.items()}
    return run_all([Run(definition=asl, input=INPUT, context=CONTEXT, tasks=scripted)])[0]


# --- one state --------------------------------------------------------------------------------------------


@pytest.fixture
def one_state(stack: cdk.Stack) -> dict[str, Any]:
    limit = semaphore(stack)
    return machine(stack, limit.guard(stack, "Quota", work(stack)), limit)


def test_one_state_costs_three_transitions_and_keeps_the_input(one_state: dict[str, Any]) -> None:
    outcome = run(one_state, Acquire_Quota=[GRANTED], Work=[Result("done")], Release_Quota=[RELEASED])
    assert outcome.visited == ["Acquire Quota", "Work", "Release Quota"]
    assert outcome.output == {**INPUT, "result": "done", "permits": {"Quota": GRANTED.value}}


def test_what_the_function_is_asked(one_state: dict[str, Any]) -> None:
    outcome = run(one_state, Acquire_Quota=[GRANTED], Work=[Result()], Release_Quota=[RELEASED])
    [asked], [given_back] = outcome.inputs["Acquire Quota"], outcome.inputs["Release Quota"]
    started = asked["Payload"].pop("order")
    assert re.match(r"\d{4}-\d\d-\d\dT", started)
    assert asked["Payload"] == {
        "action": "acquire",
        "token": "token",
        "execution": CONTEXT["Execution"]["Id"],
        "key": "default",
        "weight": 1,
        "onBusy": "wait",
    }
    assert given_back["Payload"] == {"action": "release", "permit": PERMIT}


def test_a_failure_gives_the_permit_back_and_is_told_as_it_was(one_state: dict[str, Any]) -> None:
    outcome = run(
        one_state,
        Acquire_Quota=[GRANTED],
        Work=[Error("SQS.SdkClientException", "no")],
        Release_Quota_after_failure=[RELEASED],
    )
    assert outcome.visited == ["Acquire Quota", "Work", "Release Quota after failure", "Failed Quota"]
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", "SQS.SdkClientException", "no")
    assert outcome.inputs["Release Quota after failure"][0]["Payload"] == {"action": "release", "permit": PERMIT}


def test_a_call_that_fails_is_made_again(one_state: dict[str, Any]) -> None:
    outcome = run(
        one_state,
        Acquire_Quota=[BROKEN, Error("ClientError", "throttled"), GRANTED],
        Work=[Result()],
        Release_Quota=[BROKEN, RELEASED],
    )
    assert outcome.status == "SUCCEEDED"


def test_a_permit_that_cannot_be_given_back_changes_nothing_of_the_outcome(one_state: dict[str, Any]) -> None:
    succeeded = run(one_state, Acquire_Quota=[GRANTED], Work=[Result("done")], Release_Quota=[BROKEN] * 10)
    assert succeeded.visited[-1] == "Leave Quota to the sweeper"
    assert succeeded.output["result"] == "done"

    failed = run(
        one_state,
        Acquire_Quota=[GRANTED],
        Work=[Error("MyError", "mine")],
        Release_Quota_after_failure=[BROKEN] * 10,
    )
    assert (failed.error, failed.cause) == ("MyError", "mine")


@pytest.mark.parametrize(
    "answer", ["Semaphore.Busy", "Semaphore.Paused", "Semaphore.WeightAboveLimit", "Semaphore.InvalidRequest"]
)
def test_an_answer_is_not_asked_for_again(answer: str, one_state: dict[str, Any]) -> None:
    outcome = run(one_state, Acquire_Quota=[Error(answer, "why")])
    assert (outcome.error, outcome.cause) == (answer, "why")


# --- other work -------------------------------------------------------------------------------------------


def test_a_chain_is_put_into_one_state_so_that_its_failure_is_caught(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    chain = sfn.Chain.start(work(stack, "First")).next(work(stack, "Second", result_path=None))
    asl = machine(stack, limit.guard(stack, "Quota", chain), limit)

    done = run(
        asl, Acquire_Quota=[GRANTED], First=[Result(1)], Second=[Result({"all": "is new"})], Release_Quota=[RELEASED]
    )
    assert done.visited == ["Acquire Quota", "Guard Quota", "First", "Second", "Release Quota"]
    assert done.output == {"all": "is new"}

    failed = run(
        asl,
        Acquire_Quota=[GRANTED],
        First=[Result(1)],
        Second=[Error("MyError", "mine")],
        Release_Quota_after_failure=[RELEASED],
    )
    assert (failed.error, failed.cause) == ("MyError", "mine")
    assert failed.calls["Release Quota after failure"] == 1

    left = run(asl, Acquire_Quota=[GRANTED], First=[Result(1)], Second=[Result("new")], Release_Quota=[BROKEN] * 10)
    assert left.output == "new"


def test_an_error_without_a_cause_is_told_as_it_was(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    chain = sfn.Chain.start(work(stack)).next(sfn.Fail(stack, "Break", error="Broken"))
    asl = machine(stack, limit.guard(stack, "Quota", chain), limit)
    outcome = run(asl, Acquire_Quota=[GRANTED], Work=[Result()], Release_Quota_after_failure=[RELEASED])
    assert (outcome.status, outcome.error, outcome.cause or "") == ("FAILED", "Broken", "")


@pytest.mark.parametrize("result_path", [None, "$", "$.permits", "$.permits.Quota"])
def test_a_state_that_would_overwrite_the_permit_is_kept_away_from_it(
    result_path: str | None, stack: cdk.Stack
) -> None:
    limit = semaphore(stack)
    asl = machine(stack, limit.guard(stack, "Quota", work(stack, result_path=result_path)), limit)
    outcome = run(asl, Acquire_Quota=[GRANTED], Work=[Result({"a": 1})], Release_Quota=[RELEASED])
    assert outcome.visited == ["Acquire Quota", "Guard Quota", "Work", "Release Quota"]
    assert outcome.inputs["Release Quota"][0]["Payload"]["permit"] == PERMIT


def test_a_state_that_hands_on_a_part_only_is_kept_away_from_it_too(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    part = sfn.Pass(stack, "Work", result=sfn.Result.from_number(1), result_path="$.one", output_path="$.one")
    asl = machine(stack, limit.guard(stack, "Quota", part), limit)
    outcome = run(asl, Acquire_Quota=[GRANTED], Release_Quota=[RELEASED])
    assert outcome.visited == ["Acquire Quota", "Guard Quota", "Work", "Release Quota"]
    assert outcome.output == 1


def test_a_wait_is_guarded_as_it_is(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    wait = sfn.Wait(stack, "Work", time=sfn.WaitTime.duration(Duration.seconds(2)))
    asl = machine(stack, limit.guard(stack, "Quota", wait), limit)
    outcome = run(asl, Acquire_Quota=[GRANTED], Release_Quota=[RELEASED])
    assert outcome.visited == ["Acquire Quota", "Work", "Release Quota"]


def test_work_with_a_catch_of_its_own_keeps_it(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    job = work(stack)
    job.add_catch(sfn.Pass(stack, "Mend"), errors=["MyError"], result_path="$.error")
    asl = machine(stack, limit.guard(stack, "Quota", job), limit)
    outcome = run(asl, Acquire_Quota=[GRANTED], Work=[Error("MyError")], Release_Quota=[RELEASED])
    assert outcome.visited == ["Acquire Quota", "Guard Quota", "Work", "Mend", "Release Quota"]
    assert outcome.output["error"]["Error"] == "MyError"


def test_states_of_the_cdk_are_guarded_alike(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    function = lambda_.Function.from_function_arn(stack, "Own", "arn:aws:lambda:eu-central-1:111122223333:function:own")
    call = tasks.LambdaInvoke(stack, "Call", lambda_function=function, result_path="$.called")
    asl = machine(stack, limit.guard(stack, "Quota", call).next(sfn.Succeed(stack, "End")), limit)
    outcome = run(asl, Acquire_Quota=[GRANTED], Call=[Result(1)], Release_Quota=[RELEASED])
    assert outcome.visited == ["Acquire Quota", "Call", "Release Quota", "End"]


# --- options ----------------------------------------------------------------------------------------------


def test_key_and_weight_come_from_the_input(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    guard = limit.guard(stack, "Quota", work(stack), key="$.tenant", weight="$.weight")
    asl = machine(stack, guard, limit)
    outcome = run(asl, Acquire_Quota=[GRANTED], Work=[Result()], Release_Quota=[RELEASED])
    payload = outcome.inputs["Acquire Quota"][0]["Payload"]
    assert (payload["key"], payload["weight"]) == ("a", 2)


def test_a_key_may_be_put_together_or_be_a_literal(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    composed = sfn.JsonPath.format("{}/{}", sfn.JsonPath.string_at("$.tenant"), sfn.JsonPath.string_at("$.weight"))
    inner = limit.guard(stack, "Literal", work(stack), key="reports", weight=3)
    asl = machine(stack, limit.guard(stack, "Composed", inner, key=composed), limit)
    outcome = run(
        asl,
        Acquire_Composed=[GRANTED],
        Acquire_Literal=[GRANTED],
        Work=[Result()],
        Release_Literal=[RELEASED],
        Release_Composed=[RELEASED],
    )
    assert outcome.inputs["Acquire Composed"][0]["Payload"]["key"] == "a/2"
    literal = outcome.inputs["Acquire Literal"][0]["Payload"]
    assert (literal["key"], literal["weight"]) == ("reports", 3)


def test_a_weight_may_be_an_expression(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    asl = machine(stack, limit.guard(stack, "Quota", work(stack), weight=sfn.JsonPath.string_at("$.weight")), limit)
    assert asl["States"]["Acquire Quota"]["Parameters"]["Payload"]["weight.$"] == "$.weight"


def test_who_waited_too_long_fails_with_a_named_error_that_can_be_caught(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    guard = limit.guard(stack, "Quota", work(stack), wait_timeout=Duration.minutes(5))
    whole = guard.to_single_state()
    whole.add_catch(sfn.Pass(stack, "Gave up"), errors=["Semaphore.WaitTimeout"], result_path="$.error")
    asl = machine(stack, whole, limit)
    [inner] = asl["States"]["Quota"]["Branches"]
    assert inner["States"]["Quota: Acquire Quota"]["TimeoutSeconds"] == 300

    [outcome] = run_all(
        [
            Run(
                definition=asl,
                input=INPUT,
                context=CONTEXT,
                tasks={"Quota: Acquire Quota": [Error("States.Timeout")]},
            )
        ]
    )
    assert outcome.visited == ["Quota", "Quota: Acquire Quota", "Quota: Waited too long for Quota", "Gave up"]
    assert outcome.output["error"] == {
        "Error": "Semaphore.WaitTimeout",
        "Cause": "No permit of Stack/Semaphore within 5 minutes.",
    }


def test_skipped_work_is_left_out_and_the_output_says_so(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    guard = limit.guard(stack, "Quota", work(stack), on_busy="skip")
    asl = machine(stack, sfn.Chain.start(guard).next(sfn.Succeed(stack, "End")), limit)

    skipped = run(asl, Acquire_Quota=[REFUSED])
    assert skipped.visited == ["Acquire Quota", "Is Quota granted?", "Skip Quota", "End"]
    assert skipped.output == {**INPUT, "permits": {"Quota": {"granted": False}}}

    done = run(asl, Acquire_Quota=[GRANTED], Work=[Result()], Release_Quota=[RELEASED])
    assert done.visited == ["Acquire Quota", "Is Quota granted?", "Work", "Release Quota", "End"]


def test_a_paced_start_costs_one_transition_more(stack: cdk.Stack) -> None:
    limit = semaphore(stack, max_starts_per_second=20)
    asl = machine(stack, limit.guard(stack, "Quota", work(stack)), limit)
    assert asl["States"]["Start Quota on time"]["TimestampPath"] == "$.permits.Quota.startAt"
    outcome = run(asl, Acquire_Quota=[GRANTED], Work=[Result()], Release_Quota=[RELEASED])
    assert outcome.visited == ["Acquire Quota", "Start Quota on time", "Work", "Release Quota"]


# --- together ---------------------------------------------------------------------------------------------


def test_guards_of_two_semaphores_nest(stack: cdk.Stack) -> None:
    outer, inner = semaphore(stack, "Outer"), semaphore(stack, "Inner")
    guard = outer.guard(stack, "Mutex", inner.guard(stack, "Quota", work(stack)), key="$.tenant")
    asl = machine(stack, guard, outer, inner)
    assert outer.function_arn != inner.function_arn
    failed = run(
        asl,
        Acquire_Mutex=[GRANTED],
        Acquire_Quota=[GRANTED],
        Work=[Error("MyError", "mine")],
        Release_Quota_after_failure=[RELEASED],
        Release_Mutex_after_failure=[RELEASED],
    )
    assert (failed.error, failed.cause) == ("MyError", "mine")
    assert failed.calls["Release Quota after failure"] == failed.calls["Release Mutex after failure"] == 1

    done = run(
        asl,
        Acquire_Mutex=[GRANTED],
        Acquire_Quota=[GRANTED],
        Work=[Result(1)],
        Release_Quota=[RELEASED],
        Release_Mutex=[RELEASED],
    )
    assert set(done.output["permits"]) == {"Mutex", "Quota"}


def test_one_after_the_other_in_branches_and_for_each_item(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    branches = sfn.Parallel(stack, "Both", result_path=sfn.JsonPath.DISCARD)
    for side in ("Left", "Right"):
        branches.branch(limit.guard(stack, side, work(stack, f"Work {side}")))
    items = sfn.Map(stack, "Each", items_path="$.items", item_selector={"item.$": "$$.Map.Item.Value"})
    items.item_processor(limit.guard(stack, "Item", work(stack, "Work item")))
    chain = limit.guard(stack, "Before", work(stack, "Work before")).next(branches).next(items)
    asl = machine(stack, chain, limit)
    names = ("Before", "Left", "Right")
    answers: dict[str, list[Result | Error]] = {
        **{f"Acquire {name}": [GRANTED] for name in names},
        **{f"Work {name}": [Result()] for name in ("before", "Left", "Right")},
        **{f"Release {name}": [RELEASED] for name in names},
        "Acquire Item": [GRANTED, GRANTED],
        "Work item": [Result(1), Result(2)],
        "Release Item": [RELEASED, RELEASED],
    }
    [outcome] = run_all([Run(definition=asl, input={"items": [1, 2]}, context=CONTEXT, tasks=answers)])
    assert outcome.status == "SUCCEEDED", outcome.cause
    assert [set(one["permits"]) for one in outcome.output] == [{"Item"}, {"Item"}]


# --- a job of a workflow ----------------------------------------------------------------------------------


def guarded_workflow(stack: cdk.Stack, terms: Terms) -> dict[str, Any]:
    topic = TopicHandler(sns.Topic(stack, "Topic"))
    Workflow(
        stack,
        "Workflow",
        job=GuardedJob(job=Sending(), semaphore=semaphore(stack), id="quota", terms=terms),
        name="sending",
        dead_letters=DeadLetters(stack, "DeadLetters").queue,
        on_failure=[topic],
        on_success=[topic],
    )
    [asl] = state_machines(template_of(stack)).values()
    assert problems(asl) == []
    return asl


def test_a_guarded_job_needs_no_state_more_and_connects_itself(stack: cdk.Stack) -> None:
    asl = guarded_workflow(stack, Terms())
    done = run(asl, Acquire_quota=[GRANTED], Send=[Result(1)], Release_quota=[RELEASED], Tell_of_the_success=[Result()])
    assert done.visited[:3] == ["Acquire quota", "Send", "Release quota"]

    left = run(
        asl, Acquire_quota=[GRANTED], Send=[Result(1)], Release_quota=[BROKEN] * 10, Tell_of_the_success=[Result()]
    )
    assert left.status == "SUCCEEDED"

    failed = run(
        asl,
        Acquire_quota=[GRANTED],
        Send=[Error("MyError", "mine")],
        Release_quota_after_failure=[RELEASED],
        Tell_of_the_failure=[Result()],
    )
    assert failed.visited == [
        "Acquire quota", "Send", "Release quota after failure", "Tell of the failure", "Failed",
    ]  # fmt: skip
    assert (failed.error, failed.cause) == ("MyError", "mine")
    assert asl["TimeoutSeconds"] == 365 * 24 * 3600


def test_a_guarded_job_is_the_job_to_everybody_else(stack: cdk.Stack) -> None:
    job = Sending()
    terms = Terms(key="$.tenant", weight="$.weight")
    wrapped = GuardedJob(job=job, semaphore=semaphore(stack), id="quota", terms=terms)
    assert wrapped.description() == job.description()
    assert wrapped.log_group_arns() == job.log_group_arns()
    assert sorted(wrapped.input_paths()) == ["$.tenant", "$.weight"]


def test_a_job_that_got_no_permit_has_failed(stack: cdk.Stack) -> None:
    asl = guarded_workflow(stack, Terms(wait_timeout=Duration.minutes(5)))
    late = run(asl, Acquire_quota=[Error("States.Timeout")], Tell_of_the_failure=[Result()])
    assert (late.error, late.cause) == ("Semaphore.WaitTimeout", "No permit of Stack/Semaphore within 5 minutes.")
    refused = run(asl, Acquire_quota=[Error("Semaphore.InvalidRequest", "why")], Tell_of_the_failure=[Result()])
    assert (refused.error, refused.cause) == ("Semaphore.InvalidRequest", "why")
    assert asl["TimeoutSeconds"] == 300 + 60 + 15 * 60


def test_a_job_that_is_skipped_ends_at_once_and_nobody_is_told(stack: cdk.Stack) -> None:
    asl = guarded_workflow(stack, Terms(on_busy="skip"))
    skipped = run(asl, Acquire_quota=[REFUSED])
    assert skipped.visited == ["Acquire quota", "Is quota granted?", "Skipped for want of quota"]
    assert skipped.output["permits"] == {"quota": {"granted": False}}


# --- what cannot work -------------------------------------------------------------------------------------

REJECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"weight": 0}, "weight must be a whole number from 1 to 5, got 0. Pass for example 1."),
    ({"weight": 6}, "weight must be a whole number from 1 to 5, got 6. Pass for example 1."),
    ({"weight": 1.5}, "weight must be a whole number from 1 to 5, got 1.5. Pass for example 1."),
    (
        {"weight": "two"},
        "weight must be a path into the input, such as $.name, got 'two'. "
        "Pass for example '$.weight', or a whole number.",
    ),
    (
        {"key": "$tenant"},
        "key must be a path into the input, such as $.name, got '$tenant'. "
        "Pass for example '$.tenant', or sfn.JsonPath.format(...).",
    ),
    (
        {"key": "$"},
        "key must be a path into the input, such as $.name, got '$'. "
        "Pass for example '$.tenant', or sfn.JsonPath.format(...).",
    ),
    ({"key": ""}, "key must have 1 to 1024 characters, got ''. Leave it out for one limit."),
    ({"key": 5}, "key must be of type str, got 5. Pass for example '$.tenant', or leave it out."),
    ({"on_busy": "queue"}, "on_busy must be 'wait', 'skip' or 'fail', got 'queue'. Leave it out to wait."),
    (
        {"wait_timeout": Duration.seconds(0)},
        "wait_timeout must be at least 1 second, in whole seconds, got Duration of 0 seconds. "
        "Pass for example Duration.hours(1).",
    ),
    (
        {"wait_timeout": Duration.minutes(5), "on_busy": "skip"},
        "wait_timeout is of no use with on_busy='skip', which does not wait, got Duration of 5 minutes. "
        "Leave one of the two out.",
    ),
]


@pytest.mark.parametrize(("options", "message"), REJECTIONS)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str, stack: cdk.Stack) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Quota: {message}')}$"):
        semaphore(stack).guard(stack, "Quota", work(stack), **options)


@pytest.mark.parametrize("id_", ["1st", "a b", "a-b", "x" * 51])
def test_an_id_that_is_no_name_is_refused(id_: str, stack: cdk.Stack) -> None:
    message = (
        f"Stack/{id_}: id must be a letter, then up to 49 letters, digits or _, got {id_!r}. Pass for example 'Quota'."
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        semaphore(stack).guard(stack, id_, work(stack))


def test_an_id_is_taken_once(stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    limit.guard(stack, "Quota", work(stack))
    message = "Stack: id must be unique within its scope, got 'Quota'. Give this construct another id."
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        limit.guard(stack, "Quota", work(stack, "Other"))


@pytest.mark.parametrize("on_busy", ["wait", "skip", "fail"])
def test_the_function_is_told_what_to_do_when_busy(on_busy: OnBusy, stack: cdk.Stack) -> None:
    limit = semaphore(stack)
    asl = machine(stack, limit.guard(stack, "Quota", work(stack), on_busy=on_busy), limit)
    assert asl["States"]["Acquire Quota"]["Parameters"]["Payload"]["onBusy"] == on_busy

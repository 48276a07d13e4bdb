"""What is done with an object, of each kind, in an interpreter that other people wrote."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from asl_tools.resolve import state_machines
from asl_tools.second_interpreter import Error, Outcome, Result, Run, run_all
from asl_tools.validate import problems
from constructs_lib import ConfigurationError, FargateJob, LaunchRetry, RetryPolicy
from constructs_lib.parts.chain_job import ChainJob
from constructs_lib.parts.job import Job
from constructs_lib.parts.lambda_job import LambdaJob
from constructs_lib.parts.object_job import as_job
from tests.lambda_src.alert_cases import container, not_placed, refused, stopped_task
from tests.parts.test_guard import CONTEXT, GRANTED, RELEASED
from tests.pipelines import OBJECT, chain, fargate_job, function, imported_function, pipeline
from tests.scheduled import template_of
from tests.templates import resources, statements

INPUT = {"object": OBJECT}
TELL = "Tell of the failure"


def definition(stack: cdk.Stack) -> dict[str, Any]:
    """The definition of the state machine that does the work, without problems."""
    [asl] = [one for one in state_machines(template_of(stack)).values() if "Acquire quota" in one["States"]]
    assert problems(asl) == []
    return asl


def run(asl: Mapping[str, Any], **answers: Sequence[Result | Error]) -> Outcome:
    """The outcome when a permit is granted; ``Run_task`` is the state "Run task"."""
    tasks_ = {name.replace("_", " "): results for name, results in answers.items()}
    around = {"Acquire quota": [GRANTED], "Release quota": [RELEASED], "Release quota after failure": [RELEASED]}
    used = {name: results for name, results in around.items() if name in asl["States"]}
    return run_all([Run(definition=asl, input=INPUT, context=CONTEXT, tasks={TELL: [Result()], **used, **tasks_})])[0]


def assert_failed_and_told(outcome: Outcome, error: str) -> None:
    assert (outcome.status, outcome.error) == ("FAILED", error)
    assert outcome.visited[-3:] == ["Release quota after failure", TELL, "Failed"]
    [told] = outcome.inputs[TELL]
    assert told["Payload"]["Response"]["object"] == OBJECT
    assert told["Payload"]["Response"]["error"]["Error"] == error


@pytest.mark.parametrize("kind", [FargateJob, LambdaJob, ChainJob])
def test_each_has_the_methods_of_the_contract(kind: type) -> None:
    contract = {name for name, value in vars(Job).items() if callable(value) and not name.startswith("_")}
    assert contract == {"bind", "description", "log_group_arns", "input_paths"}
    assert contract | {"roles", "longest_stop"} <= set(dir(kind))


# --- a Fargate task ---------------------------------------------------------------------------------------

DONE = Result(json.loads(stopped_task(container(exit_code=0))))


def environment(asl: Mapping[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = asl["States"]["Run task"]["Parameters"]["Overrides"]["ContainerOverrides"][0][
        "Environment"
    ]
    return found


def test_the_container_finds_the_object_in_its_environment(stack: cdk.Stack) -> None:
    pipeline(stack, job=fargate_job(stack))
    outcome = run(definition(stack), Run_task=[DONE])
    assert outcome.status == "SUCCEEDED"
    [launch] = outcome.inputs["Run task"]
    [override] = launch["Overrides"]["ContainerOverrides"]
    assert override["Name"] == "app"
    assert {variable["Name"]: variable["Value"] for variable in override["Environment"]} == {
        "OBJECT_BUCKET": "incoming",
        "OBJECT_KEY": "in/a b+c%20#ü.csv",
        "OBJECT_VERSION_ID": "",
        # A text: a number would be refused.
        "OBJECT_SIZE": "12",
        "OBJECT_ETAG": OBJECT["etag"],
        "OBJECT_SEQUENCER": OBJECT["sequencer"],
    }


def test_the_key_arrives_as_it_is(stack: cdk.Stack) -> None:
    """States.Format would take braces and backslashes for something else."""
    pipeline(stack, job=fargate_job(stack))
    values = {variable["Name"]: variable["Value.$"] for variable in environment(definition(stack))}
    assert values.pop("OBJECT_SIZE") == "States.Format('{}', $.object.size)"
    assert all(re.fullmatch(r"\$\.object\.\w+", path) for path in values.values())


def test_the_callers_overrides_stay_and_win(stack: cdk.Stack) -> None:
    job = fargate_job(stack)
    default = job.task_definition.default_container
    assert default is not None
    override = tasks.ContainerOverride(
        container_definition=default,
        command=sfn.JsonPath.list_at("$.object.key"),
        environment=[
            tasks.TaskEnvironmentVariable(name="OBJECT_KEY", value="mine"),
            tasks.TaskEnvironmentVariable(name="MODE", value="fast"),
        ],
    )
    own = fargate_job_like(job, container_overrides=[override], environment={"OBJECT_SIZE": "none"})
    pipeline(stack, job=own)
    asl = definition(stack)
    given = {variable["Name"]: variable.get("Value", "") for variable in environment(asl)}
    assert len(given) == len(environment(asl)) == 7
    assert (given["OBJECT_KEY"], given["MODE"], given["OBJECT_SIZE"]) == ("mine", "fast", "none")


def test_heartbeats_and_the_object_do_not_get_in_each_others_way(stack: cdk.Stack) -> None:
    pipeline(stack, job=fargate_job(stack, heartbeat=Duration.minutes(1)))
    names = [variable["Name"] for variable in environment(definition(stack))]
    assert (names[0], names[-1], len(names)) == ("OBJECT_BUCKET", "TASK_TOKEN", 7)


def fargate_job_like(job: FargateJob, **options: Any) -> FargateJob:
    return FargateJob(cluster=job.cluster, task_definition=job.task_definition, **options)


def test_a_refused_task_is_launched_again_under_the_same_permit(stack: cdk.Stack) -> None:
    pipeline(stack, job=fargate_job(stack, retry=LaunchRetry(throttled=RetryPolicy(max_attempts=1))))
    throttled = Error("ECS.AmazonECSException", refused("Rate exceeded", "ThrottlingException"))
    no_capacity = Error("AmazonECS.Unknown", not_placed("Capacity is unavailable at this time."))
    outcome = run(definition(stack), Run_task=[throttled, no_capacity, DONE])
    assert outcome.status == "SUCCEEDED"
    assert (outcome.calls["Run task"], outcome.calls["Acquire quota"], outcome.calls["Release quota"]) == (3, 1, 1)


def test_an_exit_code_gives_the_permit_back_and_is_told(stack: cdk.Stack) -> None:
    pipeline(stack, job=fargate_job(stack))
    exited = Error("States.TaskFailed", stopped_task(container(exit_code=3)))
    assert_failed_and_told(run(definition(stack), Run_task=[exited]), "States.TaskFailed")


# --- a function -------------------------------------------------------------------------------------------

ANSWER = Result({"Payload": {"rows": 3}, "StatusCode": 200, "ExecutedVersion": "$LATEST", "SdkHttpMetadata": {}})


def test_a_function_gets_the_input_and_its_answer_lies_beside_it(stack: cdk.Stack) -> None:
    pipeline(stack, job=function(stack))
    outcome = run(definition(stack), Call_the_function=[ANSWER])
    assert outcome.visited == ["Acquire quota", "Call the function", "Release quota"]
    [called] = outcome.inputs["Call the function"]
    assert called["Payload"]["object"] == OBJECT
    assert outcome.output["result"] == {"Payload": {"rows": 3}}
    assert outcome.output["object"] == OBJECT


@pytest.mark.parametrize(
    "error",
    [
        "Lambda.TooManyRequestsException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
    ],
)
def test_a_call_that_lambda_failed_is_made_again(error: str, stack: cdk.Stack) -> None:
    pipeline(stack, job=function(stack))
    outcome = run(definition(stack), Call_the_function=[Error(error)] * 6 + [ANSWER])
    assert (outcome.status, outcome.calls["Call the function"]) == ("SUCCEEDED", 7)


@pytest.mark.parametrize("error", ["ValueError", "States.Timeout", "Lambda.ClientExecutionTimeoutException"])
def test_what_the_function_did_is_not_done_again(error: str, stack: cdk.Stack) -> None:
    pipeline(stack, job=function(stack))
    outcome = run(definition(stack), Call_the_function=[Error(error, "why")])
    assert_failed_and_told(outcome, error)
    assert outcome.calls["Call the function"] == 1


def test_retries_come_at_different_times(stack: cdk.Stack) -> None:
    pipeline(stack, job=function(stack))
    retries = definition(stack)["States"]["Call the function"]["Retry"]
    assert [retry["JitterStrategy"] for retry in retries] == ["FULL", "FULL"]
    assert [retry["ErrorEquals"][0] for retry in retries] == [
        "Lambda.TooManyRequestsException",
        "Lambda.ServiceException",
    ]


Make = Callable[[cdk.Stack], lambda_.IFunction]
FUNCTIONS: dict[str, tuple[Make, int]] = {
    "of two minutes": (function, 180),
    "without a timeout": (lambda stack: function(stack, timeout=None), 63),
    "of another app": (imported_function, 16 * 60),
    "an alias": (
        lambda stack: lambda_.Alias(stack, "Live", alias_name="live", version=function(stack).current_version),
        180,
    ),
    "with a timeout of the deployment": (
        lambda stack: function(
            stack, timeout=Duration.seconds(cdk.CfnParameter(stack, "Time", type="Number").value_as_number)
        ),
        16 * 60,
    ),
}


@pytest.mark.parametrize("which", FUNCTIONS)
def test_step_functions_waits_longer_than_the_function_may_take(which: str, stack: cdk.Stack) -> None:
    """Else its permit would be given to another one while it is at work."""
    make, expected = FUNCTIONS[which]
    pipeline(stack, job=make(stack))
    assert definition(stack)["States"]["Call the function"]["TimeoutSeconds"] == expected


def test_an_alias_is_called_and_nothing_else_allowed(stack: cdk.Stack) -> None:
    make, _ = FUNCTIONS["an alias"]
    pipeline(stack, job=make(stack))
    template = template_of(stack)
    [alias] = resources(template, "AWS::Lambda::Alias")
    [allowed] = [
        one["Resource"]
        for one in statements(template)
        if one["Action"] == "lambda:InvokeFunction" and {"Ref": alias} in as_list(one["Resource"])
    ]
    [work] = [name for name in resources(template, "AWS::Lambda::Function") if name.startswith("Work")]
    assert {"Fn::GetAtt": [work, "Arn"]} not in as_list(allowed)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_alert_knows_the_log_group_of_the_function(stack: cdk.Stack) -> None:
    group = logs.LogGroup(stack, "Group")
    own = LambdaJob(function=function(stack, log_group=group)).description()
    usual = LambdaJob(function=imported_function(stack)).description()
    assert stack.resolve(own["logGroup"]) == stack.resolve(group.log_group_name)
    assert usual == {"kind": "lambda", "function": "own", "logGroup": "/aws/lambda/own"}


# --- states -----------------------------------------------------------------------------------------------


def test_states_get_the_input_and_their_output_lies_beside_it(stack: cdk.Stack) -> None:
    pipeline(stack, job=chain(stack))
    outcome = run(definition(stack), Call=[Result(1)], Publish=[Result({"MessageId": "7"})])
    assert outcome.visited == ["Acquire quota", "Process", "Call", "Publish", "Release quota"]
    assert outcome.output["result"] == {"output": {"MessageId": "7"}}
    assert outcome.output["object"] == OBJECT


def test_a_failure_in_any_of_them_gives_the_permit_back_and_is_told(stack: cdk.Stack) -> None:
    pipeline(stack, job=chain(stack))
    outcome = run(definition(stack), Call=[Result(1)], Publish=[Error("SNS.NotFoundException", "gone")])
    assert_failed_and_told(outcome, "SNS.NotFoundException")


def test_their_own_retries_are_kept(stack: cdk.Stack) -> None:
    call = tasks.LambdaInvoke(
        stack, "Call", lambda_function=function(stack), result_path="$.called", retry_on_service_exceptions=False
    )
    call.add_retry(errors=["Busy"], max_attempts=2)
    pipeline(stack, job=call)
    outcome = run(definition(stack), Call=[Error("Busy"), Error("Busy"), Result(1)])
    assert (outcome.status, outcome.calls["Call"]) == ("SUCCEEDED", 3)


def test_states_that_fail_by_themselves_are_caught(stack: cdk.Stack) -> None:
    pipeline(stack, job=sfn.Fail(stack, "No", error="Refused", cause="not this one"))
    assert_failed_and_told(run(definition(stack)), "Refused")


def test_the_state_machine_may_do_what_its_states_do(stack: cdk.Stack) -> None:
    queue = sqs.Queue(stack, "Elsewhere")
    send = tasks.SqsSendMessage(
        stack, "Send", queue=queue, message_body=sfn.TaskInput.from_json_path_at("$.object.key"), result_path="$.sent"
    )
    pipeline(stack, job=send.next(chain(stack)))
    template = template_of(stack)
    [machine] = [name for name in resources(template, "AWS::StepFunctions::StateMachine") if "Workflow" in name]
    [role] = resources(template, "AWS::StepFunctions::StateMachine")[machine]["RoleArn"]["Fn::GetAtt"][:1]
    allowed = {
        action
        for policy in resources(template, "AWS::IAM::Policy").values()
        if {"Ref": role} in policy["Roles"]
        for one in policy["PolicyDocument"]["Statement"]
        for action in as_list(one["Action"])
    }
    assert {"sqs:SendMessage", "sns:Publish", "lambda:InvokeFunction"} <= allowed


# --- all kinds --------------------------------------------------------------------------------------------


def test_what_it_is_is_told_by_what_it_has(stack: cdk.Stack) -> None:
    kinds = {
        FargateJob: fargate_job(stack),
        LambdaJob: imported_function(stack),
        ChainJob: sfn.Pass(stack, "Pass"),
    }
    for kind, given in kinds.items():
        assert type(as_job(stack, "job", given)) is kind


def test_how_long_work_may_outlive_its_execution(stack: cdk.Stack) -> None:
    assert fargate_job(stack).longest_stop.to_seconds() == 120
    assert LambdaJob(function=function(stack)).longest_stop.to_seconds() == 120
    assert LambdaJob(function=imported_function(stack)).longest_stop.to_minutes() == 15
    assert ChainJob(chain=sfn.Pass(stack, "Pass")).longest_stop.to_minutes() == 15


@pytest.mark.parametrize("given", [None, "arn:aws:lambda:eu-central-1:111122223333:function:own"])
def test_anything_else_is_refused(given: object, stack: cdk.Stack) -> None:
    message = (
        f"Stack: job must be a FargateJob, a function or a chain of states, got {given!r}. "
        "Pass for example FargateJob(cluster=…, task_definition=…)."
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        as_job(stack, "job", given)


def test_a_path_that_leads_nowhere_is_refused(stack: cdk.Stack) -> None:
    job = fargate_job(stack, environment={"DAY": sfn.JsonPath.string_at("$.day")})
    message = (
        "Stack/Pipeline: job must take from the input what is there: $.object with bucket, key, versionId, size, etag, "
        "sequencer, time, reason, got '$.day'. Correct the path, for example $.object.key."
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        pipeline(stack, job=job)


def test_a_chain_can_be_used_once(stack: cdk.Stack) -> None:
    states = chain(stack)
    pipeline(stack, "One", job=states)
    with pytest.raises(RuntimeError, match="already"):
        pipeline(stack, "Two", job=states)

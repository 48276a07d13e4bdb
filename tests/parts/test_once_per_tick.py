"""The states that note a tick before the job: what they write, and when the job is run."""

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_sns as sns

from asl_tools.resolve import state_machines
from asl_tools.second_interpreter import Error, Outcome, Result, Run, run_all
from asl_tools.validate import problems
from constructs_lib.parts.dead_letters import DeadLetters
from constructs_lib.parts.handlers import TopicHandler
from constructs_lib.parts.once_per_tick import JobOncePerTick, Ticks
from constructs_lib.parts.workflow import Workflow
from tests.parts.test_workflow import Sending
from tests.scheduled import template_of
from tests.templates import only, resources, statements

ARN = "arn:aws:states:eu-central-1:111122223333:execution:m:1"
CONTEXT = {"Execution": {"Id": ARN}, "State": {"Name": "Send"}, "StateMachine": {"Id": "m"}}
TICK = {"time": "2026-03-01T02:00:00Z"}
TICKED = {"day": "monday", "tick": TICK}

NOTED = Result({})
SENT = Result(1)
HAS_RUN = Error("DynamoDB.ConditionalCheckFailedException", "The conditional request failed")
AWAY = Error("DynamoDB.ProvisionedThroughputExceededException", "Too much")


@pytest.fixture
def template(stack: cdk.Stack) -> dict[str, Any]:
    topic = TopicHandler(sns.Topic(stack, "Topic"))
    Workflow(
        stack,
        "Workflow",
        job=JobOncePerTick(job=Sending(), ticks=Ticks(stack, "Ticks")),
        name="sending",
        dead_letters=DeadLetters(stack, "DeadLetters").queue,
        on_failure=[topic],
        on_success=[topic],
    )
    return template_of(stack)


@pytest.fixture
def asl(template: dict[str, Any]) -> dict[str, Any]:
    [definition] = state_machines(template).values()
    assert problems(definition) == []
    return definition


def run(asl: dict[str, Any], input_: object, noted: Sequence[Result | Error], sent: Result | Error = SENT) -> Outcome:
    """The outcome when its end can be told; `noted` is what each write gives."""
    answers = {"Note the tick": noted, "Send": [sent], "Tell of the success": [Result()]}
    if isinstance(sent, Error):
        answers["Tell of the failure"] = [Result()]
    return run_all([Run(definition=asl, input=input_, context=CONTEXT, tasks=answers)])[0]


def test_a_tick_is_noted_before_the_job_and_leaves_the_data_as_they_are(asl: dict[str, Any]) -> None:
    outcome = run(asl, TICKED, [NOTED])
    assert outcome.visited == ["Is there a tick?", "Note the tick", "Send", "Tell of the success", "Success told"]
    assert outcome.output == {**TICKED, "result": 1}


def test_what_is_written(template: dict[str, Any], asl: dict[str, Any]) -> None:
    [written] = run(asl, TICKED, [NOTED]).inputs["Note the tick"]
    [table] = resources(template, "AWS::DynamoDB::Table")
    assert written == {
        "TableName": f"${{{table}}}",
        "Item": {"tick": {"S": TICK["time"]}, "execution": {"S": ARN}},
        "ConditionExpression": "attribute_not_exists(tick) OR execution = :execution",
        "ExpressionAttributeValues": {":execution": {"S": ARN}},
    }


def test_a_tick_that_has_run_ends_well_says_so_and_tells_nobody(asl: dict[str, Any]) -> None:
    outcome = run(asl, TICKED, [HAS_RUN])
    assert outcome.visited == ["Is there a tick?", "Note the tick", "Delivered twice"]
    assert outcome.status == "SUCCEEDED"
    assert outcome.output == {"day": "monday", "tick": {**TICK, "duplicate": True}}
    assert outcome.calls["Note the tick"] == 1


@pytest.mark.parametrize("input_", [{}, {"day": "monday"}, {"tick": "monday"}, {"tick": {}}])
def test_a_run_without_a_tick_is_run_and_nothing_is_noted(input_: dict[str, Any], asl: dict[str, Any]) -> None:
    outcome = run(asl, input_, [])
    assert outcome.visited[:2] == ["Is there a tick?", "Send"]
    assert outcome.output == {**input_, "result": 1}


def test_a_write_that_failed_is_tried_again(asl: dict[str, Any]) -> None:
    outcome = run(asl, TICKED, [AWAY, Error("States.Timeout"), NOTED])
    assert (outcome.status, outcome.calls["Note the tick"], outcome.calls["Send"]) == ("SUCCEEDED", 3, 1)


def test_after_a_failed_write_the_tick_may_prove_to_have_run(asl: dict[str, Any]) -> None:
    outcome = run(asl, TICKED, [AWAY, HAS_RUN])
    assert (outcome.visited[-1], outcome.calls["Send"]) == ("Delivered twice", 0)


def test_a_table_that_stays_away_keeps_no_job_from_running(asl: dict[str, Any]) -> None:
    outcome = run(asl, TICKED, [AWAY] * 10)
    assert (outcome.status, outcome.calls["Note the tick"], outcome.calls["Send"]) == ("SUCCEEDED", 10, 1)
    assert outcome.output == {**TICKED, "result": 1}


def test_a_job_that_fails_after_its_tick_fails_with_its_own_error(asl: dict[str, Any]) -> None:
    outcome = run(asl, TICKED, [NOTED], sent=Error("MyError", "mine"))
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", "MyError", "mine")


def test_the_time_limit_has_room_for_the_writes_that_are_tried_again(asl: dict[str, Any]) -> None:
    assert asl["TimeoutSeconds"] == 60 + (1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 + 60) + 15 * 60


def test_the_state_machine_may_write_to_this_table_only(template: dict[str, Any]) -> None:
    [table] = resources(template, "AWS::DynamoDB::Table")
    allowed = [one for one in statements(template) if "dynamodb" in str(one["Action"])]
    assert allowed == [
        {"Action": "dynamodb:PutItem", "Effect": "Allow", "Resource": {"Fn::GetAtt": [table, "Arn"]}},
    ]


def test_the_table_is_encrypted_backed_up_and_paid_by_request(template: dict[str, Any]) -> None:
    assert only(template, "AWS::DynamoDB::Table") == {
        "AttributeDefinitions": [{"AttributeName": "tick", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "tick", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {"SSEEnabled": True},
    }
    [policy] = {one["DeletionPolicy"] for one in template["Resources"].values() if one["Type"].startswith("AWS::Dyn")}
    assert policy == "Delete"


def test_to_everybody_else_it_is_the_job(stack: cdk.Stack) -> None:
    job = Sending()
    wrapped = JobOncePerTick(job=job, ticks=Ticks(stack, "Ticks"))
    assert (wrapped.description(), wrapped.log_group_arns(), wrapped.input_paths()) == (
        job.description(),
        job.log_group_arns(),
        job.input_paths(),
    )

"""The workflow around a job that is no Fargate task: a part knows nothing of the constructs that use it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from asl_tools.resolve import state_machines
from asl_tools.second_interpreter import Error, Result, Run, run_all
from asl_tools.validate import problems
from constructs_lib.parts.dead_letters import DeadLetters
from constructs_lib.parts.handlers import TopicHandler
from constructs_lib.parts.job import BoundJob
from constructs_lib.parts.workflow import Workflow
from tests.scheduled import template_of
from tests.templates import statements

QUEUE = "arn:aws:sqs:eu-central-1:111122223333:work"


@dataclass(frozen=True)
class Sending:
    """The smallest job: sends a message."""

    def bind(self, scope: Construct, *, on_failure: sfn.IChainable) -> BoundJob:
        send = sfn.CustomState(
            scope,
            "Send",
            state_json={
                "Type": "Task",
                "Resource": "arn:aws:states:::sqs:sendMessage",
                "Parameters": {"QueueUrl": "https://queue", "MessageBody": "work"},
                "ResultPath": "$.result",
            },
        )
        send.add_catch(on_failure, errors=["States.ALL"], result_path="$.error")
        return BoundJob(
            chain=sfn.Chain.start(send),
            statements=[iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[QUEUE])],
            longest_run=Duration.minutes(1),
        )

    def description(self) -> Mapping[str, Any]:
        return {"kind": "sending"}

    def log_group_arns(self) -> Sequence[str]:
        return []

    def input_paths(self) -> Sequence[str]:
        return []


@pytest.fixture
def template(stack: cdk.Stack) -> dict[str, Any]:
    topic = TopicHandler(sns.Topic(stack, "Topic"))
    Workflow(
        stack,
        "Workflow",
        job=Sending(),
        name="sending",
        dead_letters=DeadLetters(stack, "DeadLetters").queue,
        on_failure=[topic],
        on_success=[topic],
    )
    return template_of(stack)


def test_any_job_fails_with_its_own_error_after_the_handlers(template: dict[str, Any]) -> None:
    [definition] = state_machines(template).values()
    assert problems(definition) == []
    context = {"Execution": {"Id": "1"}, "State": {"Name": "Send"}, "StateMachine": {"Id": "2"}}
    failed, succeeded = run_all(
        [
            Run(
                definition=definition,
                context=context,
                tasks={"Send": [Error("SQS.SdkClientException", "no")], "Tell of the failure": [Result()]},
            ),
            Run(
                definition=definition,
                context=context,
                tasks={"Send": [Result({"MessageId": "1"})], "Tell of the success": [Result()]},
            ),
        ]
    )
    assert (failed.status, failed.error, failed.cause) == ("FAILED", "SQS.SdkClientException", "no")
    assert succeeded.output["result"] == {"MessageId": "1"}
    assert definition["TimeoutSeconds"] == 60 + 15 * 60


def test_the_role_gets_what_the_job_asks_for(template: dict[str, Any]) -> None:
    assert [one["Action"] for one in statements(template) if one["Resource"] == QUEUE] == ["sqs:SendMessage"]


def test_a_handler_that_is_told_of_both_endings_is_allowed_once(template: dict[str, Any]) -> None:
    publishing = [one for one in statements(template) if one["Action"] == "sns:Publish"]
    assert len(publishing) == 1

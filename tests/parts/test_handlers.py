"""Handlers look alike, whatever they deliver to."""

import inspect
from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn

from asl_tools.resolve import state_machines
from constructs_lib import AlertFunction, ConfigurationError, ErrorSpool
from constructs_lib.parts.handlers import FunctionHandler, Handler, TopicHandler, Watcher, as_handlers
from tests.scheduled import template_of
from tests.templates import only

OWN = "arn:aws:lambda:eu-central-1:111122223333:function:own"
TOPIC = "arn:aws:sns:eu-central-1:111122223333:topic"

MESSAGE = {"Response.$": "$"}
JOB = {"name": "Nightly"}

MAKERS: dict[str, Callable[[cdk.Stack], Handler]] = {
    "alert": lambda stack: AlertFunction(stack, "Alert"),
    "function": lambda stack: FunctionHandler(lambda_.Function.from_function_arn(stack, "Own", OWN)),
    "topic": lambda stack: TopicHandler(sns.Topic.from_topic_arn(stack, "Topic", TOPIC)),
    "spool": lambda stack: ErrorSpool(stack, "Spool"),
}


@pytest.mark.parametrize("handler", [AlertFunction, FunctionHandler, TopicHandler, ErrorSpool])
def test_each_has_the_methods_of_the_contract(handler: type) -> None:
    declared = {**vars(Watcher), **vars(Handler)}
    contract = {name: method for name, method in declared.items() if inspect.isfunction(method) and name[0] != "_"}
    assert set(contract) == {"prepare", "state", "grant", "rule_target"}
    for name, method in contract.items():
        assert inspect.signature(getattr(handler, name)) == inspect.signature(method), name


@pytest.mark.parametrize("kind", MAKERS)
def test_each_is_a_task_that_leaves_the_data_as_it_is(kind: str, stack: cdk.Stack) -> None:
    tell = MAKERS[kind](stack).state(stack, "Tell", MESSAGE, JOB)
    sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(tell))
    [definition] = state_machines(template_of(stack)).values()
    state = definition["States"]["Tell"]
    assert state["Type"] == "Task"
    # Absent would mean "$": the answer in place of the data.
    assert state["ResultPath"] is None


def test_only_the_alert_function_is_told_of_the_job(stack: cdk.Stack) -> None:
    payloads = {}
    # The spool makes its message of the context object.
    for kind in MAKERS.keys() - {"spool"}:
        parameters = MAKERS[kind](stack).state(stack, kind, MESSAGE, JOB).to_state_json()["Parameters"]
        payloads[kind] = stack.resolve(parameters.get("Payload") or parameters.get("Message"))
    assert payloads == {"alert": {**MESSAGE, "Job": JOB}, "function": MESSAGE, "topic": MESSAGE}


@pytest.mark.parametrize("kind", MAKERS)
def test_each_can_be_the_target_of_a_rule(kind: str, stack: cdk.Stack) -> None:
    queue = sqs.Queue(stack, "Queue")
    rule = cdk.aws_events.Rule(stack, "Rule", schedule=cdk.aws_events.Schedule.rate(cdk.Duration.hours(1)))
    target = MAKERS[kind](stack).rule_target({"Response": "x"}, JOB, queue).bind(rule)
    assert target.dead_letter_config is not None


def test_functions_and_topics_are_taken_as_they_are(stack: cdk.Stack) -> None:
    given: list[lambda_.IFunction | sns.ITopic | Handler] = [
        AlertFunction(stack, "Alert"),
        lambda_.Function.from_function_arn(stack, "Own", OWN),
        sns.Topic.from_topic_arn(stack, "Imported", TOPIC),
        sns.Topic(stack, "Topic"),
    ]
    handlers = as_handlers(stack, "failure_handlers", given)
    assert [type(one) for one in handlers] == [AlertFunction, FunctionHandler, TopicHandler, TopicHandler]
    assert handlers[0] is given[0]


@pytest.mark.parametrize("wrong", [None, "arn", 3, sqs.Queue])
def test_anything_else_is_refused(wrong: Any, stack: cdk.Stack) -> None:
    with pytest.raises(ConfigurationError, match="failure_handlers must be functions, topics or handlers, got "):
        as_handlers(stack, "failure_handlers", [wrong])


def test_a_topic_with_a_key_of_its_own_is_granted_without_a_wildcard(stack: cdk.Stack) -> None:
    own_key = kms.Key(stack, "Key")
    topic = sns.Topic(stack, "Topic", master_key=own_key)
    role = iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
    TopicHandler(topic).grant(role)
    publish, key = only(template_of(stack), "AWS::IAM::Policy")["PolicyDocument"]["Statement"]
    assert publish["Action"] == "sns:Publish"
    assert key["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert key["Resource"] == stack.resolve(own_key.key_arn)

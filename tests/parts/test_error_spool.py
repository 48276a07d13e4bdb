"""The spool's resources, its two ways in, and the state machines of other stacks that use it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn

from asl_tools.resolve import state_machines
from asl_tools.second_interpreter import Error, Outcome, Result, Run, run_all
from asl_tools.validate import problems
from constructs_lib import AlertFunction, ConfigurationError, ErrorSpool
from spool import envelope
from tests.error_spools import ELSEWHERE, express_machine, imported_machine, machine, spool
from tests.parts.test_guard import GRANTED, RELEASED
from tests.pipelines import OBJECT, pipeline
from tests.rules.nag import findings
from tests.scheduled import make_app, scheduled, surroundings, template_of
from tests.templates import as_list, only, resources, statements

EXECUTION = "arn:aws:states:eu-central-1:111122223333:execution:Thumbnails:one"
CONTEXT = {
    "Execution": {"Id": EXECUTION, "Name": "one"},
    "State": {"Name": "Tell 1 of the failure", "EnteredTime": "2026-03-01T02:00:09.000Z"},
    "StateMachine": {"Id": "arn:aws:states:eu-central-1:111122223333:stateMachine:Thumbnails", "Name": "Thumbnails"},
    "Task": {"Token": "token"},
}
SPOOL_IT, TELL_IT = "Tell 1 of the failure", "Tell 2 of the failure"
KEEP_IT = "Keep what 1 was not told of the failure"


@pytest.fixture(scope="module")
def attached(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A spool, attached to a state machine that the library did not make."""
    stack = cdk.Stack(make_app(tmp_path_factory.mktemp("attached")), "Stack")
    spool(stack).attach(machine(stack))
    return template_of(stack)


@pytest.fixture(scope="module")
def handling(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A pipeline with the spool and then the alert among its failure handlers."""
    stack = cdk.Stack(make_app(tmp_path_factory.mktemp("handling")), "Stack")
    pipeline(stack, failure_handlers=[spool(stack), AlertFunction(stack, "Alert")])
    return template_of(stack)


def by_id(template: dict[str, Any], type_: str, part: str) -> tuple[str, dict[str, Any]]:
    """The logical id and the properties of the only resource of the type with this in its id."""
    [found] = [(name, one) for name, one in resources(template, type_).items() if part in name]
    return found


def arn(template: dict[str, Any], type_: str, part: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [by_id(template, type_, part)[0], "Arn"]}


def allowed(template: dict[str, Any], role: str) -> dict[str, list[Any]]:
    """The resources for each action of the role with this in its id, but for those of its log."""
    name, _ = by_id(template, "AWS::IAM::Role", role)
    found: dict[str, list[Any]] = {}
    for policy in resources(template, "AWS::IAM::Policy").values():
        if {"Ref": name} in policy["Roles"]:
            for one in policy["PolicyDocument"]["Statement"]:
                for action in as_list(one["Action"]):
                    if not action.startswith("logs:"):
                        found.setdefault(action, []).extend(as_list(one["Resource"]))
    return found


# --- resources --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["SpoolQueue", "SpoolQuarantine"])
def test_what_is_spooled_or_parked_is_kept_as_long_as_sqs_can(part: str, attached: dict[str, Any]) -> None:
    assert by_id(attached, "AWS::SQS::Queue", part)[1] == {
        "SqsManagedSseEnabled": True,
        "MessageRetentionPeriod": 14 * 86_400,
        # Longer than a call of the reprocessor may take.
        "VisibilityTimeout": 16 * 60,
        "RedrivePolicy": {
            "deadLetterTargetArn": arn(attached, "AWS::SQS::Queue", "SpoolDeadLetters"),
            "maxReceiveCount": 1000,
        },
    }


def test_every_queue_takes_tls_only(attached: dict[str, Any]) -> None:
    secured = {
        policy["Queues"][0]["Ref"]
        for policy in resources(attached, "AWS::SQS::QueuePolicy").values()
        for one in policy["PolicyDocument"]["Statement"]
        if one["Effect"] == "Deny" and one["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }
    assert secured == set(resources(attached, "AWS::SQS::Queue"))
    assert len(secured) == 3


def test_the_ledger_forgets_in_time_and_is_never_lost(attached: dict[str, Any]) -> None:
    assert only(attached, "AWS::DynamoDB::Table") == {
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": True,
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {"SSEEnabled": True},
        "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": True},
    }


def test_large_inputs_outlive_every_message_that_points_at_them(attached: dict[str, Any]) -> None:
    bucket = only(attached, "AWS::S3::Bucket")
    [rule] = bucket["LifecycleConfiguration"]["Rules"]
    # In the spool, in quarantine, released and parked again.
    assert rule == {"ExpirationInDays": 90, "Status": "Enabled"}
    assert rule["ExpirationInDays"] > 4 * 14
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"] == [
        {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    ]


@pytest.mark.parametrize(("policy", "word"), [(RemovalPolicy.RETAIN, "Retain"), (RemovalPolicy.DESTROY, "Delete")])
def test_what_keeps_failures_outlives_the_stack_unless_told_otherwise(
    policy: RemovalPolicy, word: str, stack: cdk.Stack
) -> None:
    spool(stack, removal_policy=policy)
    template = template_of(stack)
    keeping = {
        name: one["DeletionPolicy"]
        for name, one in template["Resources"].items()
        if re.search("SpoolQueue|SpoolQuarantine|SpoolLedger|SpoolInputs", name) and not name.endswith("Policy")
        if one["Type"] in ("AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::S3::Bucket")
    }
    assert len(keeping) == 4
    assert set(keeping.values()) == {word}
    assert only(template, "AWS::DynamoDB::Table")["DeletionProtectionEnabled"] is (word == "Retain")


def test_seven_days_as_in_the_original(stack: cdk.Stack) -> None:
    spool(stack, retention=Duration.days(7), expiry_alarm=Duration.days(5))
    template = template_of(stack)
    for part in ("SpoolQueue", "SpoolQuarantine"):
        assert by_id(template, "AWS::SQS::Queue", part)[1]["MessageRetentionPeriod"] == 7 * 86_400


def test_what_the_functions_know(attached: dict[str, Any], stack: cdk.Stack) -> None:
    known = {
        "QUEUE_URL": {"Ref": by_id(attached, "AWS::SQS::Queue", "SpoolQueue")[0]},
        "TABLE_NAME": {"Ref": by_id(attached, "AWS::DynamoDB::Table", "Spool")[0]},
        "BUCKET": {"Ref": by_id(attached, "AWS::S3::Bucket", "Spool")[0]},
        "SPOOL": "Stack/Spool",
    }
    inlet = by_id(attached, "AWS::Lambda::Function", "SpoolInlet")[1]
    reconciler = by_id(attached, "AWS::Lambda::Function", "SpoolReconciler")[1]
    assert (inlet["Handler"], inlet["Environment"]["Variables"]) == ("spool.inlet.handle", known)
    assert reconciler["Handler"] == "spool.reconciler.handle"
    assert reconciler["Environment"]["Variables"] == {**known, "BACK_SECONDS": "86400"}
    # What the inlet cannot do, somebody hears of.
    assert inlet["DeadLetterConfig"] == {"TargetArn": arn(attached, "AWS::SQS::Queue", "SpoolDeadLetters")}
    spool(stack, reconcile_back=Duration.hours(2))
    template = template_of(stack)
    variables = by_id(template, "AWS::Lambda::Function", "SpoolReconciler")[1]["Environment"]["Variables"]
    assert variables["BACK_SECONDS"] == "7200"


def test_it_is_named_for_people_after_the_stack_as_deployed(app: cdk.App) -> None:
    assert spool(cdk.Stack(app, "Stack", stack_name="production")).name == "production/Spool"


def test_the_alarms(stack: cdk.Stack) -> None:
    kept = spool(stack, waiting_alarm=Duration.hours(1), expiry_alarm=Duration.days(3))
    assert set(kept.alarms) == {"Expiring", "Quarantined", "Waiting", "InletFailing", "ReconcilerFailing"}
    template = template_of(stack)
    found = {
        (one["MetricName"], one["Threshold"], str(one["Dimensions"][0]["Value"]))
        for one in resources(template, "AWS::CloudWatch::Alarm").values()
    }
    queue, quarantine, dead_letters = (
        str({"Fn::GetAtt": [by_id(template, "AWS::SQS::Queue", part)[0], "QueueName"]})
        for part in ("SpoolQueue", "SpoolQuarantine", "SpoolDeadLetters")
    )
    inlet, reconciler = (
        str({"Ref": by_id(template, "AWS::Lambda::Function", part)[0]}) for part in ("SpoolInlet", "SpoolReconciler")
    )
    assert found == {
        ("ApproximateAgeOfOldestMessage", 3 * 86_400, queue),
        ("ApproximateAgeOfOldestMessage", 3600, queue),
        ("ApproximateNumberOfMessagesVisible", 1, quarantine),
        ("ApproximateNumberOfMessagesVisible", 1, dead_letters),
        ("Errors", 1, inlet),
        ("Errors", 1, reconciler),
    }


def test_an_expiry_is_told_days_before(attached: dict[str, Any]) -> None:
    expiring = by_id(attached, "AWS::CloudWatch::Alarm", "Expiring")[1]
    assert expiring["Threshold"] == 10 * 86_400


def test_the_metrics(stack: cdk.Stack) -> None:
    kept = spool(stack)
    for name, metric in {
        "OldestFailureSeconds": kept.metric_oldest_failure_seconds(),
        "Spooled": kept.metric_spooled(),
        "Recovered": kept.metric_recovered(),
    }.items():
        assert (metric.namespace, metric.metric_name) == ("ConstructsLib/ErrorSpool", name)
        assert dict(metric.dimensions or {}) == {"Spool": "Stack/Spool"}
    for queue, metric in {"Queue": kept.metric_waiting(), "Quarantine": kept.metric_quarantined()}.items():
        assert metric.metric_name == "ApproximateNumberOfMessagesVisible"
        assert queue in str(stack.resolve(dict(metric.dimensions or {})))


# --- attached ---------------------------------------------------------------------------------------------


def rules(template: dict[str, Any]) -> list[dict[str, Any]]:
    return list(resources(template, "AWS::Events::Rule").values())


def test_the_state_machine_stays_as_it_was(attached: dict[str, Any], stack: cdk.Stack) -> None:
    machine(stack)
    alone = template_of(stack)["Resources"]
    assert {name: attached["Resources"][name] for name in alone} == alone


def test_its_failures_are_told_to_the_inlet_as_they_are(attached: dict[str, Any]) -> None:
    [machine_id] = resources(attached, "AWS::StepFunctions::StateMachine")
    [rule] = [one for one in rules(attached) if "EventPattern" in one]
    assert rule["EventPattern"] == {
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {"stateMachineArn": [{"Ref": machine_id}], "status": ["FAILED", "TIMED_OUT"]},
    }
    [target] = rule["Targets"]
    assert target == {"Arn": arn(attached, "AWS::Lambda::Function", "SpoolInlet"), "Id": "Target0"}


def test_the_reconciler_looks_for_what_no_event_told(attached: dict[str, Any]) -> None:
    [machine_id] = resources(attached, "AWS::StepFunctions::StateMachine")
    [rule] = [one for one in rules(attached) if "ScheduleExpression" in one]
    assert rule["ScheduleExpression"] == "rate(15 minutes)"
    [target] = rule["Targets"]
    assert target["Arn"] == arn(attached, "AWS::Lambda::Function", "SpoolReconciler")
    assert target["Input"] == {
        "Fn::Join": ["", ['{"stateMachine":"', {"Ref": machine_id}, '","statuses":["FAILED","TIMED_OUT"]}']]
    }


def test_aborted_executions_are_spooled_on_request(stack: cdk.Stack) -> None:
    spool(stack).attach(machine(stack), aborted=True)
    found = rules(template_of(stack))
    [event] = [one for one in found if "EventPattern" in one]
    [look] = [one for one in found if "ScheduleExpression" in one]
    assert event["EventPattern"]["detail"]["status"] == ["FAILED", "TIMED_OUT", "ABORTED"]
    assert look["Targets"][0]["Input"]["Fn::Join"][1][-1] == '","statuses":["FAILED","TIMED_OUT","ABORTED"]}'


def test_the_functions_may_do_what_they_do_and_nothing_else(attached: dict[str, Any]) -> None:
    [machine_id] = resources(attached, "AWS::StepFunctions::StateMachine")
    common = {
        "sqs:SendMessage": [arn(attached, "AWS::SQS::Queue", "SpoolQueue")],
        **{
            f"dynamodb:{action}": [arn(attached, "AWS::DynamoDB::Table", "Spool")]
            for action in ("GetItem", "PutItem", "UpdateItem")
        },
        "s3:PutObject": [{"Fn::Join": ["", [arn(attached, "AWS::S3::Bucket", "Spool"), "/*"]]}],
    }
    inlet, reconciler = allowed(attached, "SpoolInletRole"), allowed(attached, "SpoolReconcilerRole")
    for may in (inlet, reconciler):
        [executions] = may.pop("states:DescribeExecution")
        assert executions["Fn::Join"][1][-3:] == [":execution:", {"Fn::GetAtt": [machine_id, "Name"]}, ":*"]
        assert may.pop("states:GetExecutionHistory") == [executions]
    # Lambda sends to the dead letters in the name of the function.
    inlet["sqs:SendMessage"].remove(arn(attached, "AWS::SQS::Queue", "SpoolDeadLetters"))
    assert inlet == common
    assert reconciler == {
        **common,
        "dynamodb:BatchGetItem": [arn(attached, "AWS::DynamoDB::Table", "Spool")],
        "states:ListExecutions": [{"Ref": machine_id}],
    }


def test_an_imported_state_machine_is_told_of_by_what_lies_in_its_stack(stack: cdk.Stack) -> None:
    spool(stack).attach(imported_machine(stack))
    template = template_of(stack)
    [rule] = [one for one in rules(template) if "EventPattern" in one]
    assert rule["EventPattern"]["detail"]["stateMachineArn"] == [ELSEWHERE]
    [executions] = [one["Resource"] for one in statements(template) if "states:DescribeExecution" in one["Action"]]
    assert executions["Fn::Join"][1][-1] == ":execution:elsewhere:*"


def test_to_attach_twice_changes_nothing(stack: cdk.Stack) -> None:
    kept, one, other = spool(stack), machine(stack), imported_machine(stack)
    for _ in range(2):
        kept.attach(one)
        kept.attach(other)
    assert len(rules(template_of(stack))) == 4


def test_two_spools_may_be_attached_to_one_state_machine(stack: cdk.Stack) -> None:
    one = machine(stack)
    spool(stack, "First").attach(one)
    spool(stack, "Second").attach(one)
    assert len(rules(template_of(stack))) == 4


@pytest.mark.parametrize("imported", [False, True])
def test_state_machines_of_other_stacks_make_no_cycle(imported: bool, app: cdk.App) -> None:
    shared, one, two = (cdk.Stack(app, name) for name in ("Shared", "One", "Two"))
    kept = spool(shared)
    for stack in (one, two):
        kept.attach(imported_machine(stack) if imported else machine(stack))
    assert rules(template_of(shared)) == []
    for stack in (one, two):
        template = template_of(stack)
        # All that connects the two lies beside the state machine.
        assert (len(rules(template)), len(resources(template, "AWS::Lambda::Permission"))) == (2, 2)
        assert [dependency.stack_name for dependency in stack.dependencies] == ["Shared"]
    assert not shared.dependencies


@pytest.mark.parametrize("environment", [None, cdk.Environment(account="111122223333", region="cn-north-1")])
def test_what_nag_finds_is_explained(environment: cdk.Environment | None, tmp_path: Path) -> None:
    def build(app: cdk.App) -> None:
        shared, stack = cdk.Stack(app, "Shared", env=environment), cdk.Stack(app, "Stack", env=environment)
        kept = spool(shared)
        kept.attach(machine(stack))
        kept.attach(imported_machine(stack))
        of_another_app = sfn.StateMachine.from_state_machine_arn(stack, "Other", cdk.Fn.import_value("Other"))
        kept.attach(of_another_app)

    # The state machine is the test's own, and bare.
    ours = ("Shared", "Stack/Machine/SpoolOf", "Stack/ElsewhereSpoolOf", "Stack/OtherSpoolOf")
    assert [one for one in findings(build, tmp_path) if one[1].startswith(ours)] == []


# --- as a failure handler ---------------------------------------------------------------------------------


Answers = dict[str, list[Result | Error]]


def failing(template: dict[str, Any], *, error: Error, others: Answers | None = None) -> Outcome:
    """The pipeline's state machine, whose job fails with `error`."""
    [asl] = [one for name, one in state_machines(template).items() if "Workflow" in name]
    answers: Answers = {
        "Acquire quota": [GRANTED],
        "Call the function": [error],
        "Release quota after failure": [RELEASED],
        SPOOL_IT: [Result({"MessageId": "1"})],
        TELL_IT: [Result()],
        **(others or {}),
    }
    return run_all([Run(definition=asl, input={"object": OBJECT}, context=CONTEXT, tasks=answers)])[0]


def test_the_state_machine_sends_all_that_it_takes_to_run_again(handling: dict[str, Any]) -> None:
    outcome = failing(handling, error=Error("NeighbourError", "the neighbour is down"))
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", "NeighbourError", "the neighbour is down")
    [sent] = outcome.inputs[SPOOL_IT]
    started = sent["MessageBody"].pop("executionStartedAt")
    assert re.match(r"\d{4}-\d\d-\d\dT", started)
    assert sent == {
        "QueueUrl": "${" + by_id(handling, "AWS::SQS::Queue", "SpoolQueue")[0] + "}",
        "MessageBody": {
            "schemaVersion": 1,
            "caught": True,
            "status": "FAILED",
            "failure": {"Error": "NeighbourError", "Cause": "the neighbour is down"},
            "input": {"object": OBJECT},
            "stateMachine": CONTEXT["StateMachine"]["Id"],
            "execution": EXECUTION,
            "executionName": "one",
            "failedAt": "2026-03-01T02:00:09.000Z",
        },
    }


def test_what_it_sends_is_what_the_functions_read(handling: dict[str, Any]) -> None:
    [sent] = failing(handling, error=Error("NeighbourError", "down")).inputs[SPOOL_IT]
    read = envelope.read(json.dumps(sent["MessageBody"]), key_path="$.object.key")
    assert json.loads(read.input or "") == {"object": OBJECT}
    assert (read.error, read.cause, read.status, read.attempt) == ("NeighbourError", "down", "FAILED", 1)
    assert (read.state_machine, read.execution) == (CONTEXT["StateMachine"]["Id"], EXECUTION)
    assert read.key == OBJECT["key"]
    # A redrive would resume at the Fail state.
    assert read.caught


def test_an_error_without_a_cause_is_spooled_all_the_same(stack: cdk.Stack) -> None:
    """Whatever runs on: a path that leads nowhere would be beyond any Catch."""
    state = spool(stack).state(stack, "Spool it", {}, {})
    sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(state))
    [asl] = state_machines(template_of(stack)).values()
    assert problems(asl) == []
    answers: Answers = {"Spool it": [Result()]}
    given = {"error": {"Error": "Odd"}, "order": 7}
    [outcome] = run_all([Run(definition=asl, input=given, context=CONTEXT, tasks=answers)])
    assert (outcome.status, outcome.output) == ("SUCCEEDED", given)
    [sent] = outcome.inputs["Spool it"]
    assert sent["MessageBody"]["failure"] == {"Error": "Odd"}
    read = envelope.read(json.dumps(sent["MessageBody"]))
    assert (read.error, read.cause) == ("Odd", "")


def test_a_refusal_of_sqs_leaves_the_alert_and_the_failure(handling: dict[str, Any]) -> None:
    refused = Error("SQS.SdkClientException", "no")
    outcome = failing(
        handling,
        error=Error("NeighbourError", "down"),
        others={SPOOL_IT: [refused] * 5, KEEP_IT: [Result()]},
    )
    assert outcome.visited[-4:] == [SPOOL_IT, KEEP_IT, TELL_IT, "Failed"]
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", "NeighbourError", "down")
    [kept] = outcome.inputs[KEEP_IT]
    assert kept["MessageBody"]["Response"]["object"] == OBJECT


def test_the_alert_goes_out_also_where_no_queue_is_to_be_reached(handling: dict[str, Any]) -> None:
    refused = Error("SQS.AmazonSQSException", "no")
    outcome = failing(
        handling,
        error=Error("NeighbourError", "down"),
        others={SPOOL_IT: [refused] * 5, KEEP_IT: [refused] * 5},
    )
    assert outcome.visited[-3:] == [KEEP_IT, TELL_IT, "Failed"]
    assert (outcome.calls[TELL_IT], outcome.error) == (1, "NeighbourError")


def test_a_scheduled_task_spools_and_alerts_as_well(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), failure_handlers=[spool(stack), AlertFunction(stack, "Alert")])
    [asl] = state_machines(template_of(stack)).values()
    assert problems(asl) == []
    answers: Answers = {
        "Run task": [Error("States.Timeout")],
        SPOOL_IT: [Result()],
        TELL_IT: [Result()],
    }
    [outcome] = run_all([Run(definition=asl, input={"day": 1}, context=CONTEXT, tasks=answers)])
    assert (outcome.status, outcome.error) == ("FAILED", "States.Timeout")
    [sent] = outcome.inputs[SPOOL_IT]
    assert sent["MessageBody"]["input"] == {"day": 1}
    assert sent["MessageBody"]["failure"]["Error"] == "States.Timeout"


def test_the_state_machine_may_send_to_the_spool(handling: dict[str, Any]) -> None:
    workflow = allowed(handling, "PipelineWorkflowRole")
    assert arn(handling, "AWS::SQS::Queue", "SpoolQueue") in workflow["sqs:SendMessage"]
    # The spool's other resources are none of its business.
    assert not [action for action in workflow if action.startswith(("dynamodb:", "s3:"))]


def test_a_role_may_be_allowed_to_send_and_nothing_else(stack: cdk.Stack) -> None:
    role = iam.Role(stack, "Sender", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
    spool(stack).grant(role)
    template = template_of(stack)
    assert allowed(template, "Sender") == {"sqs:SendMessage": [arn(template, "AWS::SQS::Queue", "SpoolQueue")]}
    assert rules(template) == []


def test_endings_that_no_catch_sees_reach_the_inlet(handling: dict[str, Any]) -> None:
    [rule] = [one for one in rules(handling) if "error" in str(one.get("EventPattern"))]
    inlet = arn(handling, "AWS::Lambda::Function", "SpoolInlet")
    [target] = [one for one in rule["Targets"] if one["Arn"] == inlet]
    # As it is: the inlet asks Step Functions for input and error.
    assert not {"Input", "InputPath", "InputTransformer"} & set(target)
    assert target["DeadLetterConfig"] == {"Arn": arn(handling, "AWS::SQS::Queue", "PipelineUndelivered")}
    [machine_id] = [name for name in resources(handling, "AWS::StepFunctions::StateMachine") if "Workflow" in name]
    executions = allowed(handling, "SpoolInletRole")["states:DescribeExecution"]
    assert executions[0]["Fn::Join"][1][-2] == {"Fn::GetAtt": [machine_id, "Name"]}


def test_the_reconciler_leaves_alone_what_was_spooled_inline(handling: dict[str, Any]) -> None:
    reconciler = arn(handling, "AWS::Lambda::Function", "SpoolReconciler")
    [rule] = [one for one in rules(handling) if one["Targets"][0]["Arn"] == reconciler]
    assert rule["Targets"][0]["Input"]["Fn::Join"][1][-1] == '","statuses":["TIMED_OUT","ABORTED"]}'


def test_one_spool_handles_failures_of_two_stacks_without_a_cycle(app: cdk.App) -> None:
    shared, one, two = (cdk.Stack(app, name) for name in ("Shared", "One", "Two"))
    kept = spool(shared)
    for stack in (one, two):
        pipeline(stack, failure_handlers=[kept])
    assert template_of(shared)
    assert not shared.dependencies
    assert [dependency.stack_name for dependency in one.dependencies] == ["Shared"]


# --- what cannot work -------------------------------------------------------------------------------------

A_KEY = "Pass for example '$.order', or leave it out."

REJECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"key": "order"}, f"key must be a path of names into the input, got 'order'. {A_KEY}"),
    ({"key": "$"}, f"key must be a path of names into the input, got '$'. {A_KEY}"),
    ({"key": "$.orders[0]"}, f"key must be a path of names into the input, got '$.orders[0]'. {A_KEY}"),
    ({"key": "$$.Execution.Name"}, f"key must be a path of names into the input, got '$$.Execution.Name'. {A_KEY}"),
    ({"key": 5}, f"key must be of type str, got 5. {A_KEY}"),
    (
        {"retention": Duration.days(15)},
        "retention must be at most 14 days, got Duration of 15 days. Pass Duration.seconds(1209600) or less.",
    ),
    (
        {"retention": Duration.minutes(1)},
        "retention must be at least 1 hour, in whole seconds, got Duration of 1 minute. "
        "Pass for example Duration.hours(1).",
    ),
    (
        {"retention": Duration.days(7)},
        "expiry_alarm must be shorter than retention (7 days), or it rings when all is lost, got Duration of 10 days. "
        "Pass for example Duration.minutes(5040).",
    ),
    (
        {"waiting_alarm": Duration.days(14)},
        "waiting_alarm must be shorter than retention (14 days), or it rings when all is lost, "
        "got Duration of 14 days. Pass for example Duration.minutes(10080).",
    ),
    (
        {"reconcile_every": Duration.seconds(90)},
        "reconcile_every must be in whole minutes, got Duration of 1 minute 30 seconds. "
        "Pass for example Duration.minutes(15).",
    ),
    (
        {"reconcile_every": Duration.hours(2), "reconcile_back": Duration.hours(1)},
        "reconcile_every must not be longer than reconcile_back (1 hour), or some are never looked for, "
        "got Duration of 2 hours. Pass for example Duration.minutes(15).",
    ),
    (
        {"reconcile_back": Duration.days(15)},
        "reconcile_back must be at most 14 days, got Duration of 15 days. Pass Duration.seconds(1209600) or less.",
    ),
]


@pytest.mark.parametrize(("options", "message"), REJECTIONS, ids=[message[:60] for _, message in REJECTIONS])
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str, stack: cdk.Stack) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Spool: {message}')}$"):
        spool(stack, **options)


def attach_after_handling(stack: cdk.Stack, kept: ErrorSpool) -> None:
    kept.attach(pipeline(stack, failure_handlers=[kept]).state_machine)


def attach_in_two_ways(stack: cdk.Stack, kept: ErrorSpool) -> None:
    one = machine(stack)
    kept.attach(one)
    kept.attach(one, aborted=True)


REFUSED: list[tuple[Callable[[cdk.Stack, ErrorSpool], Any], str]] = [
    (
        lambda stack, kept: kept.attach(express_machine(stack)),
        "Stack/Spool: state_machine must be a Standard workflow: nobody is told how an Express one ends, "
        "got 'Stack/Fast'. Leave out state_machine_type.",
    ),
    (
        lambda stack, kept: kept.attach("Machine"),  # type: ignore[arg-type] # what Python lets through
        "Stack/Spool: state_machine must be a state machine, got 'Machine'. Pass the sfn.StateMachine itself.",
    ),
    (
        attach_after_handling,
        "Stack/Spool: state_machine must not have the spool among its failure handlers, or each failure would be "
        "spooled twice, got 'Stack/Pipeline/Workflow/Resource'. Leave out one of the two.",
    ),
    (
        attach_in_two_ways,
        "Stack/Spool: aborted must be the same at each call for Stack/Machine, got True. "
        "Pass aborted=False, as before.",
    ),
    (
        lambda stack, kept: pipeline(stack, success_handlers=[kept]),
        "Stack/Pipeline: success_handlers must not have an error spool, got 'Stack/Spool'. "
        "Pass it among failure_handlers.",
    ),
]


@pytest.mark.parametrize(("use", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_what_cannot_be_spooled_is_refused(
    use: Callable[[cdk.Stack, ErrorSpool], Any], message: str, stack: cdk.Stack
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        use(stack, spool(stack))


def test_an_id_that_is_taken_is_refused(stack: cdk.Stack) -> None:
    spool(stack)
    message = "Stack: id must be unique within its scope, got 'Spool'. Give this construct another id."
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        spool(stack)

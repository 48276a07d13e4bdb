"""The alert function and what belongs to it."""

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_cloudwatch_actions as cloudwatch_actions
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns

from constructs_lib import AlertFunction
from constructs_lib.parts import functions
from tests.scheduled import scheduled, surroundings, template_of
from tests.templates import as_list, only, resources, statements


@pytest.fixture
def template(stack: cdk.Stack) -> dict[str, Any]:
    AlertFunction(stack, "Alert")
    return template_of(stack)


def test_the_function(template: dict[str, Any]) -> None:
    function = only(template, "AWS::Lambda::Function")
    [queue] = resources(template, "AWS::SQS::Queue")
    [log_group] = resources(template, "AWS::Logs::LogGroup")
    assert function["Handler"] == "alert.handler.handle"
    assert function["Runtime"] == "python3.14"
    assert function["Architectures"] == ["arm64"]
    assert function["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": {"Ref": log_group}}
    assert function["DeadLetterConfig"] == {"TargetArn": {"Fn::GetAtt": [queue, "Arn"]}}
    assert only(template, "AWS::Logs::LogGroup")["RetentionInDays"] == 90


def test_its_topic_is_encrypted_with_a_key_that_rotates(template: dict[str, Any]) -> None:
    [key] = resources(template, "AWS::KMS::Key")
    assert only(template, "AWS::SNS::Topic")["KmsMasterKeyId"] == {"Fn::GetAtt": [key, "Arn"]}
    assert only(template, "AWS::KMS::Key")["EnableKeyRotation"] is True
    assert template["Resources"][key]["DeletionPolicy"] == "Delete"


def test_its_topic_takes_tls_only_and_lets_alarms_of_this_account_in(template: dict[str, Any]) -> None:
    deny, allow = only(template, "AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert (allow["Effect"], allow["Action"]) == ("Allow", "sns:Publish")
    assert allow["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allow["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_its_key_may_be_used_by_alarms_and_rules(template: dict[str, Any]) -> None:
    of_key = only(template, "AWS::KMS::Key")["KeyPolicy"]["Statement"][-1]
    assert of_key["Effect"] == "Allow"
    assert of_key["Principal"] == {"Service": ["cloudwatch.amazonaws.com", "events.amazonaws.com"]}
    assert of_key["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]


def test_its_queue_is_encrypted_keeps_for_two_weeks_and_takes_tls_only(template: dict[str, Any]) -> None:
    queue = only(template, "AWS::SQS::Queue")
    assert (queue["SqsManagedSseEnabled"], queue["MessageRetentionPeriod"]) == (True, 14 * 86_400)
    policy = only(template, "AWS::SQS::QueuePolicy")["PolicyDocument"]["Statement"]
    assert {"Bool": {"aws:SecureTransport": "false"}} in [statement["Condition"] for statement in policy]


def test_its_role_may_write_its_log_and_tell_and_no_more(template: dict[str, Any]) -> None:
    actions = {action for one in statements(template) for action in as_list(one["Action"])}
    assert actions == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "sns:Publish",
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "sqs:SendMessage",
    }
    assert "ManagedPolicyArns" not in only(template, "AWS::IAM::Role")
    assert not [one for one in statements(template) if "*" in as_list(one["Resource"])]


def test_it_has_two_alarms(stack: cdk.Stack) -> None:
    topic = sns.Topic(stack, "OnCall")
    AlertFunction(
        stack,
        "Alert",
        topic=topic,
        alarm_actions=[cloudwatch_actions.SnsAction(topic)],
        log_retention=logs.RetentionDays.ONE_DAY,
    )
    template = template_of(stack)
    alarms = resources(template, "AWS::CloudWatch::Alarm").values()
    assert {alarm["MetricName"] for alarm in alarms} == {"Errors", "ApproximateNumberOfMessagesVisible"}
    [on_call] = resources(template, "AWS::SNS::Topic")
    assert all(alarm["AlarmActions"] == [{"Ref": on_call}] for alarm in alarms)
    assert only(template, "AWS::Lambda::Function")["Environment"]["Variables"] == {"ALERT_TOPIC_ARN": {"Ref": on_call}}
    assert only(template, "AWS::Logs::LogGroup")["RetentionInDays"] == 1


def test_one_function_serves_several_jobs_and_reads_the_log_of_each(stack: cdk.Stack) -> None:
    around = surroundings(stack)
    alert = AlertFunction(stack, "Alert")
    scheduled(around, "Nightly", failure_handlers=[alert])
    scheduled(around, "Hourly", failure_handlers=[alert], success_handlers=[alert])
    template = template_of(stack)
    assert len(resources(template, "AWS::Lambda::Function")) == 1
    reading = [one for one in statements(template) if one["Action"] == "logs:GetLogEvents"]
    [task_log] = [name for name in resources(template, "AWS::Logs::LogGroup") if name.startswith("TaskLog")]
    assert [one["Resource"] for one in reading] == [{"Fn::GetAtt": [task_log, "Arn"]}] * 3


def test_an_incomplete_installation_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(functions, "_HOMES", (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(FileNotFoundError, match=r"constructs_lib is incomplete: no Lambda sources at .*a or at .*b"):
        functions.lambda_source()


def test_byte_code_does_not_travel(app: cdk.App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "lambda_src"
    for file in ("alert/handler.py", "alert/__pycache__/handler.cpython-311.pyc", "alert/old.pyc"):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_text("")
    monkeypatch.setattr(functions, "_HOMES", (source,))
    AlertFunction(cdk.Stack(app, "Stack"), "Alert")
    assembly = Path(app.synth().directory)
    manifest = json.loads((assembly / "Stack.assets.json").read_text())
    [folder] = [one["source"]["path"] for one in manifest["files"].values() if one["source"]["packaging"] == "zip"]
    files = {str(file.relative_to(assembly / folder)) for file in (assembly / folder).rglob("*") if file.is_file()}
    assert files == {"alert/handler.py"}

"""The example of the dated folders: what it is made of, and what its function may do."""

import json
from typing import Any

import pytest
from aws_cdk import TimeZone

from asl_tools.resolve import state_machines
from stacks.dated_folders_example import ARCHIVE, INCOMING, DatedFoldersExample
from tests.scheduled import make_app, template_of
from tests.templates import only, resources, statements


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    app = make_app(tmp_path_factory.mktemp("dated_folders"))
    return template_of(DatedFoldersExample(app, "Stack", time_zone=TimeZone.EUROPE_BERLIN))


def definition(template: dict[str, Any]) -> dict[str, Any]:
    [found] = [each for each in state_machines(template).values() if "Process items" in each["States"]]
    return found


def test_it_runs_after_midnight_where_the_user_is_and_takes_the_files_of_the_day_before(
    template: dict[str, Any],
) -> None:
    schedule = only(template, "AWS::Scheduler::Schedule")
    assert schedule["ScheduleExpression"] == "cron(30 0 * * ? *)"
    assert schedule["ScheduleExpressionTimezone"] == "Europe/Berlin"
    source = definition(template)["States"]["Plan"]["Parameters"]["Payload"]["source"]
    assert (source["timeZone"], source["daysBack"]) == ("Europe/Berlin", 1)
    assert source["prefix"] == "incoming/{date:%Y-%m-%d}"


def test_every_file_is_tried_and_any_failure_fails_the_run(template: dict[str, Any]) -> None:
    states = definition(template)["States"]
    assert states["Process items"]["ToleratedFailurePercentage"] == 100
    assert states["Account for all items"]["Parameters"]["Payload"]["settings"]["tolerance"]["kind"] == "collect"


def test_its_function_gets_files_in_batches_and_is_told_where_they_go(template: dict[str, Any]) -> None:
    batcher = definition(template)["States"]["Process items"]["ItemBatcher"]
    assert batcher["MaxItemsPerBatch"] == 50
    assert batcher["BatchInput"]["constants"] == {"archive": ARCHIVE}


def test_its_function_may_take_from_one_folder_and_write_to_the_other_and_no_more(template: dict[str, Any]) -> None:
    [bucket] = [id_ for id_ in resources(template, "AWS::S3::Bucket") if id_.startswith("Files")]
    [role] = [id_ for id_ in resources(template, "AWS::IAM::Role") if id_.startswith("Mover")]
    policies = resources(template, "AWS::IAM::Policy").values()
    [policy] = [each for each in policies if {"Ref": role} in each["Roles"]]
    allowed = {
        json.dumps(statement["Resource"]): statement["Action"]
        for statement in policy["PolicyDocument"]["Statement"]
        if str(statement["Action"]).count("s3:")
    }
    arn = {"Fn::GetAtt": [bucket, "Arn"]}
    assert allowed == {
        json.dumps(arn): "s3:ListBucket",
        json.dumps({"Fn::Join": ["", [arn, f"/{INCOMING}*"]]}): [
            "s3:DeleteObject",
            "s3:GetObject",
            "s3:GetObjectTagging",
        ],
        json.dumps({"Fn::Join": ["", [arn, f"/{ARCHIVE}*"]]}): [
            "s3:GetObject",
            "s3:PutObject",
            "s3:PutObjectTagging",
        ],
    }


def test_nobody_else_may_delete_a_file(template: dict[str, Any]) -> None:
    assert sum("s3:DeleteObject" in statement["Action"] for statement in statements(template)) == 1


def test_what_was_deleted_can_be_had_back(template: dict[str, Any]) -> None:
    [files] = [each for id_, each in resources(template, "AWS::S3::Bucket").items() if id_.startswith("Files")]
    assert files["VersioningConfiguration"] == {"Status": "Enabled"}


def test_the_stack_says_what_people_need(template: dict[str, Any]) -> None:
    assert set(template["Outputs"]) >= {"FilesBucketName", "StateMachineArn", "OperatorName", "AlertTopicArn"}

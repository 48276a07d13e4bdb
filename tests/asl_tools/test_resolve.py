import json
from typing import Any

import pytest

from asl_tools.resolve import ResolveError, state_machines


def template(**properties: Any) -> dict[str, Any]:
    return {
        "Resources": {
            "Topic": {"Type": "AWS::SNS::Topic"},
            "Job": {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties},
        }
    }


def joined(*parts: Any) -> dict[str, Any]:
    return {"Fn::Join": ["", list(parts)]}


def test_a_joined_string_becomes_asl_with_stand_ins() -> None:
    definition = joined(
        '{"StartAt":"Publish","States":{"Publish":{"Type":"Task","End":true,"Resource":"arn:',
        {"Ref": "AWS::Partition"},
        ':states:::sns:publish","Parameters":{"TopicArn":"',
        {"Ref": "Topic"},
        '","Message":"say \\"',
        {"Fn::GetAtt": ["Topic", "TopicName"]},
        '\\"","Region":"',
        {"Fn::Select": [3, {"Fn::Split": [":", {"Ref": "Topic"}]}]},
        '","Bucket":"',
        {"Fn::Sub": ["${Name}-${AWS::Region}-${!literal}", {"Name": {"Fn::ImportValue": "Shared"}}]},
        '"}}}}',
    )

    [(logical_id, machine)] = state_machines(template(DefinitionString=definition)).items()

    assert logical_id == "Job"
    assert machine["States"]["Publish"]["Resource"] == "arn:${AWS::Partition}:states:::sns:publish"
    assert machine["States"]["Publish"]["Parameters"] == {
        "TopicArn": "${Topic}",
        "Message": 'say "${Topic.TopicName}"',
        "Region": "${Topic.split(:)[3]}",
        "Bucket": "${Import:Shared}-${AWS::Region}-${literal}",
    }


def test_a_known_text_is_split_and_selected() -> None:
    resource = {"Fn::Select": ["1", {"Fn::Split": ["/", "a/b/c"]}]}
    definition = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": resource, "End": True}}}

    assert state_machines(template(Definition=definition))["Job"]["States"]["A"]["Resource"] == "b"


def test_functions_deep_in_a_map_are_resolved() -> None:
    inner = {"StartAt": "B", "States": {"B": {"Type": "Task", "Resource": {"Fn::GetAtt": ["F", "Arn"]}}}}
    definition = {"StartAt": "A", "States": {"A": {"Type": "Map", "ItemProcessor": inner, "End": True}}}

    machine = state_machines(template(Definition=definition))["Job"]

    assert machine["States"]["A"]["ItemProcessor"]["States"]["B"]["Resource"] == "${F.Arn}"


def test_substitutions_go_into_a_plain_definition() -> None:
    machine = state_machines(
        template(
            DefinitionString=json.dumps({"StartAt": "A", "Comment": "${Purpose} of ${Owner}"}),
            DefinitionSubstitutions={"Purpose": {"Ref": "Topic"}},
        )
    )["Job"]

    assert machine["Comment"] == "${Topic} of ${Owner}"


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"DefinitionS3Location": {"Bucket": "b", "Key": "k"}}, "a definition in S3 is not in the template"),
        ({"DefinitionString": {"Fn::If": ["C", "a", "b"]}}, "cannot resolve Fn::If"),
        ({"DefinitionString": joined('{"TimeoutSeconds":', {"Ref": "Limit"}, "}")}, "no JSON near"),
    ],
)
def test_what_cannot_be_resolved_is_named_by_its_logical_id(properties: dict[str, Any], reason: str) -> None:
    with pytest.raises(ResolveError, match=f"^Job: .*{reason}"):
        state_machines(template(**properties))


def test_a_template_without_machines_has_none() -> None:
    assert state_machines({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}) == {}

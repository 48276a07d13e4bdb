"""Templates as plain dicts: the flags they are made with, reading them, and making them readable."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent

# `cdk.App()` alone does not know what cdk.json says.
FLAGS: dict[str, Any] = json.loads((REPOSITORY / "cdk.json").read_text())["context"]

_HASH = re.compile(r"\b[0-9a-f]{64}\b")


def resources(template: Mapping[str, Any], type_: str) -> dict[str, dict[str, Any]]:
    """The properties of all resources of a type such as "AWS::SNS::Topic", by logical id."""
    return {
        logical_id: resource.get("Properties", {})
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == type_
    }


def only(template: Mapping[str, Any], type_: str) -> dict[str, Any]:
    """The properties of the one resource of a type."""
    [properties] = resources(template, type_).values()
    return properties


def statements(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All statements of all identity policies."""
    policies = resources(template, "AWS::IAM::Policy").values()
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def as_list(value: Any) -> list[Any]:
    """CloudFormation and IAM write a list of one as the one."""
    return value if isinstance(value, list) else [value]


def readable(template: Mapping[str, Any]) -> Any:
    """The template without what the CDK itself adds, without hashes, with state machines as objects."""
    kept = {key: value for key, value in template.items() if key not in ("Rules", "Metadata")}
    kept["Parameters"] = {k: v for k, v in kept.get("Parameters", {}).items() if k != "BootstrapVersion"}
    return json.loads(_HASH.sub("<ASSET_HASH>", json.dumps(_with_open_definitions(kept))))


def _with_open_definitions(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"Fn::Join"} and value["Fn::Join"][0] == "":
            text = "".join(part if isinstance(part, str) else _stand_in(part) for part in value["Fn::Join"][1])
            return json.loads(text) if text.startswith('{"StartAt"') else value
        return {key: _with_open_definitions(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_open_definitions(inner) for inner in value]
    return value


def _stand_in(reference: Mapping[str, Any]) -> str:
    if "Ref" in reference:
        return f"${{{reference['Ref']}}}"
    if "Fn::GetAtt" in reference:
        return f"${{{'.'.join(reference['Fn::GetAtt'])}}}"
    return json.dumps(reference, sort_keys=True).replace('"', "'")

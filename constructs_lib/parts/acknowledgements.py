"""Says, beside a resource, why a cdk-nag finding on it is right as it is."""

import json
from collections.abc import Mapping

from aws_cdk import Acknowledgment, Stack, Validations
from constructs import IConstruct


def acknowledge(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """Acknowledges findings on `construct` and what is below it: rule and finding, then the reason."""
    Validations.of(construct).acknowledge(*(Acknowledgment(id=rule, reason=reason) for rule, reason in reasons.items()))


def as_in_findings(stack: Stack, arn: str) -> str:
    """An ARN as cdk-nag writes it in the id of a finding: ``arn:<AWS::Partition>:ecs:…``."""
    return _flat(stack.resolve(arn))


def _flat(value: object) -> str:
    if isinstance(value, dict):
        if "Fn::Join" in value:
            separator, parts = value["Fn::Join"]
            return str(separator).join(map(_flat, parts))
        if "Ref" in value:
            return f"<{value['Ref']}>"
        if "Fn::GetAtt" in value:
            return f"<{'.'.join(value['Fn::GetAtt'])}>"
        if "Fn::ImportValue" in value:
            return _flat(value["Fn::ImportValue"])
        return json.dumps(value, separators=(",", ":"))
    return str(value)

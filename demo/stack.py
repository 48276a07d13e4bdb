"""A deployed stack, as its user sees it: outputs and physical ids, read from CloudFormation."""

from typing import Any

from embedded_aws import EmbeddedAws


class DeployedStack:
    """What became of a template.

    Raises:
        LookupError: from its methods, where the stack does not have what is asked for.
    """

    def __init__(self, aws: EmbeddedAws, name: str) -> None:
        cloudformation: Any = aws.client("cloudformation")
        [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
        self.name = name
        self._outputs = {each["OutputKey"]: str(each["OutputValue"]) for each in stack.get("Outputs", [])}
        self._resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]

    def output(self, key: str) -> str:
        return self._outputs[key]

    def physical_id(self, type_: str, logical_id_prefix: str = "") -> str:
        """The physical id of the only resource of a type, or of the one whose logical id begins like that."""
        found = [
            str(each["PhysicalResourceId"])
            for each in self._resources
            if each["ResourceType"] == type_ and each["LogicalResourceId"].startswith(logical_id_prefix)
        ]
        if len(found) != 1:
            raise LookupError(f"{self.name} has {len(found)} resources of type {type_} named {logical_id_prefix}*")
        return found[0]

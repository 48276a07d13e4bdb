"""Says in what two templates differ, however their resources are called."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from asl_tools.resolve import state_machines

Template = Mapping[str, Any]

# Words and names: they cost nothing, and need not be the same.
_FREE_TEXT = {"AlarmDescription", "Description", "GroupDescription", "LogGroupName", "PolicyName", "Sid"}


class Reader:
    """Reads a template beside another, so that references to what both have keep their names.

    Any other reference reads as the type of the resource that it leads to.
    """

    def __init__(self, template: Template, beside: Template) -> None:
        self._resources: Mapping[str, Any] = template["Resources"]
        self._shared = set(self._resources) & set(beside["Resources"])
        self._definitions = state_machines(template)

    def resources(self) -> Counter[str]:
        """All resources, as texts that can be compared."""
        return Counter(json.dumps(self._resource(logical_id), sort_keys=True) for logical_id in self._resources)

    def _resource(self, logical_id: str) -> dict[str, Any]:
        # Metadata is for people and tools; CloudFormation does nothing with it.
        resource = {key: value for key, value in self._resources[logical_id].items() if key != "Metadata"}
        flat: dict[str, Any] = self._flat(resource)
        flat["DependsOn"] = sorted(map(self._name, resource.get("DependsOn", [])))
        if logical_id in self._definitions:
            flat["Properties"]["DefinitionString"] = self._asl(self._definitions[logical_id])
        return flat

    def _flat(self, value: Any) -> Any:
        """`value` without free text, and with references written as in plain ASL."""
        if isinstance(value, list):
            return [self._flat(each) for each in value]
        if not isinstance(value, dict):
            return value
        match value:
            case {"Ref": str(name)}:
                return f"${{{self._name(name)}}}"
            case {"Fn::GetAtt": [str(name), str(attribute)]}:
                return f"${{{self._name(name)}.{attribute}}}"
            case {"Fn::Join": ["", [*parts]]}:
                return "".join(self._flat(part) for part in parts)
        return {key: self._flat(inner) for key, inner in value.items() if key not in _FREE_TEXT}

    def _asl(self, value: Any) -> Any:
        """Part of a definition without its comments."""
        if isinstance(value, dict):
            return {key: self._asl(inner) for key, inner in value.items() if key != "Comment"}
        if isinstance(value, list):
            return [self._asl(each) for each in value]
        if isinstance(value, str):
            return re.sub(r"(?<=\$\{)\w+", lambda match: self._name(match[0]), value)
        return value

    def _name(self, logical_id: str) -> str:
        if logical_id in self._shared or logical_id not in self._resources:
            return logical_id
        return str(self._resources[logical_id]["Type"])


def differences(ours: Template, theirs: Template) -> Iterator[str]:
    """Every resource that only one of the two templates has, with all its properties."""
    our, their = Reader(ours, theirs).resources(), Reader(theirs, ours).resources()
    yield from (f"only in the first:  {resource}" for resource in (our - their).elements())
    yield from (f"only in the second: {resource}" for resource in (their - our).elements())

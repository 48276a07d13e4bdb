"""Says in what two templates differ, however their resources are called."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

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

    def resources(self) -> Counter[str]:
        """All resources, as texts that can be compared."""
        return Counter(
            f"{resource['Type']} {json.dumps(self.flat(resource.get('Properties', {})), sort_keys=True)}"
            for resource in self._resources.values()
        )

    def state_machine(self) -> Mapping[str, Any]:
        """The properties of the one state machine."""
        [properties] = [
            resource["Properties"]
            for resource in self._resources.values()
            if resource["Type"] == "AWS::StepFunctions::StateMachine"
        ]
        return dict(properties)

    def flat(self, value: Any) -> Any:
        """`value` with references as text, state machines as objects, and without free text."""
        if isinstance(value, list):
            return [self.flat(each) for each in value]
        if not isinstance(value, dict):
            return value
        match value:
            case {"Ref": str(name)}:
                return f"${{{self._name(name)}}}"
            case {"Fn::GetAtt": [str(name), str(attribute)]}:
                return f"${{{self._name(name)}.{attribute}}}"
            case {"Fn::Join": ["", [*parts]]}:
                return "".join(self.flat(part) for part in parts)
            case {"DefinitionString": definition, **others}:
                substitutions = others.pop("DefinitionSubstitutions", {})
                text = self.flat(definition)
                for name, substitute in substitutions.items():
                    text = text.replace(f"${{{name}}}", self.flat(substitute))
                return {"Definition": json.loads(text), **self.flat(others)}
        return {key: self.flat(inner) for key, inner in value.items() if key not in _FREE_TEXT}

    def _name(self, logical_id: str) -> str:
        if logical_id in self._shared or logical_id not in self._resources:
            return logical_id
        return str(self._resources[logical_id]["Type"])


def differences(ours: Template, theirs: Template) -> Iterator[str]:
    """Every resource that only one of the two templates has, with all its properties."""
    our, their = Reader(ours, theirs).resources(), Reader(theirs, ours).resources()
    yield from (f"only in the first:  {resource}" for resource in (our - their).elements())
    yield from (f"only in the second: {resource}" for resource in (their - our).elements())

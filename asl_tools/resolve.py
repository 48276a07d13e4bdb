"""From a CloudFormation template to plain ASL.

The CDK writes a definition as a string that is joined from JSON and references. Here the references become
readable stand-ins, as Fn::Sub would write them: `${Topic}` for a Ref, `${Function.Arn}` for an attribute. The
result is not deployable, but it can be read, drawn, validated and run with scripted tasks.
"""

import json
import re
from collections.abc import Mapping
from typing import Any


class ResolveError(ValueError):
    """A state machine's definition cannot be told from the template alone; the message has its logical id."""


def state_machines(template: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The definition of every AWS::StepFunctions::StateMachine of the template, by logical id.

    Raises:
        ResolveError: a definition lies in S3, uses a function that is not known here, or is not JSON.
    """
    machines = {}
    for logical_id, resource in template.get("Resources", {}).items():
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            try:
                machines[logical_id] = _definition(resource["Properties"])
            except ValueError as error:
                raise ResolveError(f"{logical_id}: {error}") from error
    return machines


def _definition(properties: Mapping[str, Any]) -> dict[str, Any]:
    if "DefinitionString" in properties:
        text = _resolved(properties["DefinitionString"])
        if not isinstance(text, str):
            raise ValueError(f"DefinitionString is no string: {text!r}")
        try:
            definition = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"no JSON near {text[max(error.pos - 40, 0) : error.pos + 40]!r}: {error}") from error
    elif "Definition" in properties:
        definition = _resolved(properties["Definition"])
    else:
        raise ValueError("neither DefinitionString nor Definition: a definition in S3 is not in the template")
    substitutions = {
        name: _as_text(_resolved(value)) for name, value in properties.get("DefinitionSubstitutions", {}).items()
    }
    substituted: dict[str, Any] = _substituted(definition, substitutions)
    return substituted


def _resolved(value: Any) -> Any:
    """The value with all CloudFormation functions in it carried out, references as stand-ins."""
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(function, argument)] = value.items()
        if function == "Ref" or function.startswith("Fn::"):
            return _call(function, argument)
    return {key: _resolved(item) for key, item in value.items()}


def _call(function: str, argument: Any) -> Any:
    match function, argument:
        case "Ref", str(name):
            return f"${{{name}}}"
        case "Fn::GetAtt", [name, attribute]:
            return f"${{{name}.{_as_text(_resolved(attribute))}}}"
        case "Fn::GetAtt", str(name):
            return f"${{{name}}}"
        case "Fn::Join", [separator, parts]:
            items = _resolved(parts)
            # A list that only CloudFormation knows stays one stand-in.
            return separator.join(map(_as_text, items)) if isinstance(items, list) else items
        case "Fn::Select", [index, choices]:
            items = _resolved(choices)
            if isinstance(items, list):
                return items[int(index)]
            return f"${{{_bare(items)}[{index}]}}"
        case "Fn::Split", [separator, text]:
            whole = _as_text(_resolved(text))
            # A stand-in may hide any number of separators: then nothing is known about the parts.
            return f"${{{_bare(whole)}.split({separator})}}" if "${" in whole else whole.split(separator)
        case "Fn::Sub", str(text):
            return _sub(text, {})
        case "Fn::Sub", [text, variables]:
            return _sub(text, {name: _as_text(_resolved(item)) for name, item in variables.items()})
        case "Fn::ImportValue", name:
            return f"${{Import:{_bare(_as_text(_resolved(name)))}}}"
        case "Fn::GetAZs", region:
            return f"${{GetAZs:{_bare(_as_text(_resolved(region)))}}}"
        case "Fn::FindInMap", [*keys]:
            return "${FindInMap:" + ".".join(_bare(_as_text(_resolved(key))) for key in keys[:3]) + "}"
    raise ValueError(f"cannot resolve {function} of {json.dumps(argument)}")


def _sub(text: str, variables: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name = match[1]
        # ${!Literal} is how Fn::Sub writes a literal ${Literal}.
        return f"${{{name[1:]}}}" if name.startswith("!") else variables.get(name, match[0])

    return re.sub(r"\$\{([^}]+)\}", replace, text)


def _substituted(value: Any, substitutions: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _substituted(item, substitutions) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, substitutions) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{([^}]+)\}", lambda match: substitutions.get(match[1], match[0]), value)
    return value


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"expected a text, got {json.dumps(value)}")


def _bare(text: str) -> str:
    """`${A}` as `A`, to be written inside another stand-in."""
    return re.sub(r"\$\{([^}]*)\}", r"\1", text)

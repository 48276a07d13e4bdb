"""How states hang together: what the other modules of this folder have in common."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Edge:
    """A way from one state to another; `labels` are the conditions or the errors that lead along it."""

    source: str
    target: str
    kind: Literal["next", "choice", "catch"]
    labels: tuple[str, ...] = ()


def nested_machines(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The machines inside a state: the branches of a Parallel, the processor (once: iterator) of a Map."""
    if state["Type"] == "Parallel":
        return list(state["Branches"])
    if state["Type"] == "Map":
        return [state.get("ItemProcessor") or state["Iterator"]]
    return []


def all_states(machine: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every state with its name, outer before inner. AWS wants names to be unique in the whole definition."""
    for name, state in machine["States"].items():
        yield name, state
        for inner in nested_machines(state):
            yield from all_states(inner)


def state_names(machine: Mapping[str, Any], type_: str) -> set[str]:
    """The names of all states of one type."""
    return {name for name, state in all_states(machine) if state["Type"] == type_}


def is_end(state: Mapping[str, Any]) -> bool:
    """Whether the machine can end with this state."""
    return state["Type"] in ("Succeed", "Fail") or bool(state.get("End"))


def edges(machine: Mapping[str, Any]) -> list[Edge]:
    """The edges between the machine's own states. Those with equal ends become one, with all its labels."""
    merged: dict[tuple[str, str, Literal["next", "choice", "catch"]], list[str]] = {}
    for name, state in machine["States"].items():
        if "Next" in state:
            merged[name, state["Next"], "next"] = []
        for rule in state.get("Choices", ()):
            merged.setdefault((name, rule["Next"], "choice"), []).append(condition(rule))
        if "Default" in state:
            merged.setdefault((name, state["Default"], "choice"), []).append("otherwise")
        for catcher in state.get("Catch", ()):
            merged.setdefault((name, catcher["Next"], "catch"), []).extend(catcher["ErrorEquals"])
    return [Edge(*ends, tuple(labels)) for ends, labels in merged.items()]


_OPERATORS = {
    "Equals": "=",
    "LessThan": "<",
    "GreaterThan": ">",
    "LessThanEquals": "≤",
    "GreaterThanEquals": "≥",
    "Matches": "like",
}


def condition(rule: Mapping[str, Any]) -> str:
    """A Choice rule in a few words: its Comment if it has one, else its condition in shorthand."""
    if "Comment" in rule:
        return str(rule["Comment"])
    if "Condition" in rule:
        return str(rule["Condition"]).removeprefix("{%").removesuffix("%}").strip()
    if "Not" in rule:
        return f"not ({condition(rule['Not'])})"
    for word in ("And", "Or"):
        if word in rule:
            return f" {word.lower()} ".join(
                f"({condition(part)})" if {"And", "Or"} & part.keys() else condition(part) for part in rule[word]
            )
    variable = str(rule["Variable"]).removeprefix("$.")
    [(operator, value)] = [(key, rule[key]) for key in rule if key not in ("Variable", "Next", "Assign", "Output")]
    if operator.startswith("Is"):
        return f"{variable} is {'' if value else 'not '}{operator[2:].lower()}"
    for type_ in ("String", "Numeric", "Boolean", "Timestamp"):
        operator = operator.removeprefix(type_)
    shown = str(value).lower() if isinstance(value, bool) else str(value).removeprefix("$.")
    return f"{variable} {_OPERATORS[operator.removesuffix('Path')]} {shown}"

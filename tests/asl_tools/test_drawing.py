from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest

from asl_tools.drawing import to_mermaid, to_svg
from asl_tools.states import all_states, condition, edges, nested_machines

TASK = {"Type": "Task", "Resource": "arn:aws:states:::ecs:runTask.sync"}
ORDER = {
    "StartAt": "Prepare",
    "States": {
        "Prepare": {"Type": "Pass", "Next": "Both"},
        "Both": {
            "Type": "Parallel",
            "Branches": [
                {"StartAt": 'Say "hi" & <go>', "States": {'Say "hi" & <go>': {**TASK, "End": True}}},
                {
                    "StartAt": "Try",
                    "States": {
                        "Try": {**TASK, "Next": "Again?", "Catch": [{"ErrorEquals": ["A", "B"], "Next": "Good"}]},
                        "Again?": {
                            "Type": "Choice",
                            "Choices": [{"Variable": "$.n", "NumericLessThan": 3, "Next": "Try"}],
                            "Default": "Good",
                        },
                        "Good": {"Type": "Succeed"},
                    },
                },
            ],
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Broken"}],
            "Next": "Each",
        },
        "Each": {
            "Type": "Map",
            "ItemProcessor": {
                "StartAt": "Work",
                "States": {
                    "Work": {**TASK, "Next": "Sleep"},
                    "Sleep": {"Type": "Wait", "Seconds": 5, "End": True},
                },
            },
            "Next": "More?",
        },
        "More?": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.more", "BooleanEquals": True, "Next": "Prepare"},
                {"Variable": "$.again", "IsPresent": True, "Next": "More?"},
            ],
            "Default": "Done",
        },
        "Done": {"Type": "Succeed"},
        "Broken": {"Type": "Fail", "Error": "Broken"},
    },
}


def all_edges(machine: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = [(edge.source, edge.target, edge.kind) for edge in edges(machine)]
    for state in machine["States"].values():
        for inner in nested_machines(state):
            found += all_edges(inner)
    return found


def drawn(svg: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """From an SVG: the CSS class of each state, and all edges."""
    groups = [group for group in ElementTree.fromstring(svg).iter() if group.tag.endswith("}g")]
    states = {group.attrib["data-state"]: group.attrib["class"] for group in groups if "data-state" in group.attrib}
    lines = [
        (group.attrib["data-from"], group.attrib["data-to"], group.attrib["class"].split()[1])
        for group in groups
        if "data-from" in group.attrib
    ]
    return states, lines


def test_every_state_and_every_edge_is_drawn() -> None:
    states, lines = drawn(to_svg(ORDER))

    assert states.keys() == {name for name, _ in all_states(ORDER)}
    assert sorted(lines) == sorted(all_edges(ORDER))
    assert len(lines) == 12


def test_states_do_not_overlap() -> None:
    names = [f"State number {number}" for number in range(9)]
    rules = [{"Variable": "$.name", "StringEquals": name, "Next": name} for name in names]
    choice = {"Type": "Choice", "Choices": rules}
    machine = {"StartAt": "Choose", "States": {"Choose": choice} | {name: {"Type": "Succeed"} for name in names}}

    cards = [
        (float(rect.attrib["x"]), float(rect.attrib["width"]))
        for rect in ElementTree.fromstring(to_svg(machine)).iter()
        if rect.attrib.get("class") == "card" and "x" in rect.attrib
    ]

    assert len(cards) == 9
    for (x, width), (next_x, _) in zip(sorted(cards), sorted(cards)[1:], strict=False):
        assert x + width < next_x


def test_visited_states_stand_out() -> None:
    states, _ = drawn(to_svg(ORDER, {"Prepare": 2, "Both": 2, "Try": 0}))

    assert states["Prepare"] == states["Both"] == "state visited"
    assert states["Try"] == states["Done"] == "state faded"
    assert ">2x<" in to_svg(ORDER, {"Prepare": 2})


def test_the_image_loads_and_runs_nothing() -> None:
    svg = to_svg(ORDER)

    assert "<script" not in svg
    assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_a_state_that_nothing_leads_to_is_drawn_too() -> None:
    machine = {"StartAt": "A", "States": {"A": {"Type": "Succeed"}, "Lost": {"Type": "Pass", "Next": "A"}}}

    assert drawn(to_svg(machine)) == ({"A": "state", "Lost": "state"}, [("Lost", "A", "next")])


def test_mermaid_has_subgraphs_dotted_catches_and_conditions() -> None:
    lines = [line.strip() for line in to_mermaid(ORDER).splitlines()]

    assert lines[0] == "flowchart TD"
    assert 'subgraph s1["Both (Parallel)"]' in lines
    assert 's2["Say #quot;hi#quot; & <go>"]' in lines
    assert 's1 -.->|"States.ALL"| s11' in lines
    assert 's4 -->|"n < 3"| s3' in lines
    assert sum("-->" in line or "-.->" in line for line in lines) == 12 + 4  # the edges and the four starts


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"Variable": "$.a", "StringEquals": "b", "Comment": "throttled"}, "throttled"),
        ({"Variable": "$.a.b", "StringMatches": "ECS.*"}, "a.b like ECS.*"),
        ({"Variable": "$.a", "NumericGreaterThanEqualsPath": "$.b"}, "a ≥ b"),
        ({"Variable": "$.a", "BooleanEquals": False}, "a = false"),
        ({"Not": {"Variable": "$.a", "IsPresent": True}}, "not (a is present)"),
        ({"Variable": "$.a", "IsPresent": False}, "a is not present"),
        (
            {
                "And": [
                    {"Variable": "$.a", "IsNull": True},
                    {"Or": [{"Variable": "$.b", "NumericEquals": 1}, {"Variable": "$.b", "NumericEquals": 2}]},
                ]
            },
            "a is null and (b = 1 or b = 2)",
        ),
        ({"Condition": "{% $states.input.a > 1 %}"}, "$states.input.a > 1"),
    ],
)
def test_conditions_are_said_in_a_few_words(rule: dict[str, Any], words: str) -> None:
    assert condition({**rule, "Next": "X"}) == words

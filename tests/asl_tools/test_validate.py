from typing import Any

from asl_tools.validate import problems, problems_of_all

END = {"Type": "Pass", "End": True}


def machine(**states: Any) -> dict[str, Any]:
    return {"StartAt": "A", "States": states}


def test_a_good_definition_has_no_problems() -> None:
    task = {"Type": "Task", "Resource": "arn:${AWS::Partition}:states:::sns:publish", "Next": "B"}

    assert problems(machine(A=task, B=END)) == []


def test_many_definitions_are_validated_at_once() -> None:
    missing, unreachable, unknown, jsonpath, jsonata, bad_jsonata, nested = problems_of_all(
        [
            machine(A={"Type": "Pass", "Next": "Nowhere"}),
            machine(A=END, Lost=END),
            machine(A={**END, "Colour": "red"}),
            machine(A={**END, "InputPath": "$.["}),
            {**machine(A={**END, "Output": "{% $states.input.a + 1 %}"}), "QueryLanguage": "JSONata"},
            {**machine(A={**END, "Output": "{% 1 + %}"}), "QueryLanguage": "JSONata"},
            machine(A={"Type": "Parallel", "Branches": [machine(A=END)], "End": True}),
        ]
    )

    assert any("Nowhere" in problem for problem in missing)
    assert unreachable == ["MISSING_TRANSITION_TARGET: State Lost is not reachable"]
    assert unknown != []
    assert any("/States/A/InputPath" in problem for problem in jsonpath)
    assert jsonata == []
    assert any("/States/A/Output" in problem for problem in bad_jsonata)
    assert nested == ["DUPLICATE_STATE_NAMES: A state with this name already exists: A"]

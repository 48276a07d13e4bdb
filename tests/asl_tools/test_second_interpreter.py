import json
from typing import Any

import pytest

from asl_tools.second_interpreter import Error, Outcome, Result, Run, ScriptError, run_all

RUN_TASK = {"Type": "Task", "Resource": "arn:aws:states:::ecs:runTask.sync"}
THROTTLED = Error("ECS.AmazonECSException", "Rate exceeded (Service: AmazonECS)")
PULL_FAILED = Error("States.TaskFailed", '{"StopCode":"TaskFailedToStart","Containers":[{"Name":"app"}]}')


def run(definition: dict[str, Any], **arguments: Any) -> Outcome:
    [outcome] = run_all([Run(definition=definition, **arguments)])
    return outcome


def machine(first: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"StartAt": "First", "States": {"First": first, **others}}


def choice(rule: dict[str, Any]) -> dict[str, Any]:
    """A machine that gives whether the rule matches its input."""
    return machine(
        {"Type": "Choice", "Choices": [{**rule, "Next": "Yes"}], "Default": "No"},
        Yes={"Type": "Pass", "Result": True, "End": True},
        No={"Type": "Pass", "Result": False, "End": True},
    )


# Like the job of this library: throttling is tried again twice, everything else ends with its own error.
LOOP = {
    "StartAt": "Run task",
    "States": {
        "Run task": {
            **RUN_TASK,
            "Parameters": {"Overrides": {"ContainerOverrides": [{"Name": "app", "Command.$": "$.commands"}]}},
            "TimeoutSeconds": 1,
            "ResultPath": "$.result",
            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Why did it fail?"}],
            "End": True,
        },
        "Why did it fail?": {
            "Type": "Choice",
            "Choices": [
                {
                    "And": [
                        {"Variable": "$.error.Error", "StringMatches": "ECS.*"},
                        {"Variable": "$.error.Cause", "StringMatches": "*Rate exceeded*"},
                    ],
                    "Next": "Throttled before?",
                },
                {
                    "Variable": "$.error.Cause",
                    "StringMatches": '*"StopCode":"TaskFailedToStart"*',
                    "Next": "Never started",
                },
            ],
            "Default": "Failed",
        },
        "Throttled before?": {
            "Type": "Choice",
            "Choices": [
                {"Not": {"Variable": "$.launch", "IsPresent": True}, "Next": "Begin to count"},
                {"Variable": "$.launch.throttled", "NumericLessThan": 2, "Next": "Count"},
            ],
            "Default": "Failed",
        },
        "Begin to count": {"Type": "Pass", "Result": {"throttled": 0}, "ResultPath": "$.launch", "Next": "Count"},
        "Count": {
            "Type": "Pass",
            "Parameters": {
                "throttled.$": "States.MathAdd($.launch.throttled, 1)",
                "pause.$": "States.MathRandom(1, States.ArrayGetItem(States.Array(2, 4), $.launch.throttled))",
            },
            "ResultPath": "$.launch",
            "Next": "Pause",
        },
        "Pause": {"Type": "Wait", "SecondsPath": "$.launch.pause", "Next": "Run task"},
        "Never started": {"Type": "Fail", "Error": "NeverStarted"},
        "Failed": {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
    },
}
INPUT = {"commands": ["work", "hard"]}


def test_success_takes_one_state() -> None:
    outcome = run(LOOP, input=INPUT, tasks={"Run task": [Result({"LastStatus": "STOPPED"})]})

    assert (outcome.status, outcome.error, outcome.visited) == ("SUCCEEDED", None, ["Run task"])
    assert outcome.output == {**INPUT, "result": {"LastStatus": "STOPPED"}}
    payload = {"Overrides": {"ContainerOverrides": [{"Name": "app", "Command": ["work", "hard"]}]}}
    assert outcome.inputs == {"Run task": [payload]}


def test_a_loop_counts_and_waits_until_it_succeeds() -> None:
    outcome = run(LOOP, input=INPUT, tasks={"Run task": [THROTTLED, THROTTLED, Result("done")]})

    assert outcome.calls["Run task"] == 3
    assert outcome.visited.count("Pause") == 2
    assert outcome.output["launch"]["throttled"] == 2
    pauses = [state.input["launch"]["pause"] for state in outcome.states if state.name == "Pause"]
    assert 1 <= pauses[0] <= 2
    assert 1 <= pauses[1] <= 4


def test_a_loop_ends_with_its_budget_and_the_last_error() -> None:
    outcome = run(LOOP, input=INPUT, tasks={"Run task": [THROTTLED] * 3})

    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", THROTTLED.name, THROTTLED.cause)
    assert outcome.output is None
    assert outcome.calls["Run task"] == 3


def test_the_text_of_a_cause_decides() -> None:
    outcome = run(LOOP, input=INPUT, tasks={"Run task": [PULL_FAILED]})

    assert outcome.visited == ["Run task", "Why did it fail?", "Never started"]
    assert (outcome.error, outcome.cause) == ("NeverStarted", None)


def test_retry_repeats_the_task_and_enters_its_state_once() -> None:
    retry = [{"ErrorEquals": ["Busy"], "IntervalSeconds": 300, "MaxAttempts": 2}]
    definition = machine({**RUN_TASK, "Retry": retry, "End": True})

    good, bad = run_all(
        [
            Run(definition=definition, tasks={"First": [Error("Busy"), Error("Busy"), Result(1)]}),
            Run(definition=definition, tasks={"First": [Error("Busy")] * 2 + [Error("Busy", "still")]}),
        ]
    )

    assert (good.output, good.calls["First"], good.visited) == (1, 3, ["First"])
    assert (bad.status, bad.error, bad.cause, bad.calls["First"]) == ("FAILED", "Busy", "still", 3)


@pytest.mark.parametrize(
    ("error", "caught_by"),
    [
        ("States.Timeout", "All"),
        ("ECS.ServerException", "TaskFailed"),
        ("States.Runtime", None),
        ("States.DataLimitExceeded", None),
    ],
)
def test_catchers_match_as_on_aws(error: str, caught_by: str | None) -> None:
    catch = [
        {"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$", "Next": "TaskFailed"},
        {"ErrorEquals": ["States.ALL"], "ResultPath": "$.caught", "Next": "All"},
    ]
    definition = machine(
        {**RUN_TASK, "Catch": catch, "End": True}, TaskFailed={"Type": "Succeed"}, All={"Type": "Succeed"}
    )

    outcome = run(definition, tasks={"First": [Error(error, "why")]})

    caught = {"Error": error, "Cause": "why"}
    outputs = {"TaskFailed": caught, "All": {"caught": caught}, None: None}
    assert outcome.visited == ["First", *filter(None, [caught_by])]
    assert outcome.output == outputs[caught_by]


def test_running_out_of_results_is_a_mistake_and_not_an_outcome() -> None:
    with pytest.raises(ScriptError, match=r'run 0: "Run task" was called 2 times, results were given for 1'):
        run(LOOP, input=INPUT, tasks={"Run task": [THROTTLED]})


def test_an_unknown_task_is_a_mistake() -> None:
    with pytest.raises(ScriptError, match="run 0: no Task is called Pause, Run tusk"):
        run(LOOP, input=INPUT, tasks={"Run tusk": [], "Pause": []})


def test_a_circle_without_an_end_is_found() -> None:
    circle = machine({"Type": "Pass", "Next": "Second"}, Second={"Type": "Pass", "Next": "First"})

    with pytest.raises(ScriptError, match="run in a circle"):
        run(circle)


def test_intrinsic_functions_filters_and_the_context_object() -> None:
    containers = [{"Name": "side", "ExitCode": 137}, {"Name": "app", "ExitCode": 0}]
    definition = machine(
        {
            "Type": "Pass",
            "Parameters": {
                "task.$": "States.StringToJson($.cause)",
                "codes.$": "States.JsonToString($.task.Containers[?(@.Name=='app')].ExitCode)",
                "text.$": "States.Format('{} of {}', $$.Execution.Name, States.MathAdd(1, 2))",
                "input.$": "$$.Execution.Input.cause",
                "machine.$": "$$.StateMachine",
            },
            "End": True,
        }
    )
    context = {"Execution": {"Name": "night"}, "StateMachine": {"Name": "Job"}}

    outcome = run(definition, input={"cause": '{"a": [1]}', "task": {"Containers": containers}}, context=context)

    assert outcome.output == {
        "task": {"a": [1]},
        "codes": "[0]",
        "text": "night of 3",
        "input": '{"a": [1]}',
        "machine": {"Name": "Job"},
    }


def test_parallel_and_map_give_lists_and_are_caught_as_a_whole() -> None:
    each = {
        "Type": "Map",
        "ItemsPath": "$.items",
        "ItemProcessor": {"StartAt": "Work", "States": {"Work": {**RUN_TASK, "End": True}}},
        "Catch": [{"ErrorEquals": ["Broken"], "ResultPath": "$.error", "Next": "Both"}],
        "Next": "Both",
    }
    branches = [
        {"StartAt": name, "States": {name: {"Type": "Pass", "Result": name, "End": True}}} for name in ("L", "R")
    ]
    definition = machine(each, Both={"Type": "Parallel", "Branches": branches, "ResultPath": "$.both", "End": True})

    outcome = run(definition, input={"items": [1, 2]}, tasks={"Work": [Result("a"), Error("Broken", "2nd")]})

    assert sorted(outcome.inputs["Work"]) == [1, 2]
    assert outcome.output["error"] == {"Error": "Broken", "Cause": "2nd"}
    assert outcome.output["both"] == ["L", "R"]


def test_choice_rules_mean_what_they_mean_on_aws() -> None:
    cases: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
        ({"Variable": "$.a", "IsPresent": False}, {}, True),
        ({"Variable": "$.a.b", "IsPresent": False}, {"a": {"b": 0}}, False),
        ({"Variable": "$.a", "IsString": False}, {"a": 1}, True),
        ({"Not": {"Variable": "$.a", "IsPresent": False}}, {"a": None}, True),
        ({"Variable": "$.a", "StringMatches": "b?d"}, {"a": "bcd"}, False),
        ({"Variable": "$.a", "StringMatches": "b?d"}, {"a": "b?d"}, True),
        ({"Variable": "$.a", "StringMatches": r"b\*d"}, {"a": "bcd"}, False),
        ({"Or": [{"Variable": "$.a", "IsPresent": False}, {"Variable": "$.a", "NumericEquals": 1}]}, {"a": 1}, True),
    ]

    outcomes = run_all([Run(definition=choice(rule), input=given) for rule, given, _ in cases])

    for (rule, given, matches), outcome in zip(cases, outcomes, strict=True):
        assert outcome.output is matches, json.dumps([rule, given])


def test_a_path_to_nowhere_fails_even_in_a_wait() -> None:
    outcome = run(machine({"Type": "Wait", "SecondsPath": "$.pause", "End": True}))

    assert (outcome.status, outcome.error) == ("FAILED", "States.Runtime")


@pytest.mark.parametrize("value", [0, False, "", None])
def test_an_empty_result_of_a_pass_is_a_result(value: object) -> None:
    definition = machine({"Type": "Pass", "Result": value, "ResultPath": "$.a", "End": True})

    assert run(definition, input={"a": 1}).output == {"a": value}


@pytest.mark.parametrize(
    "state",
    [
        {"Type": "Pass", "QueryLanguage": "JSONata", "End": True},
        {"Type": "Pass", "Assign": {"a": 1}, "End": True},
        {"Type": "Map", "ItemReader": {}, "ItemProcessor": {"StartAt": "A", "States": {}}, "End": True},
        {"Type": "Fail", "ErrorPath": "States.Format('a')"},
    ],
)
def test_what_it_cannot_run_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='"First": the second interpreter'):
        run(machine(state))

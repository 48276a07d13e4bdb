"""Runs a state machine, task results given, in npm's aws-local-stepfunctions 3.0.0.

It was written by other people than the emulator of `embedded_aws`, so a definition that behaves the same in
both is unlikely to lean on a mistake of one of them. Nothing is called and nothing is waited for: tasks
answer from a script, waits and pauses between retries end at once.

What it judges well: transitions, Retry, Catch (ResultPath included), Choice with And, Or, Not, IsPresent and
StringMatches, Parameters, ResultSelector, paths into the context object ($$), filters like
`$.x[?(@.Name=='app')]`, all intrinsic functions, Wait with SecondsPath, Fail with ErrorPath and CausePath,
Parallel and inline Map. A path that leads nowhere fails the execution with States.Runtime, as on AWS.

`_translate` refuses what it cannot run (JSONata, variables, distributed maps, intrinsic functions in
ErrorPath or CausePath) and rewrites what it would get wrong. Where it still differs from AWS:

* Time-outs and heartbeats do not run: script `Error("States.Timeout", ...)` instead.
* `$$.State` stays what the run's context says. Inside Map and Parallel `$$.Execution.Input` is the branch's
  own input, and `$$.Map` exists in ItemSelector only. `$$.Execution.StartTime` is the time of the run.
* A wildcard or a filter that finds nothing fails with States.Runtime; AWS gives an empty list.
* States.MathRandom may return its end, which AWS excludes, and draws the same number twice within one
  millisecond.
* States.ArrayGetItem past the end gives null; AWS fails.
* States.Format and States.JsonToString lose every backslash of their result.
* An intrinsic function that fails ends with the JavaScript error's name ("SyntaxError"), not with
  States.IntrinsicFailure.
* StringMatches needs a string (AWS: no match), and `*` does not match a line break.
* Two values of different types may compare as JavaScript compares them; AWS takes them as no match.

https://docs.aws.amazon.com/step-functions/latest/dg/concepts-amazon-states-language.html
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from asl_tools.node import run_script
from asl_tools.states import nested_machines, state_names


class ScriptError(Exception):
    """A run that says nothing about its definition: a task had no result left, or there is no such task."""


@dataclass(frozen=True)
class Result:
    """The task succeeds with `value`."""

    value: object = None


@dataclass(frozen=True)
class Error:
    """The task fails with an error name as AWS gives it, e.g. "States.TaskFailed", and a cause."""

    name: str
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution.

    Attributes:
        definition: plain ASL in JSONPath, for example from `asl_tools.resolve`.
        input: the execution's input.
        context: the context object, for paths that begin with `$$`; Execution.Input and Execution.StartTime
            are filled in.
        tasks: by state name, what each call of the task gives, retries included, in order. One call more than
            there are results is a ScriptError.
    """

    definition: Mapping[str, Any]
    input: object = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Sequence[Result | Error]] = field(default_factory=dict)


@dataclass(frozen=True)
class EnteredState:
    """A state as the execution entered it. A retry does not enter it again."""

    name: str
    input: Any


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an execution ended and the way it took.

    Attributes:
        status: as DescribeExecution says it.
        output: None if it failed.
        error: None if it succeeded or if the Fail state gives none; the same holds for cause.
        states: every state in the order of entering, those inside Map and Parallel included.
        inputs: by task, the payload of each call: the state's input after InputPath and Parameters.
    """

    status: Literal["SUCCEEDED", "FAILED"]
    output: Any
    error: str | None
    cause: str | None
    states: Sequence[EnteredState]
    inputs: Mapping[str, Sequence[Any]]

    @property
    def visited(self) -> list[str]:
        return [state.name for state in self.states]

    @property
    def calls(self) -> Counter[str]:
        """How often each task was called, retries included; 0 for the others."""
        return Counter({name: len(payloads) for name, payloads in self.inputs.items()})


def run_all(runs: Sequence[Run]) -> list[Outcome]:
    """Executes the runs one after the other in one Node process (0.4 s, and a few milliseconds per run).

    Raises:
        ValueError: a definition holds something that this interpreter cannot run.
        ScriptError: the script of a run does not fit its definition, or the execution runs in a circle.
        NodeError: Node or the npm package is missing.
    """
    requests = []
    for number, run in enumerate(runs):
        tasks = state_names(run.definition, "Task")
        if unknown := run.tasks.keys() - tasks:
            raise ScriptError(f"run {number}: no Task is called {', '.join(sorted(unknown))}")
        requests.append(
            {
                "definition": _translate(run.definition),
                "input": run.input,
                "context": run.context,
                # Every task gets a script, if only an empty one: without, the interpreter would call AWS.
                "tasks": {name: [asdict(answer) for answer in run.tasks.get(name, ())] for name in tasks},
            }
        )
    answers = run_script("second_interpreter.mjs", requests)
    return [_outcome(number, answer) for number, answer in enumerate(answers)]


def _outcome(number: int, answer: dict[str, Any]) -> Outcome:
    if "mistake" in answer:
        raise ScriptError(f"run {number}: {answer['mistake']}")
    return Outcome(
        status=answer["status"],
        output=answer["output"],
        error=answer["error"] or None,
        cause=answer["cause"] or None,
        states=[EnteredState(**state) for state in answer["states"]],
        inputs=answer["inputs"],
    )


# The one place where a definition is changed before it is run. Each comment says what the interpreter would
# do without the change.

_TIMEOUTS = {"TimeoutSeconds", "TimeoutSecondsPath", "HeartbeatSeconds", "HeartbeatSecondsPath"}
_DISTRIBUTED = {"ItemReader", "ItemBatcher", "ResultWriter"}


def _translate(machine: Mapping[str, Any]) -> dict[str, Any]:
    if machine.get("QueryLanguage", "JSONPath") != "JSONPath":
        raise ValueError("the second interpreter knows JSONPath only")
    # A time-out is a timer, and no timer runs here: it would ring at once.
    kept = {key: value for key, value in machine.items() if key not in _TIMEOUTS}
    return {**kept, "States": {name: _state(name, state) for name, state in machine["States"].items()}}


def _state(name: str, original: Mapping[str, Any]) -> dict[str, Any]:
    state = {key: value for key, value in original.items() if key not in _TIMEOUTS}
    if state.get("QueryLanguage", "JSONPath") != "JSONPath":
        raise ValueError(f'"{name}": the second interpreter knows JSONPath only')
    if unknown := state.keys() & {"Assign", *_DISTRIBUTED}:
        raise ValueError(f'"{name}": the second interpreter does not know {", ".join(sorted(unknown))}')

    match state["Type"]:
        case "Choice":
            state["Choices"] = [_rule(rule) for rule in state["Choices"]]
        case "Fail":
            for key in ("Error", "Cause"):
                if str(state.get(f"{key}Path", "")).startswith("States."):
                    raise ValueError(f'"{name}": the second interpreter knows no functions in {key}Path')
                # Without either it would invent "FailStateError".
                state.setdefault(key, "")
        case "Pass" if "Result" in state and not state["Result"]:
            # It takes a Result of 0, false, null or "" as none at all.
            state["Parameters"] = state.pop("Result")
        case "Parallel":
            state["Branches"] = [_translate(branch) for branch in nested_machines(state)]
        case "Map":
            state["ItemProcessor"] = _translate(nested_machines(state)[0])

    if "Catch" in state:
        state["Catch"] = [_without_dollar_path(catcher) for catcher in state["Catch"]]
    return _without_dollar_path(state)


def _without_dollar_path(place: Mapping[str, Any]) -> dict[str, Any]:
    # It would write to a key "$". Left out, ResultPath means the same.
    return {key: value for key, value in place.items() if (key, value) != ("ResultPath", "$")}


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A Choice rule in words that the interpreter takes as AWS does."""
    translated: dict[str, Any] = {}
    for key, value in rule.items():
        if key in ("And", "Or"):
            translated[key] = [_rule(inner) for inner in value]
        elif key == "Not":
            translated[key] = _rule(value)
        elif key == "StringMatches":
            # A question mark is a wildcard to it, and a plain character to AWS.
            translated[key] = value.replace("?", r"\?")
        elif key.startswith("Is") and value is False:
            # It never matches when asked for the absence of something.
            translated["Not"] = {"Variable": rule["Variable"], key: True}
        else:
            translated[key] = value
    return translated

"""AWS Step Functions: the way through the states of an execution, of a branch and of an iteration."""

import copy
import json
from collections.abc import Callable
from typing import Any

from ministack.core.responses import now_iso
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.payloads import check_result
from embedded_aws.corrections.progress import Group, Progress, current_group
from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.corrections.scope import Scope, current_scope

_START_WITHIN = 0.15
"""Seconds before the first state, as in stock: the caller hears of the execution before it does anything."""


@correction(sfn, "_run_execution", "(exec_arn)")
def an_execution_keeps_its_place(stock: AnyFunction, exec_arn: str) -> None:
    """Stock: forgets at which state an execution has failed; `$$.Execution` has no `RedriveCount` and no `RoleArn`.

    AWS: a redrive goes on at that state, with its input; see `an_execution_can_be_redriven`.
    Document: Step Functions Developer Guide, "Accessing execution data from the Context object".
    """
    execution = sfn._executions.get(exec_arn)
    if execution is None or "definition" not in execution:
        stock(exec_arn)
        return
    current_scope().sleep(_START_WITHIN)
    try:
        definition = json.loads(execution["definition"])
        if "progress" not in execution:
            execution["progress"] = Progress(definition["StartAt"], json.loads(execution["input"]))
            execution["context"] = _context(definition, execution)
        output = run_states(definition["States"], execution["progress"], execution, execution["context"])
        text = json.dumps(output)
        current_scope().check()
        execution.update(status="SUCCEEDED", output=text, stopDate=now_iso())
        sfn._add_event(execution, "ExecutionSucceeded", {"executionSucceededEventDetails": {"output": text}})
        sfn._emit_execution_status_event(execution)
    except sfn._ExecutionError as error:
        sfn._fail_execution(execution, error.error, error.cause)
    except Exception as error:
        sfn.logger.exception("Unexpected error in execution %s", exec_arn)
        sfn._fail_execution(execution, "States.Runtime", str(error))


def _context(definition: Any, execution: Any) -> dict[str, Any]:
    machine = sfn._state_machines[execution["stateMachineArn"]]
    return {
        "QueryLanguage": definition.get("QueryLanguage", "JSONPath"),
        "Execution": {
            "Id": execution["executionArn"],
            "Input": json.loads(execution["input"]),
            "Name": execution["name"],
            "RoleArn": machine["roleArn"],
            "StartTime": execution["startDate"],
            "RedriveCount": 0,
        },
        "StateMachine": {"Id": execution["stateMachineArn"], "Name": machine["name"]},
        "variables": {},
    }


@correction(sfn, "_run_parallel_branches", "(state_def, raw_input, execution, ctx)")
def branches_end_together(stock: AnyFunction, state_def: Any, raw_input: Any, execution: Any, ctx: Any) -> Any:
    """Stock: when a branch fails the others run to their end; the history does not tell.

    AWS: they are stopped; ParallelStateStarted, ParallelStateSucceeded, ParallelStateFailed.
    Document: Step Functions Developer Guide, "Parallel workflow state"; API Reference, "HistoryEvent".
    """
    branches = [branch["States"] for branch in state_def["Branches"]]

    def index_of(states: Any, _: Any) -> int:
        return next(index for index, branch in enumerate(branches) if branch is states)

    return _together("ParallelState", execution, Group(index_of), lambda: stock(state_def, raw_input, execution, ctx))


@correction(sfn, "_run_map_items", "(state_def, raw_input, execution, ctx)")
def iterations_end_together(stock: AnyFunction, state_def: Any, raw_input: Any, execution: Any, ctx: Any) -> Any:
    """Stock: when an iteration fails the others run to their end; the history does not tell.

    AWS: they are stopped; MapStateStarted, MapStateSucceeded, MapStateFailed.
    Document: Step Functions Developer Guide, "Map workflow state"; API Reference, "HistoryEvent".
    """
    group = Group(lambda _, item_ctx: int(item_ctx["Map"]["Item"]["Index"]))
    return _together("MapState", execution, group, lambda: stock(state_def, raw_input, execution, ctx))


def _together(name: str, execution: Any, group: Group, run: Callable[[], Any]) -> Any:
    sfn._add_event(execution, f"{name}Started")
    try:
        with Scope(current_scope().execution, parent=current_scope()).entered(), group.entered():
            result = run()
    except sfn._ExecutionError:
        sfn._add_event(execution, f"{name}Failed")
        raise
    sfn._add_event(execution, f"{name}Succeeded")
    return result


@correction(sfn, "_run_sub_machine", "(states, start_at, input_data, execution, ctx)")
def branches_write_history(
    stock: AnyFunction, states: Any, start_at: str, input_data: Any, execution: Any, ctx: Any
) -> Any:
    """Stock: no history of the states in a branch; all branches share one context object, so that one may see the
    state or the task token of another.

    AWS: states are entered and exited as everywhere; each branch has its own context.
    Document: Step Functions API Reference, "GetExecutionHistory"; Developer Guide, "Accessing execution data from the
    Context object".
    """
    progress = current_group().part(states, ctx, start_at, copy.deepcopy(input_data))
    group = current_scope()
    try:
        with Scope(execution, parent=group).entered():
            return run_states(states, progress, execution, dict(ctx))
    except sfn._ExecutionError:
        group.stop()
        raise


def run_states(states: Any, progress: Progress, execution: Any, ctx: Any) -> Any:
    """Goes this way to its end and returns the output. The history of the execution tells of it."""
    while name := progress.name:
        state = states[name]
        kind = state["Type"]
        ctx["State"] = {"Name": name, "EnteredTime": now_iso(), "RetryCount": 0}
        if not progress.entered or kind == "Fail":  # A redrive enters a Fail state again, the others go on.
            entered = {"name": name, "input": json.dumps(progress.data)}
            sfn._add_event(execution, f"{kind}StateEntered", {"stateEnteredEventDetails": entered})
            progress.entered = True
        with progress.entering():
            output, following = _run_state(state, progress.data, execution, ctx)
        check_result(name, output)
        exited = {"name": name, "output": json.dumps(output)}
        sfn._add_event(execution, f"{kind}StateExited", {"stateExitedEventDetails": exited})
        progress.move(following, output)
    return progress.data


def _run_state(state: Any, data: Any, execution: Any, ctx: Any) -> tuple[Any, str | None]:
    match state["Type"]:
        case "Succeed":
            return sfn._apply_output_path(state, sfn._apply_input_path(state, data, ctx), ctx), None
        case "Fail":
            raise sfn._ExecutionError(*sfn._fail_state_error(state, data, ctx))
        case "Task" | "Parallel" | "Map" as kind:
            run = {"Task": sfn._execute_task, "Parallel": sfn._execute_parallel, "Map": sfn._execute_map}[kind]
            output, following = run(state, data, execution, ctx)
        case kind:
            run = {"Pass": sfn._execute_pass, "Choice": sfn._execute_choice, "Wait": sfn._execute_wait}[kind]
            output, following = run(state, data, ctx)
    return output, following

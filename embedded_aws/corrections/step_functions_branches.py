"""AWS Step Functions: the branches of a Parallel, the iterations of a Map and the children of a distributed Map."""

import copy
import json
from collections.abc import Callable
from typing import Any

from ministack.core.responses import now_iso
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.corrections.scope import Scope, StoppedError, current_scope, scopes


@correction(sfn, "_run_parallel_branches", "(state_def, raw_input, execution, ctx)")
def branches_end_together(stock: AnyFunction, state_def: Any, raw_input: Any, execution: Any, ctx: Any) -> Any:
    """Stock: when a branch fails the others run to their end; the history does not tell.

    AWS: they are stopped; ParallelStateStarted, ParallelStateSucceeded, ParallelStateFailed.
    Document: Step Functions Developer Guide, "Parallel workflow state"; API Reference, "HistoryEvent".
    """
    return _together("ParallelState", execution, lambda: stock(state_def, raw_input, execution, ctx))


@correction(sfn, "_run_map_items", "(state_def, raw_input, execution, ctx)")
def iterations_end_together(stock: AnyFunction, state_def: Any, raw_input: Any, execution: Any, ctx: Any) -> Any:
    """Stock: when an iteration fails the others run to their end; the history does not tell.

    AWS: they are stopped; MapStateStarted, MapStateSucceeded, MapStateFailed.
    Document: Step Functions Developer Guide, "Map workflow state"; API Reference, "HistoryEvent".
    """
    return _together("MapState", execution, lambda: stock(state_def, raw_input, execution, ctx))


def _together(name: str, execution: Any, run: Callable[[], Any]) -> Any:
    sfn._add_event(execution, f"{name}Started")
    try:
        with Scope(current_scope().execution, parent=current_scope()).entered():
            result = run()
    except sfn._ExecutionError:
        sfn._add_event(execution, f"{name}Failed")
        raise
    sfn._add_event(execution, f"{name}Succeeded")
    return result


@correction(sfn, "_run_distributed_map", "(state_def, raw_input, effective, iterator, execution, ctx)")
def a_map_run_ends_with_its_execution(
    stock: AnyFunction, state_def: Any, raw_input: Any, effective: Any, iterator: Any, execution: Any, ctx: Any
) -> Any:
    """Stock: the children run on when the parent is stopped, and the map run counts as SUCCEEDED.

    AWS: children and map run are ABORTED.
    Document: Step Functions Developer Guide, "Using Map state in Distributed mode".
    """
    try:
        return stock(state_def, raw_input, effective, iterator, execution, ctx)
    finally:
        if current_scope().stopped:
            for map_run in sfn._map_runs.values():
                if map_run["executionArn"] == execution["executionArn"]:
                    map_run["status"] = "ABORTED"


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
    group = current_scope()
    child = execution if execution is not group.execution else None
    scope = Scope(execution, parent=group)
    if child:
        scopes[child["executionArn"]] = scope
    try:
        with scope.entered():
            return _run_states(states, start_at, copy.deepcopy(input_data), execution, dict(ctx))
    except sfn._ExecutionError:
        if not child:
            group.stop()
        raise
    except StoppedError:
        if child and child["status"] == "RUNNING":
            child.update(status="ABORTED", stopDate=now_iso())
        raise
    finally:
        if child:
            del scopes[child["executionArn"]]


def _run_states(states: Any, start_at: str, data: Any, execution: Any, ctx: Any) -> Any:
    name: str | None = start_at
    while name:
        state = states[name]
        kind = state["Type"]
        ctx["State"] = {"Name": name, "EnteredTime": now_iso(), "RetryCount": 0}
        entered = {"name": name, "input": json.dumps(data)}
        sfn._add_event(execution, f"{kind}StateEntered", {"stateEnteredEventDetails": entered})
        data, following = _run_state(state, data, execution, ctx)
        exited = {"name": name, "output": json.dumps(data)}
        sfn._add_event(execution, f"{kind}StateExited", {"stateExitedEventDetails": exited})
        name = following
    return data


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

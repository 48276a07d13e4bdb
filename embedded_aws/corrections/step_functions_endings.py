"""AWS Step Functions: how an execution, a task and a branch start and end, and what ends together with them."""

import contextvars
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from ministack.core.responses import error_response_json, json_response, now_iso
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.corrections.scope import Scope, StoppedError, current_scope, scopes

_FORBIDDEN_IN_NAMES = re.compile(r"""[\s<>{}\[\]?*"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]""")
_LONGEST_NAME = 80
_LARGEST_INPUT = 262_144


@correction(sfn, "_start_execution", "(data)")
def start_execution_is_idempotent(stock: AnyFunction, data: dict[str, Any]) -> Any:
    """Stock: a name that is taken is always ExecutionAlreadyExists; any name and any input are accepted.

    AWS: the same name with the same input gives the execution that still runs; InvalidName,
    InvalidExecutionInput.
    Document: Step Functions API Reference, "StartExecution".
    """
    name, text = data.get("name"), data.get("input", "{}")
    if name is not None and (not 1 <= len(name) <= _LONGEST_NAME or _FORBIDDEN_IN_NAMES.search(name)):
        return error_response_json("InvalidName", f"Invalid Name: '{name}'", 400)
    try:
        json.loads(text)
    except ValueError as error:
        return error_response_json("InvalidExecutionInput", f"Invalid State Machine Execution Input: '{error}'", 400)
    if len(text.encode()) > _LARGEST_INPUT:
        return error_response_json("InvalidExecutionInput", "The execution input is larger than 256 KiB", 400)
    machine = sfn._state_machines.get(sfn._resolve_state_machine_arn(data.get("stateMachineArn", "")))
    if name and machine:
        arn = machine["stateMachineArn"].replace(":stateMachine:", ":execution:") + f":{name}"
        same = sfn._executions.get(arn)
        if same and same["status"] == "RUNNING" and same["input"] == text:
            return json_response({"executionArn": arn, "startDate": same["startDate"]})
    return stock({**data, "input": text})


@correction(sfn, "_run_execution", "(exec_arn)")
def an_execution_has_a_timeout(stock: AnyFunction, exec_arn: str) -> None:
    """Stock: ignores the `TimeoutSeconds` of the state machine.

    AWS: the execution ends as TIMED_OUT and what it started is stopped; so is a child that it waits for.
    Document: Step Functions Developer Guide, "State machine structure in Amazon States Language".
    """
    execution = sfn._executions.get(exec_arn)
    machine = sfn._state_machines.get(execution["stateMachineArn"]) if execution else None
    if machine is None:
        stock(exec_arn)
        return
    # A nested execution ends with its parent only where the parent waits for it.
    scope = Scope(execution, parent=current_scope() if execution.get("sync") else None)
    scopes[exec_arn] = scope
    timer = None
    # A redrive goes on with the definition that the execution was started with, and the whole time-out begins again.
    if seconds := json.loads(execution.setdefault("definition", machine["definition"])).get("TimeoutSeconds"):
        in_this_account = contextvars.copy_context().run
        timer = threading.Timer(seconds, in_this_account, (_time_out, execution, scope))
        timer.daemon = True
        timer.start()
    try:
        with scope.entered():
            stock(exec_arn)
    except StoppedError:
        if execution["status"] == "RUNNING" and scopes.get(exec_arn) is scope:  # The parent that waited was stopped.
            sfn._stop_execution({"executionArn": exec_arn})
        raise
    finally:
        if timer:
            timer.cancel()
        if scopes.get(exec_arn) is scope:
            del scopes[exec_arn]


def _time_out(execution: Any, scope: Scope) -> None:
    if execution["status"] != "RUNNING" or scope.stopped:
        return
    execution.update(status="TIMED_OUT", stopDate=now_iso())
    sfn._add_event(execution, "ExecutionTimedOut", {"executionTimedOutEventDetails": {}})
    scope.stop()
    sfn._emit_execution_status_event(execution)


@correction(sfn, "_stop_execution", "(data)")
def stop_execution_stops_the_work(stock: AnyFunction, data: dict[str, Any]) -> Any:
    """Stock: branches, retries, tasks and callbacks of the execution go on.

    AWS: they end, and so do the ECS tasks that it waits for.
    Document: Step Functions API Reference, "StopExecution", and Developer Guide, "Run a job (.sync)".
    """
    answer = stock(data)
    if scope := scopes.get(data.get("executionArn", "")):
        scope.stop()
    return answer


@correction(sfn, "_fail_execution", "(execution, error, cause)")
def an_execution_ends_once(stock: AnyFunction, execution: Any, error: str, cause: str) -> None:
    """Stock: a task that fails late turns ABORTED into FAILED.

    AWS: the first end is final. The cause of a runtime error names the state.
    Document: Step Functions API Reference, "DescribeExecution".
    """
    if execution["status"] != "RUNNING" or current_scope().stopped:
        return
    if error == "States.Runtime":
        entered = [event for event in execution["events"] if event["type"].endswith("StateEntered")]
        if entered:
            name = entered[-1]["stateEnteredEventDetails"]["name"]
            cause = (
                f"An error occurred while executing the state '{name}' (entered at the event id "
                f"#{entered[-1]['id']}). {cause}"
            )
    stock(execution, error, cause)


@correction(sfn, "_scaled_sleep", "(seconds)")
def a_pause_ends_with_its_execution(stock: AnyFunction, seconds: float) -> None:
    """Stock: a stopped execution sleeps to the end of its wait.

    AWS: it is over at once.
    Document: Step Functions API Reference, "StopExecution".
    """
    current_scope().sleep(seconds * sfn._SFN_WAIT_SCALE)


@correction(sfn, "_invoke_resource_with_timeout", "(resource, input_data, timeout)")
def a_task_that_timed_out_is_stopped(stock: AnyFunction, resource: str, input_data: Any, timeout: float) -> Any:
    """Stock: the state fails with `States.Timeout` while the ECS task keeps running.

    AWS: Step Functions stops it (best effort).
    Document: Step Functions Developer Guide, "Run a job (.sync)".
    """
    attempt = Scope(current_scope().execution, parent=current_scope())
    with attempt.entered():
        in_this_scope = contextvars.copy_context().run
    pool = ThreadPoolExecutor(max_workers=1)
    future = pool.submit(in_this_scope, sfn._invoke_resource, resource, input_data)
    pool.shutdown(wait=False)
    try:
        return future.result(timeout)
    except FutureTimeoutError:
        attempt.stop()
        raise sfn._ExecutionError("States.Timeout", "") from None


@correction(sfn, "reset", "()")
def reset_stops_every_execution(stock: AnyFunction) -> None:
    """Stock: forgets the executions while they run on.

    Here: they end first. Document: none, this is not about AWS.
    """
    for scope in list(scopes.values()):
        scope.stop()
    stock()

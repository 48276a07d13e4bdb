"""AWS Step Functions: tasks that wait for a callback with a task token."""

import contextlib
import contextvars
import json
import threading
import time
from typing import Any

from ministack.core import iam_actions
from ministack.core.responses import error_response_json
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.corrections.scope import current_scope

_closed: set[str] = set()
"""Tokens that were answered, timed out or whose execution has ended."""

_machines: dict[str, str] = {}
"""The ARN of the state machine of each token, also of closed ones."""

_lock = threading.Lock()


@correction(sfn, "_invoke_with_callback", "(resource, input_data, token, state_def)")
def a_callback_task_can_fail(stock: AnyFunction, resource: str, input_data: Any, token: str, state_def: Any) -> Any:
    """Stock: waits for the callback also when the function it called has failed; ignores `HeartbeatSeconds`.

    AWS: the task fails with the function's error, with `States.HeartbeatTimeout` or with `States.Timeout`.
    Document: Step Functions Developer Guide, "Wait for a callback with task token".
    """
    answered = threading.Event()
    callback: dict[str, Any] = {"event": answered, "result": None, "error": None, "heartbeat": None}
    callback.update(submitted=False, refused=False)
    sfn._task_tokens[token] = callback
    if (execution := current_scope().execution) is not None:
        _machines[token] = execution["stateMachineArn"]
    call = threading.Thread(
        target=contextvars.copy_context().run,
        args=(_call, resource, input_data, callback),
        daemon=True,
    )
    call.start()
    try:
        error = _await_callback(callback, state_def)
    finally:
        with _lock:
            _closed.add(token)
            sfn._task_tokens.pop(token, None)
    if not callback["refused"]:
        _note_submission(resource, callback)
    if error is not None:
        raise error
    if failure := callback["error"]:
        raise sfn._ExecutionError(failure.get("Error", ""), failure.get("Cause", ""))
    return json.loads(callback["result"])


def _call(resource: str, input_data: Any, callback: dict[str, Any]) -> None:
    try:
        sfn._invoke_resource(resource.removesuffix(".waitForTaskToken"), input_data)
        _note_submission(resource, callback)
    except sfn._ExecutionError as error:
        with _lock:
            if not callback["event"].is_set():
                callback.update(error={"Error": error.error, "Cause": error.cause}, refused=True)
                callback["event"].set()


def _note_submission(resource: str, callback: dict[str, Any]) -> None:
    """Writes TaskSubmitted, once: the answer may come before the call that asked for it has returned."""
    execution = current_scope().execution
    with _lock:
        if not callback["submitted"] and execution is not None:
            callback["submitted"] = True
            sfn._add_event(execution, "TaskSubmitted", {"taskSubmittedEventDetails": {"resource": resource}})


def _await_callback(callback: dict[str, Any], state_def: Any) -> Exception | None:
    """Waits for the answer. Returns the time-out that came first instead, if one did."""
    started = time.monotonic()
    deadline = started + state_def.get("TimeoutSeconds", 99_999_999)
    heartbeat = state_def.get("HeartbeatSeconds")
    last_beat, seen = started, None
    while True:
        limit = min(deadline, last_beat + heartbeat) if heartbeat else deadline
        pause = limit - time.monotonic()
        # Heartbeats do not wake this wait: it looks for them when it would time out.
        if current_scope().wait_for(callback["event"], max(min(pause, threading.TIMEOUT_MAX), 0)):
            return None
        if heartbeat and callback["heartbeat"] != seen:
            seen = callback["heartbeat"]
            last_beat = seen
        elif time.monotonic() >= limit:
            name = "States.Timeout" if limit == deadline else "States.HeartbeatTimeout"
            error: Exception = sfn._ExecutionError(name, "")
            return error


def _closed_or_unknown(token: str) -> Any:
    if token in _closed:
        return error_response_json("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'", 400)
    return error_response_json("InvalidToken", "Invalid Token: 'Invalid token'", 400)


def _answer(stock: AnyFunction, data: dict[str, Any]) -> Any:
    with _lock:
        token = data.get("taskToken", "")
        if token in _closed or token not in sfn._task_tokens:
            return _closed_or_unknown(token)
        _closed.add(token)
        return stock(data)


@correction(sfn, "_send_task_success", "(data)")
def a_token_is_good_for_one_answer(stock: AnyFunction, data: dict[str, Any]) -> Any:
    """Stock: the token of a stopped execution is still accepted, so is a second answer; TaskDoesNotExist otherwise.

    AWS: TaskTimedOut for a task that was closed, InvalidToken, InvalidOutput.
    Document: Step Functions API Reference, "SendTaskSuccess".
    """
    try:
        json.loads(data.get("output", ""))
    except ValueError as error:
        return error_response_json("InvalidOutput", f"Invalid Task Output: '{error}'", 400)
    return _answer(stock, data)


@correction(sfn, "_send_task_failure", "(data)")
def a_token_is_good_for_one_failure(stock: AnyFunction, data: dict[str, Any]) -> Any:
    """Stock: as for SendTaskSuccess.

    AWS: TaskTimedOut for a task that was closed, InvalidToken.
    Document: Step Functions API Reference, "SendTaskFailure".
    """
    return _answer(stock, data)


@correction(sfn, "_send_task_heartbeat", "(data)")
def a_heartbeat_says_whether_the_task_waits(stock: AnyFunction, data: dict[str, Any]) -> Any:
    """Stock: TaskDoesNotExist for every token that is not known.

    AWS: TaskTimedOut for a task that was closed, InvalidToken.
    Document: Step Functions API Reference, "SendTaskHeartbeat".
    """
    token = data.get("taskToken", "")
    if token in _closed or token not in sfn._task_tokens:
        return _closed_or_unknown(token)
    answer = stock(data)
    sfn._task_tokens[token]["heartbeat"] = time.monotonic()
    return answer


@correction(
    iam_actions, "extract_resource_arn", "(service, method, path, headers, body, query_params, region, account_id)"
)
def a_token_is_of_a_state_machine(
    stock: AnyFunction, service: str, method: str, path: str, headers: Any, body: bytes, *rest: Any
) -> Any:
    """Stock: a request with a task token is checked against the resource `*`, so a policy that names the state machine
    denies it.

    AWS: against the state machine whose task it is.
    Document: CDK API Reference, "StateMachine.grantTaskResponse", and github.com/aws/aws-cdk pull request 8486, where
    this was tried out. (That of an activity's task is the activity, which is left as it is.)
    """
    if service == "states":
        with contextlib.suppress(ValueError, AttributeError):
            machine = _machines.get(json.loads(body).get("taskToken"))
            if machine is not None:
                return machine
    return stock(service, method, path, headers, body, *rest)

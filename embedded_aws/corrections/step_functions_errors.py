"""AWS Step Functions: names of errors, what Retry and Catch match, and how long a retry waits."""

import json
import random
from contextvars import ContextVar
from typing import Any

from ministack.core.responses import new_uuid
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.payloads import check_input, check_result
from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.corrections.scope import current_scope

_TERMINAL = {"States.Runtime", "States.DataLimitExceeded"}

_context: ContextVar[Any] = ContextVar("context")


@correction(sfn, "_error_matches", "(error_equals, error)")
def terminal_errors_are_not_caught(stock: AnyFunction, error_equals: list[str], error: str) -> bool:
    """Stock: `States.ALL` and `States.TaskFailed` match every error.

    AWS: `States.Runtime` and `States.DataLimitExceeded` always end the execution.
    Document: Step Functions Developer Guide, "Handling errors in Step Functions workflows".
    """
    return error not in _TERMINAL and stock(error_equals, error)


@correction(sfn, "_execute_task", "(state_def, raw_input, execution, ctx)")
def times_may_be_given_by_paths(stock: AnyFunction, state_def: Any, raw_input: Any, execution: Any, ctx: Any) -> Any:
    """Stock: ignores `TimeoutSecondsPath` and `HeartbeatSecondsPath`.

    AWS: the number they lead to.
    Document: Step Functions Developer Guide, "Task workflow state".
    """
    times = {}
    for field in ("TimeoutSeconds", "HeartbeatSeconds"):
        if path := state_def.get(f"{field}Path"):
            times[field] = sfn._resolve_path_or_ctx(path, raw_input, ctx)
    _context.set(ctx)
    return stock({**state_def, **times}, raw_input, execution, ctx)


@correction(sfn, "_find_matching_retrier", "(retriers, error, retry_counts)")
def a_retry_waits_as_it_says(stock: AnyFunction, retriers: Any, error: str, retry_counts: Any) -> Any:
    """Stock: no pause is longer than 60 s; ignores `MaxDelaySeconds` and `JitterStrategy`; keeps the task token.

    AWS: interval times rate to the power of the retries so far, at most `MaxDelaySeconds`, a random part of it
    with `FULL` jitter; each attempt has a token of its own.
    Document: Step Functions Developer Guide, "Handling errors in Step Functions workflows".
    """
    retrier, index = stock(retriers, error, retry_counts)
    if retrier is None:
        return retrier, index
    delay = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** retry_counts.get(index, 0)
    delay = min(delay, retrier.get("MaxDelaySeconds", delay))
    if retrier.get("JitterStrategy") == "FULL":
        delay = random.uniform(0, delay)
    sfn._scaled_sleep(delay)
    if "Task" in _context.get({}):
        _context.get()["Task"] = {"Token": new_uuid()}
    return {**retrier, "IntervalSeconds": 0}, index


@correction(sfn, "_invoke_resource", "(resource, input_data)")
def payloads_have_a_limit(stock: AnyFunction, resource: str, input_data: Any) -> Any:
    """Stock: inputs and results of any size.

    AWS: `States.DataLimitExceeded` above 256 KiB, for the input of a task after `Parameters`, for its result, and for
    the output of any state.
    Document: Step Functions Developer Guide, "Handling errors in Step Functions workflows" and "Step Functions service
    quotas".
    """
    check_input(resource, input_data)
    result = stock(resource, input_data)
    check_result(resource, result)
    return result


@correction(sfn, "_invoke_dynamodb", "(op_name, input_data)")
def a_validation_error_has_the_general_name(stock: AnyFunction, op_name: str, input_data: Any) -> Any:
    """Stock: `DynamoDB.ValidationException`.

    AWS: the optimized integration reports it as `DynamoDB.AmazonDynamoDBException`.
    Document: the sample "app-control-concurrency-with-dynamodb" in github.com/aws-samples/aws-stepfunctions-examples,
    which depends on that name.
    """
    try:
        return stock(op_name, input_data)
    except sfn._ExecutionError as error:
        if error.error == "DynamoDB.ValidationException":
            error.error = "DynamoDB.AmazonDynamoDBException"
        raise


@correction(sfn, "_call_lambda", "(func_ref, event)")
def a_throttled_function_has_a_name(stock: AnyFunction, func_ref: str, event: Any) -> Any:
    """Stock: `Lambda.Unknown`.

    AWS: `Lambda.TooManyRequestsException`.
    Document: Step Functions Developer Guide, "Handle errors in Step Functions: Lambda service exceptions".
    """
    try:
        return stock(func_ref, event)
    except sfn._ExecutionError as error:
        body = json.loads(error.cause) if error.cause.startswith("{") else {}
        if service_error := body.get("__type"):
            raise sfn._ExecutionError(f"Lambda.{service_error}", body.get("message", "")) from error
        raise


@correction(sfn, "_invoke_nested_start_execution_sync", "(resource, input_data)")
def a_failing_child_fails_the_task(stock: AnyFunction, resource: str, input_data: Any) -> Any:
    """Stock: the error of the child becomes the error of the parent's task; no TaskSubmitted.

    AWS: `States.TaskFailed` with the description of the child as its cause.
    Document: Step Functions Developer Guide, "Start workflow executions from a task state".
    """
    if execution := current_scope().execution:
        sfn._add_event(execution, "TaskSubmitted", {"taskSubmittedEventDetails": {"resource": resource}})
    try:
        return stock(resource, input_data)
    except sfn._ExecutionError as error:
        if error.error.endswith(("DoesNotExist", "AlreadyExists", "ValidationException")):
            raise sfn._ExecutionError(f"StepFunctions.{error.error}Exception", error.cause) from error
        cause = json.dumps({"Cause": error.cause, "Error": error.error, "Status": "FAILED"}, separators=(",", ":"))
        raise sfn._ExecutionError("States.TaskFailed", cause) from error

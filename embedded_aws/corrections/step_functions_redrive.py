"""AWS Step Functions: RedriveExecution, and what the lists and descriptions of executions tell."""

import contextvars
import json
import threading
import time
from typing import Any

from ministack.core.responses import error_response_json, json_response, now_iso
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.corrections.scope import scopes
from embedded_aws.corrections.step_functions_history import redrive_of

_TOKENS_VALID = 15 * 60.0
"""Seconds; Step Functions API Reference, "RedriveExecution"."""

_DEFAULT_PAGE = 100

_lock = threading.Lock()


@correction(sfn, "handle_request", "(method, path, headers, body, query_params)")
async def an_execution_can_be_redriven(
    stock: AnyFunction, method: str, path: str, headers: Any, body: Any, query_params: Any
) -> Any:
    """Stock: there is no RedriveExecution.

    AWS: an execution that failed, timed out or was aborted goes on at the state that did not succeed, with the input
    of that state and the definition it was started with. Of a Parallel or an inline Map only the branches and
    iterations that did not succeed run again; retries and time-outs begin anew. A Fail state fails again. The other
    executions are ExecutionNotRedrivable; the same client token gives the same answer for 15 minutes.
    Document: Step Functions Developer Guide, "Restarting state machine executions with redrive in Step Functions"; API
    Reference, "RedriveExecution". (Not here: the limits of 14 days and 24,999 events.)
    """
    if headers.get("x-amz-target", "").endswith(".RedriveExecution"):
        return sfn._finalize_response(_redrive(json.loads(body)))
    return await stock(method, path, headers, body, query_params)


def _redrive(data: dict[str, Any]) -> Any:
    arn, token = data.get("executionArn", ""), data.get("clientToken")
    execution = sfn._executions.get(arn)
    if execution is None:
        return error_response_json("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'", 400)
    with _lock:
        tokens = execution.setdefault("redriveTokens", {})
        date, used = tokens.get(token, (None, 0.0))
        if date and time.monotonic() - used < _TOKENS_VALID:
            return json_response({"redriveDate": date})
        if "redriveStatusReason" in (redrive := redrive_of(execution)):
            return error_response_json("ExecutionNotRedrivable", redrive["redriveStatusReason"], 400)
        if "definition" not in execution:
            # A child of a distributed Map is redriven together with its parent.
            return error_response_json("ExecutionNotRedrivable", "The execution is part of a Map Run", 400)
        date, count = now_iso(), redrive["redriveCount"] + 1
        if token:
            tokens[token] = date, time.monotonic()
        scopes.pop(arn, None)  # What is left of the attempt before ends without a word.
        _prepare(execution, date, count)
    sfn._add_event(execution, "ExecutionRedriven", {"executionRedrivenEventDetails": {"redriveCount": count}})
    sfn._emit_execution_status_event(execution)
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(sfn._run_execution, arn), daemon=True).start()
    return json_response({"redriveDate": date})


def _prepare(execution: Any, date: str, count: int) -> None:
    if progress := execution.get("progress"):  # It may have been stopped before it came to its first state.
        if execution.get("error") == "States.DataLimitExceeded":
            progress.forget_parts()  # AWS runs all branches and iterations again.
        else:
            progress.redrive()
        execution["context"]["Execution"].update(RedriveCount=count, RedriveTime=date)
    for field in ("error", "cause"):
        execution.pop(field, None)
    execution.update(status="RUNNING", stopDate=None, output=None, redriveCount=count, redriveDate=date)


@correction(sfn, "_describe_execution", "(data)")
def an_execution_tells_of_its_redrives(stock: AnyFunction, data: dict[str, Any]) -> Any:
    """Stock: no `redriveCount`, `redriveDate`, `redriveStatus` and `redriveStatusReason`; a failed execution has an
    output.

    AWS: these fields; an output only if the execution succeeded.
    Document: Step Functions API Reference, "DescribeExecution".
    """
    status, headers, body = stock(data)
    if status != 200:
        return status, headers, body
    execution = sfn._executions[data["executionArn"]]
    answer = {**json.loads(body), **redrive_of(execution)}
    if answer["status"] != "SUCCEEDED":
        answer["output"] = None
    return json_response(answer)


@correction(sfn, "_list_executions", "(data)")
def a_list_tells_of_redrives(stock: AnyFunction, data: dict[str, Any]) -> Any:
    """Stock: pages of 1,000 where no size is asked for; no `redriveCount` and `redriveDate`.

    AWS: pages of 100; these fields.
    Document: Step Functions API Reference, "ListExecutions".
    """
    status, headers, body = stock({**data, "maxResults": data.get("maxResults") or _DEFAULT_PAGE})
    if status != 200:
        return status, headers, body
    answer = json.loads(body)
    for item in answer["executions"]:
        execution = sfn._executions[item["executionArn"]]
        item.update(redriveCount=execution.get("redriveCount", 0), redriveDate=execution.get("redriveDate"))
    return json_response(answer)


@correction(sfn, "_execution_sort_key", "(execution)")
def a_redrive_makes_an_execution_recent(stock: AnyFunction, execution: Any) -> Any:
    """Stock: a list puts a running execution where it was started.

    AWS: where it was started or redriven.
    Document: Step Functions API Reference, "ListExecutions".
    """
    moment, arn = stock(execution)
    if not execution["stopDate"] and (listed := sfn._executions.get(arn)):
        moment = listed.get("redriveDate") or moment
    return moment, arn

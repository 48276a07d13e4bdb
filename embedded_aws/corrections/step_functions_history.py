"""AWS Step Functions: the execution history, and the events about the status of executions."""

import json
import threading
from typing import Any

from ministack.services import eventbridge
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.corrections.scope import StoppedError, current_scope

_lock = threading.Lock()


def redrive_of(execution: Any) -> dict[str, Any]:
    """What DescribeExecution and the events tell about redrives."""
    status = execution["status"]
    redrive = {"redriveCount": execution.get("redriveCount", 0), "redriveDate": execution.get("redriveDate")}
    if status in ("FAILED", "ABORTED", "TIMED_OUT"):
        return {**redrive, "redriveStatus": "REDRIVABLE"}
    reason = f"Execution is {status} and cannot be redriven"
    return {**redrive, "redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": reason}


@correction(sfn, "_add_event", "(execution, event_type, details)")
def nothing_happens_after_the_end(stock: AnyFunction, execution: Any, event_type: str, details: Any = None) -> Any:
    """Stock: an execution that was stopped goes on and writes history; no TaskStarted; resources are whole ARNs.

    AWS: the end is the last event; TaskStarted follows TaskScheduled; a task that ran out of time has
    TaskTimedOut; `resourceType` and `resource` name the service and the action.
    Document: Step Functions API Reference, "HistoryEvent".
    """
    if not event_type.startswith("Execution"):
        if execution["status"] != "RUNNING":
            raise StoppedError
        current_scope().check()
    details = _with_short_resource(details or {})
    if event_type == "TaskFailed" and details["taskFailedEventDetails"]["error"] == "States.Timeout":
        event_type, details = "TaskTimedOut", {"taskTimedOutEventDetails": details["taskFailedEventDetails"]}
    with _lock:
        event = stock(execution, event_type, details)
        if event_type == "TaskScheduled":
            stock(execution, "TaskStarted", {"taskStartedEventDetails": details["taskScheduledEventDetails"]})
    return event


def _with_short_resource(details: dict[str, Any]) -> dict[str, Any]:
    short = {}
    for key, value in details.items():
        service, _, action = str(value.get("resource", "")).rpartition(":")
        if service.startswith("arn:aws:states:::"):
            value = {**value, "resourceType": service.removeprefix("arn:aws:states:::"), "resource": action}
        short[key] = value
    return short


@correction(sfn, "_emit_execution_status_event", "(execution)")
def every_end_is_an_event(stock: AnyFunction, execution: Any) -> None:
    """Stock: error and cause only for FAILED, which alone may be redriven.

    AWS: error and cause where the execution has them; FAILED, ABORTED and TIMED_OUT may be redriven.
    Document: Step Functions Developer Guide, "Automating event delivery with EventBridge".
    """
    if execution.get("sync"):
        return  # Stock says nothing about the children of `startExecution.sync`; the parent waits for them.
    status = execution["status"]
    redrive = redrive_of(execution)
    detail = {
        "executionArn": execution["executionArn"],
        "stateMachineArn": execution["stateMachineArn"],
        "name": execution["name"],
        "status": status,
        "startDate": sfn._iso_to_epoch_ms(execution["startDate"]),
        "stopDate": sfn._iso_to_epoch_ms(execution["stopDate"]),
        **_payload("input", execution["input"]),
        **_payload("output", execution["output"] if status == "SUCCEEDED" else None),
        "stateMachineVersionArn": None,
        "stateMachineAliasArn": None,
        "redriveStatusReason": None,
        **redrive,
        "redriveDate": sfn._iso_to_epoch_ms(redrive["redriveDate"]),
        "error": execution.get("error"),
        "cause": execution.get("cause"),
    }
    entry = {
        "Source": "aws.states",
        "DetailType": "Step Functions Execution Status Change",
        "Detail": json.dumps(detail),
        "Resources": [execution["executionArn"]],
    }
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def _payload(name: str, text: str | None) -> dict[str, Any]:
    """A payload above 248 KiB is left out of the event."""
    included = text is not None and len(text) <= sfn._STATUS_EVENT_PAYLOAD_CAP
    return {
        name: text if included else None,
        f"{name}Details": None if text is None else {"included": included},
    }

"""AWS Step Functions: the optimized integration `ecs:runTask`, with and without `.sync`."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ministack.services import ecs
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.ecs import fault_of_this_launch
from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.corrections.scope import StoppedError, current_scope
from embedded_aws.launches import LaunchFault
from embedded_aws.settings import STATE

LONGEST_CAUSE = 32_768
"""Characters of a cause; Step Functions API Reference, "TaskFailedEventDetails"."""

_POLL = 0.05


@correction(sfn, "_invoke_ecs_run_task", "(resource, input_data)")
def run_task_reports_as_aws_does(stock: AnyFunction, resource: str, input_data: Any) -> Any:
    """Stock: camelCase lists of tasks and failures, `ECS.RunTaskFailed` for every error, success whatever happened.

    AWS: the task itself in PascalCase; errors by name; failures are `AmazonECS.Unknown`; a task with a container
    that did not end with 0 is `States.TaskFailed` with the task as its cause. The task stops with its execution.
    Document: Step Functions Developer Guide, "Run Amazon ECS or Fargate tasks with Step Functions".
    """
    request = {"startedBy": "AWS Step Functions", **sfn._pascal_to_camel(input_data)}
    answer = _run_task(request, must_start=not resource.endswith(":runTask"))
    if not resource.endswith(".sync"):
        return _pascal(answer)
    execution = current_scope().execution
    if execution is not None:
        sfn._add_event(execution, "TaskSubmitted", {"taskSubmittedEventDetails": {"resource": resource}})
    arn = answer["tasks"][0]["taskArn"]
    task = ecs._tasks[arn]
    try:
        while task["lastStatus"] != "STOPPED":
            current_scope().sleep(_POLL)
    except StoppedError:
        ecs._stop_task({"cluster": task["clusterArn"], "task": arn, "reason": "Stopped by AWS Step Functions"})
        raise
    description = _pascal(_description(task))
    if _failed(task):
        cause = json.dumps(description, sort_keys=True, separators=(",", ":"))
        raise sfn._ExecutionError("States.TaskFailed", cause[:LONGEST_CAUSE])
    return description


def _run_task(request: dict[str, Any], *, must_start: bool) -> Any:
    family = ecs._resolve_td_key(request.get("taskDefinition", "")).rsplit(":", 1)[0]
    fault = STATE.launches.next_fault(family)
    execution = (current_scope().execution or {}).get("executionArn", "")
    try:
        answer = _call_run_task(request, fault)
        if must_start and answer["failures"]:
            reasons = "; ".join(failure.get("reason", "") for failure in answer["failures"])
            raise sfn._ExecutionError("AmazonECS.Unknown", reasons)
    except sfn._ExecutionError as refusal:
        STATE.launches.record(family, request, execution, fault, error=refusal.error)
        raise
    task = answer["tasks"][0]["taskArn"] if answer["tasks"] else None
    STATE.launches.record(family, request, execution, fault, task=task)
    return answer


def _call_run_task(request: dict[str, Any], fault: LaunchFault | None) -> Any:
    if fault is not None and fault.shape == "no_capacity":
        return {"failures": [{"reason": fault.cause}], "tasks": []}
    if fault is not None and fault.shape != "stopped":
        raise sfn._ExecutionError(fault.error, fault.cause)
    token = fault_of_this_launch.set(fault)
    try:
        status, _, body = ecs._run_task(request)
    finally:
        fault_of_this_launch.reset(token)
    answer = json.loads(body)
    if status >= 400:
        name = answer.get("__type", "AmazonECSException").rsplit("#", 1)[-1]
        raise sfn._ExecutionError(f"ECS.{name}", answer.get("message", ""))
    return answer


def _description(task: Mapping[str, Any]) -> dict[str, Any]:
    """The task as DescribeTasks gives it; there is no container instance on Fargate."""
    fields: dict[str, Any] = ecs._sanitize(task)
    return {name: value for name, value in fields.items() if name != "containerInstanceArn"}


def _failed(task: Mapping[str, Any]) -> bool:
    return task["stopCode"] != "EssentialContainerExited" or any(
        container.get("exitCode") != 0 for container in task["containers"]
    )


def _pascal(value: Any) -> Any:
    """The spelling of Step Functions: PascalCase keys in alphabetical order, times in milliseconds."""
    if isinstance(value, list):
        return [_pascal(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key[:1].upper() + key[1:]: _milliseconds(key, _pascal(value[key])) for key in sorted(value)}


def _milliseconds(key: str, value: Any) -> Any:
    if key.endswith("At") and isinstance(value, str):
        return int(datetime.fromisoformat(value).timestamp() * 1000)
    return value

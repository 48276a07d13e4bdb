"""Amazon ECS: tasks that really run, fail and stop.

Stock MiniStack hands a Docker client from RunTask to a worker thread. The corrections hand over a launch of their own
in its place, so that one supervisor runs every task, as local processes or as containers.
"""

import contextvars
from dataclasses import dataclass
from typing import Any

from ministack.core.responses import error_response_json, json_response, request_scope
from ministack.services import ecs

from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.launches import LaunchFault
from embedded_aws.settings import STATE
from embedded_aws.tasks import Tasks

TASKS = Tasks(STATE)

fault_of_this_launch: contextvars.ContextVar[LaunchFault | None] = contextvars.ContextVar("fault", default=None)
"""Set around RunTask by the Step Functions integration."""


@dataclass(frozen=True)
class _Launch:
    fault: LaunchFault | None


@correction(ecs, "_get_docker", "()")
def every_task_runs(stock: AnyFunction) -> Any:
    """Stock: without a Docker engine a task stays RUNNING until StopTask.

    AWS: a task runs its containers and stops with them.
    Document: Amazon ECS Developer Guide, "Amazon ECS task lifecycle".
    """
    return _Launch(fault_of_this_launch.get())


@correction(ecs, "_run_task_worker", "(task, td, container_overrides, docker_client, account_id, region)")
def containers_run_side_by_side(
    stock: AnyFunction,
    task: Any,
    td: Any,
    container_overrides: Any,
    docker_client: _Launch,
    account_id: str,
    region: str,
) -> None:
    """Stock: with a Docker engine it runs containers without `entryPoint`, `stopTimeout` or exit codes of signals.

    AWS: containers run side by side, an essential one ends the task, start failures have reasons of their own.
    Document: Amazon ECS Developer Guide, "Task definition parameters for Fargate" and "Stopped task error codes".
    """
    with request_scope(account_id, region):
        TASKS.run(task, td, container_overrides, docker_client.fault)


@correction(ecs, "_run_task", "(data)")
def run_task_checks_its_request(stock: AnyFunction, data: dict[str, Any]) -> Any:
    """Stock: creates a cluster that does not exist; an awsvpc task needs no network configuration.

    AWS: ClusterNotFoundException, InvalidParameterException.
    Document: Amazon ECS API Reference, "RunTask".
    """
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    if cluster not in ecs._clusters:
        return error_response_json("ClusterNotFoundException", "Cluster not found.", 400)
    definition = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition", "")))
    if (
        definition
        and definition.get("networkMode") == "awsvpc"
        and "awsvpcConfiguration" not in data.get("networkConfiguration", {})
    ):
        return error_response_json(
            "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
            400,
        )
    if definition and not data.get("group"):
        data = {**data, "group": f"family:{definition['family']}"}
    return stock(data)


@correction(ecs, "_stop_task", "(data)")
def stop_task_takes_its_time(stock: AnyFunction, data: dict[str, Any]) -> Any:
    """Stock: the task is STOPPED at once, with exit code 0.

    AWS: SIGTERM, then SIGKILL after `stopTimeout`; the exit codes are the containers' own (143, 137).
    Document: Amazon ECS API Reference, "StopTask".
    """
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    task = ecs._resolve_task(data.get("task", ""), cluster)
    if task is None or task["lastStatus"] == "STOPPED":
        return stock(data)
    reason = data.get("reason", "Task stopped by user")
    task.update(desiredStatus="STOPPED", stopCode="UserInitiated", stoppedReason=reason)
    TASKS.stop(task["taskArn"], reason, "UserInitiated")
    return json_response({"task": ecs._sanitize(task)})


@correction(ecs, "reset", "()")
def reset_stops_every_task(stock: AnyFunction) -> None:
    """Stock: looks for its own containers.

    Here: the tasks, the faults and the records of launches and requests are this package's own. Document: none, this
    is not about AWS.
    """
    TASKS.stop_all()
    STATE.launches.clear()
    STATE.requests.clear()
    stock()

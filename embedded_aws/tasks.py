"""Runs the containers of ECS tasks the way the container agent of Fargate does.

Containers run side by side. The task stops when an essential one has ended, when all have ended, or when StopTask
is called; what still runs then gets SIGTERM and, `stopTimeout` seconds later, SIGKILL. See "Amazon ECS task
lifecycle" and the parameters `essential` and `stopTimeout` of "Amazon ECS task definition parameters for Fargate".
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import ecs

from embedded_aws.containers import CannotStartError, ContainerRuntime, ContainerSpec, RunningContainer
from embedded_aws.launches import LaunchFault
from embedded_aws.settings import ServerState

_LOG_FLUSH = 5.0
"""Seconds the last lines of a container that has ended may take to arrive in its log stream."""


@dataclass(frozen=True)
class _Ended:
    index: int
    exit_code: int


@dataclass(frozen=True)
class _StopCall:
    reason: str
    stop_code: str


class TaskRun:
    """One task: starts its containers and sees it through to STOPPED."""

    def __init__(
        self,
        task: dict[str, Any],
        definition: Mapping[str, Any],
        overrides: list[dict[str, Any]],
        runtime: ContainerRuntime,
        stop_timeout: float,
    ) -> None:
        self._task = task
        self._definitions: list[dict[str, Any]] = definition["containerDefinitions"]
        self._definition = definition
        self._overrides = overrides
        self._runtime = runtime
        self._stop_timeout = stop_timeout
        self._events: queue.Queue[_Ended | _StopCall] = queue.Queue()
        self._containers: dict[int, RunningContainer] = {}
        self._running: set[int] = set()

    @property
    def arn(self) -> str:
        return str(self._task["taskArn"])

    def stop(self, reason: str, stop_code: str) -> None:
        """Asks the task to stop. Returns at once."""
        self._events.put(_StopCall(reason, stop_code))

    def run(self) -> None:
        """Runs the task to its end."""
        ecs._mark_task_pending(self.arn, self._task)
        ecs._mark_task_activating(self.arn, self._task)
        try:
            for index, definition in enumerate(self._definitions):
                self._start(index, definition)
        except CannotStartError as error:
            self._stop_containers()
            self._stopped(str(error), "TaskFailedToStart")
        else:
            ecs._mark_task_running(self.arn, self._task)
            end = self._wait_for_end()
            self._stop_containers()
            self._stopped(end.reason, end.stop_code)
        finally:
            for container in self._containers.values():
                container.remove()

    def run_fault(self, fault: LaunchFault) -> None:
        """Goes through the states of a task that ends as `fault` says, without running anything."""
        ecs._mark_task_pending(self.arn, self._task)
        if fault.stop_code != "TaskFailedToStart":
            ecs._mark_task_activating(self.arn, self._task)
            ecs._mark_task_running(self.arn, self._task)
        end = _StopCall(fault.stopped_reason, fault.stop_code)
        try:
            call = self._events.get(timeout=fault.after)
            end = call if isinstance(call, _StopCall) else end
        except queue.Empty:
            for container in self._task["containers"]:
                container["exitCode"] = fault.exit_codes.get(container["name"])
                container["reason"] = fault.reasons.get(container["name"])
        self._stopped(end.reason, end.stop_code)

    def _start(self, index: int, definition: dict[str, Any]) -> None:
        override = ecs._container_override_for(self._overrides, definition["name"])
        try:
            environment = self._environment(definition, override)
        except ecs._SecretResolutionError as error:
            raise CannotStartError(
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource "
                f"retrieval failed: {error}"
            ) from error
        log = self._log(definition)
        container = self._runtime.start(
            ContainerSpec(
                name=definition["name"],
                image=definition["image"],
                entry_point=definition.get("entryPoint") or [],
                command=override.get("command") or definition.get("command") or [],
                environment=environment,
                working_directory=definition.get("workingDirectory"),
                user=definition.get("user"),
            )
        )
        self._containers[index] = container
        self._running.add(index)
        self._task["containers"][index]["lastStatus"] = "RUNNING"
        self._thread(self._watch, index, container, log)

    def _environment(self, definition: dict[str, Any], override: dict[str, Any]) -> dict[str, str]:
        account, region = ecs.get_account_id(), ecs.get_region()
        environment = {
            "AWS_ACCESS_KEY_ID": account,
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        }
        # Adds the task metadata endpoint, the credentials endpoint and AWS_ENDPOINT_URL. Host mode makes
        # them loopback addresses, which both kinds of containers reach.
        token = ecs._register_metadata(
            self.arn,
            self._task["clusterArn"],
            self._definition,
            definition,
            self._task.get("launchType", "FARGATE"),
            environment,
            True,
            None,
        )
        self._task.setdefault("_metadata_tokens", []).append(token)
        environment.update({each["name"]: each["value"] for each in definition.get("environment", [])})
        environment.update(ecs._resolve_container_secrets(definition))
        environment.update({each["name"]: each["value"] for each in override.get("environment", [])})
        return environment

    def _log(self, definition: dict[str, Any]) -> Callable[[str], None]:
        task_id = self.arn.rsplit("/", 1)[-1]
        log = ecs._awslogs_config(definition, task_id, task_id)
        if log is None:
            return lambda line: None
        if not ecs._ensure_awslogs_stream(log):
            raise CannotStartError(
                "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 "
                "times: failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log "
                "group does not exist. : exit status 1"
            )

        def write(line: str) -> None:
            # CloudWatch Logs takes no empty messages.
            if line:
                ecs._emit_awslogs_event(log, line)

        return write

    def _watch(self, index: int, container: RunningContainer, log: Callable[[str], None]) -> None:
        def forward() -> None:
            for line in container.lines():
                log(line)

        forwarder = self._thread(forward)
        exit_code = container.wait()
        forwarder.join(_LOG_FLUSH)
        self._events.put(_Ended(index, exit_code))

    def _wait_for_end(self) -> _StopCall:
        while True:
            event = self._events.get()
            if isinstance(event, _StopCall):
                return event
            self._note_end(event)
            if self._definitions[event.index].get("essential", True) or not self._running:
                return _StopCall("Essential container in task exited", "EssentialContainerExited")

    def _stop_containers(self) -> None:
        for index in self._running:
            self._containers[index].terminate()
        started = time.monotonic()
        killed: set[int] = set()
        while self._running:
            kill_at = {index: started + self._stop_timeout_of(index) for index in self._running - killed}
            for index in [index for index, moment in kill_at.items() if moment <= time.monotonic()]:
                self._containers[index].kill()
                killed.add(index)
                del kill_at[index]
            try:
                pause = min(kill_at.values()) - time.monotonic() if kill_at else None
                event = self._events.get(timeout=pause if pause is None else max(pause, 0))
            except queue.Empty:
                continue
            if isinstance(event, _Ended):
                self._note_end(event)

    def _stop_timeout_of(self, index: int) -> float:
        return float(self._definitions[index].get("stopTimeout") or self._stop_timeout)

    def _note_end(self, event: _Ended) -> None:
        self._running.discard(event.index)
        self._task["containers"][event.index].update(lastStatus="STOPPED", exitCode=event.exit_code)

    def _stopped(self, reason: str, stop_code: str) -> None:
        # StopTask has already asked for the end; MiniStack takes such a task for one that has ended.
        self._task["desiredStatus"] = "RUNNING"
        ecs._mark_task_stopped(self.arn, self._task, reason, stop_code)

    def _thread(self, function: Callable[..., None], *arguments: Any) -> threading.Thread:
        account, region = ecs.get_account_id(), ecs.get_region()

        def scoped() -> None:
            with request_scope(account, region):
                function(*arguments)

        thread = threading.Thread(target=scoped, daemon=True)
        thread.start()
        return thread


class Tasks:
    """All tasks of the server that have not stopped yet."""

    def __init__(self, settings: ServerState) -> None:
        self._settings = settings
        self._runs: dict[str, TaskRun] = {}

    def run(
        self,
        task: dict[str, Any],
        definition: Mapping[str, Any],
        overrides: list[dict[str, Any]],
        fault: LaunchFault | None,
    ) -> None:
        """Runs a task to its end, or acts out `fault`."""
        run = TaskRun(task, definition, overrides, self._settings.runtime, self._settings.stop_timeout)
        self._runs[run.arn] = run
        if task["desiredStatus"] == "STOPPED":  # StopTask came before this thread did.
            run.stop(task["stoppedReason"], task["stopCode"])
        try:
            if fault is None:
                run.run()
            else:
                run.run_fault(fault)
        finally:
            del self._runs[run.arn]

    def stop(self, arn: str, reason: str, stop_code: str) -> None:
        """Asks a task to stop. Does nothing to one that has stopped."""
        if run := self._runs.get(arn):
            run.stop(reason, stop_code)

    def stop_all(self) -> None:
        for arn in list(self._runs):
            self.stop(arn, "The server is being reset", "UserInitiated")

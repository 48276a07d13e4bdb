"""The scheduled Fargate task: what it does when all goes well, and when something does not."""

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from demo.mailbox import Alert, Mailbox
from demo.play import Facts, Record, Scenario
from demo.processes import count_processes
from demo.runs import Run, StateMachine, is_ours
from demo.stage import Stage
from demo.waiting import eventually
from embedded_aws import Launch, LaunchFault

_STACK = "ScheduledExample"
_SCHEDULE_FIRES_WITHIN = 120.0  # seconds; it is a minute, and the emulator looks every few seconds

_RUN_ENDS_WITHIN = 60.0  # seconds, beyond the time that the task itself may take

_THROTTLED = LaunchFault.api_error("ECS.InvalidParameterException", "Rate exceeded (Service: AmazonECS; Status: 400)")
_NO_IMAGE = LaunchFault.never_started("CannotPullContainerError: pull image manifest has been retried 5 time(s)")


def scenarios(stage: Stage) -> Sequence[Scenario]:
    """The scenarios of this part."""
    job = _Job(stage)
    material = stage.material
    whole: Facts = {"files": material.inventory.files, "sha256": material.inventory.sha256}
    other: Facts = {"files": material.other_inventory.files, "sha256": material.other_inventory.sha256}
    return [
        Scenario(
            "scheduled/succeeds",
            {"execution": "SUCCEEDED", "launches": 1, **whole},
            job.succeeds,
        ),
        # Before the schedule comes round for the first time, or the rule's own run would meet these faults.
        Scenario(
            "scheduled/never started",
            {
                "execution": "FAILED",
                "error": "States.TaskFailed",
                # Three more after the first: the default budget of LaunchRetry.
                "launches": 4,
                "alert": "never started: image",
                "log in the alert": "The work never started, so there is no log.",
            },
            job.never_started,
            alone=True,
        ),
        Scenario(
            "scheduled/recovers after two refusals for lack of capacity",
            {
                "execution": "SUCCEEDED",
                "launches": 3,
                "refusals": "AmazonECS.Unknown, AmazonECS.Unknown",
                "counted": "noCapacity 2",
                **whole,
            },
            partial(job.recovers, "no capacity, twice", [LaunchFault.no_capacity(), LaunchFault.no_capacity()]),
            alone=True,
        ),
        Scenario(
            "scheduled/recovers from throttling hidden in ECS.InvalidParameterException",
            {
                "execution": "SUCCEEDED",
                "launches": 2,
                "refusals": "ECS.InvalidParameterException",
                "counted": "throttled 1",
                **whole,
            },
            partial(job.recovers, "throttled", [_THROTTLED]),
            alone=True,
        ),
        Scenario(
            "scheduled/command from the input",
            {"execution": "SUCCEEDED", "command": json.dumps([str(material.other), "0.01"]), **other},
            job.command_from_the_input,
        ),
        Scenario(
            "scheduled/application exits 3",
            {
                "execution": "FAILED",
                "error": "States.TaskFailed",
                "launches": 1,
                "exit code of the container": 3,
                "alert": "application",
                "exit code in the alert": "3",
                "log in the alert": f"nothing to read in {material.empty}",
            },
            job.application_exits_3,
        ),
        Scenario(
            "scheduled/times out",
            {
                "execution": "FAILED",
                "error": "States.Timeout",
                "launches": 1,
                "processes while it runs": 1,
                "processes afterwards": 0,
                "task": "STOPPED",
                "alert": "timed out",
            },
            job.times_out,
        ),
        Scenario(
            "scheduled/fires by itself",
            {
                "execution": "SUCCEEDED",
                "input": json.dumps({"commands": [str(material.folder)]}),
                "launches": 1,
                **whole,
            },
            job.fires_by_itself,
        ),
    ]


class _Job:
    """The deployed example, and everything that can be seen of it from outside."""

    def __init__(self, stage: Stage) -> None:
        stack = stage.stack(_STACK)
        self._aws = stage.aws
        self._timeout_seconds = stage.timeout_seconds
        self._material = stage.material
        self._machine = StateMachine(stage.aws, stack.output("StateMachineArn"))
        self._definition = self._machine.definition
        self._mailbox = Mailbox(stage.aws, stack.output("AlertTopicArn"))
        self._cluster = stack.physical_id("AWS::ECS::Cluster")
        task_definition = stack.physical_id("AWS::ECS::TaskDefinition")
        self._family = task_definition.rsplit("/", 1)[-1].split(":")[0]
        self._ecs: Any = stage.aws.client("ecs")
        self._logs: Any = stage.aws.client("logs")
        described = self._ecs.describe_task_definition(taskDefinition=task_definition)["taskDefinition"]
        [self._container] = described["containerDefinitions"]

    # --- scenarios --------------------------------------------------------------------------------------

    def succeeds(self, record: Record) -> Facts:
        run = self._run(record, "succeeds", [str(self._material.folder)])
        return {"execution": run.status, "launches": len(self._launches(run)), **self._result(run)}

    def recovers(self, label: str, faults: Sequence[LaunchFault], record: Record) -> Facts:
        self._aws.refuse_launches(self._family, faults)
        run = self._run(record, label, [str(self._material.folder)])
        launches = self._launches(run)
        counters = {name: count for name, count in run.output.get("launch", {}).items() if name != "pause"}
        return {
            "execution": run.status,
            "launches": len(launches),
            "refusals": ", ".join(launch.error for launch in launches if launch.error),
            "counted": ", ".join(f"{name} {count}" for name, count in counters.items() if count),
            **self._result(run),
        }

    def never_started(self, record: Record) -> Facts:
        self._aws.refuse_launches(self._family, [_NO_IMAGE] * 10)
        try:
            run = self._run(record, "never started", [str(self._material.folder)])
        finally:
            self._aws.refuse_launches(self._family, [])
        alert = self._alert(record, run)
        return {
            "execution": run.status,
            "error": run.error,
            "launches": len(self._launches(run)),
            "alert": alert.kind,
            "log in the alert": alert.log,
        }

    def command_from_the_input(self, record: Record) -> Facts:
        run = self._run(record, "command from the input", [str(self._material.other), "0.01"])
        [override] = self._task(run)["overrides"]["containerOverrides"]
        return {"execution": run.status, "command": json.dumps(override["command"]), **self._result(run)}

    def application_exits_3(self, record: Record) -> Facts:
        run = self._run(record, "application exits 3", [str(self._material.empty)])
        [container] = self._task(run)["containers"]
        alert = self._alert(record, run)
        return {
            "execution": run.status,
            "error": run.error,
            "launches": len(self._launches(run)),
            "exit code of the container": container["exitCode"],
            "alert": alert.kind,
            "exit code in the alert": alert.exit_code,
            "log in the alert": alert.log,
        }

    def times_out(self, record: Record) -> Facts:
        # So slow that it cannot end by itself; and no other process has such an argument.
        seconds_per_file = f"3600.{time.time_ns()}"
        arn = self._start("times out", [str(self._material.folder), seconds_per_file])
        running = eventually(lambda: count_processes(seconds_per_file), lambda count: count == 1)
        run = self._finish(record, arn, "times out")
        remaining = eventually(lambda: count_processes(seconds_per_file), lambda count: count == 0)
        # ECS learns from the engine that the container has ended, a moment after its process is gone.
        status = eventually(lambda: self._task(run)["lastStatus"], lambda status: status == "STOPPED")
        alert = self._alert(record, run)
        return {
            "execution": run.status,
            "error": run.error,
            "launches": len(self._launches(run)),
            "processes while it runs": running,
            "processes afterwards": remaining,
            "task": status,
            "alert": alert.kind,
        }

    def fires_by_itself(self, record: Record) -> Facts:
        deadline = time.monotonic() + _SCHEDULE_FIRES_WITHIN
        while not (others := [arn for arn in self._machine.executions() if not is_ours(arn)]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the rule started nothing within {_SCHEDULE_FIRES_WITHIN:.0f} s")
            time.sleep(0.5)
        run = self._finish(record, others[-1], "fires by itself")
        return {
            "execution": run.status,
            "input": json.dumps(json.loads(run.input)),
            "launches": len(self._launches(run)),
            **self._result(run),
        }

    # --- doing and looking ------------------------------------------------------------------------------

    def _run(self, record: Record, label: str, commands: list[str]) -> Run:
        return self._finish(record, self._start(label, commands), label)

    def _start(self, label: str, commands: list[str]) -> str:
        return self._machine.start(label, {"commands": commands})

    def _finish(self, record: Record, arn: str, label: str) -> Run:
        run = self._machine.finish(arn, label, within=_RUN_ENDS_WITHIN + self._timeout_seconds)
        record.definition = self._definition
        record.runs.append(run)
        return run

    def _alert(self, record: Record, run: Run) -> Alert:
        alert = self._mailbox.alert_about(run.arn)
        record.alerts.append(alert)
        return alert

    def _launches(self, run: Run) -> list[Launch]:
        return [launch for launch in self._aws.launches(self._family) if launch.execution == run.arn]

    def _task(self, run: Run) -> dict[str, Any]:
        """The last task of an execution, as ECS describes it."""
        *_, arn = [launch.task for launch in self._launches(run) if launch.task]
        [task] = self._ecs.describe_tasks(cluster=self._cluster, tasks=[arn])["tasks"]
        return dict(task)

    def _result(self, run: Run) -> Facts:
        """What the container printed last, read from its log stream."""
        options = self._container["logConfiguration"]["options"]
        task_id = self._task(run)["taskArn"].rsplit("/", 1)[-1]
        events = self._logs.get_log_events(
            logGroupName=options["awslogs-group"],
            logStreamName=f"{options['awslogs-stream-prefix']}/{self._container['name']}/{task_id}",
        )["events"]
        printed = json.loads(events[-1]["message"])
        return {"files": printed["files"], "sha256": printed["sha256"]}

"""Runs state machines on the emulator and says how they ended."""

import contextlib
import io
import json
import time
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedded_aws import EmbeddedAws

ROLE = "arn:aws:iam::000000000000:role/any"
NETWORK = {"AwsvpcConfiguration": {"Subnets": ["subnet-1"]}}


@dataclass(frozen=True)
class Ending:
    """How an execution ended, or how far it was when the time was over."""

    arn: str
    status: str
    error: str | None
    cause: str
    output: Any
    events: list[dict[str, Any]]

    @property
    def types(self) -> list[str]:
        """The types of the history's events."""
        return [event["type"] for event in self.events]


def start(aws: EmbeddedAws, states: Any, *, data: Any = None, **fields: Any) -> str:
    """Makes a state machine of these states, starts at the first and returns the ARN of the execution."""
    definition = {"StartAt": next(iter(states)), "States": states, **fields}
    machine = make_machine(aws, definition)
    execution = aws.client("stepfunctions").start_execution(stateMachineArn=machine, input=json.dumps(data or {}))
    return str(execution["executionArn"])


def make_machine(aws: EmbeddedAws, definition: Any) -> str:
    """Makes a state machine and returns its ARN."""
    machine = aws.client("stepfunctions").create_state_machine(
        name=f"machine-{uuid.uuid4()}", definition=json.dumps(definition), roleArn=ROLE
    )
    return str(machine["stateMachineArn"])


def run(aws: EmbeddedAws, states: Any, *, data: Any = None, within: float = 8.0, **fields: Any) -> Ending:
    """As `start`, and waits for the end."""
    return ending(aws, start(aws, states, data=data, **fields), within=within)


def ending(aws: EmbeddedAws, arn: str, *, within: float = 8.0) -> Ending:
    """Waits until the execution has ended, at most `within` seconds."""
    sfn = aws.client("stepfunctions")
    deadline = time.monotonic() + within
    while (execution := sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
        if time.monotonic() > deadline:
            break
        time.sleep(0.03)
    events = sfn.get_execution_history(executionArn=arn, maxResults=1000)["events"]
    output = json.loads(execution.get("output") or "null")
    return Ending(arn, execution["status"], execution.get("error"), execution.get("cause", ""), output, events)


def task(resource: str, parameters: Any = None, **fields: Any) -> dict[str, Any]:
    """A Task state with an optimized integration, such as `"ecs:runTask.sync"`."""
    state = {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters or {}, "End": True}
    return {**state, **fields}


def make_function(aws: EmbeddedAws, body: str, *, role: str = ROLE) -> str:
    """Makes a function `def handle(event, context)` with this body and returns its name."""
    code = "import boto3, json, os, time\ndef handle(event, context):\n" + "\n".join(
        f"    {line}" for line in body.splitlines()
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("function.py", code)
    name = f"function-{uuid.uuid4()}"
    aws.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.13",
        Handler="function.handle",
        Role=role,
        Timeout=30,
        Code={"ZipFile": archive.getvalue()},
    )
    return name


def make_task(aws: EmbeddedAws, *containers: Mapping[str, Any]) -> str:
    """Registers a task definition and returns its family. It runs in the cluster `jobs`, its log group is `/jobs`."""
    family = f"family-{uuid.uuid4()}"
    aws.client("ecs").create_cluster(clusterName="jobs")
    logs = aws.client("logs")
    with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName="/jobs")
    log = {"awslogs-group": "/jobs", "awslogs-stream-prefix": "run", "awslogs-region": aws.region}
    aws.client("ecs").register_task_definition(
        family=family,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[
            {
                "name": "app",
                "image": "none",
                "logConfiguration": {"logDriver": "awslogs", "options": log},
                **container,
            }
            for container in containers
        ],
    )
    return family


def run_task(family: str, **fields: Any) -> dict[str, Any]:
    """The state that runs a task and waits for it."""
    parameters = {
        "Cluster": "jobs",
        "TaskDefinition": family,
        "LaunchType": "FARGATE",
        "NetworkConfiguration": NETWORK,
        **fields.pop("Parameters", {}),
    }
    return task("ecs:runTask.sync", parameters, **fields)


def stopped_task(aws: EmbeddedAws, family: str, *, within: float = 8.0) -> dict[str, Any]:
    """The one task of a family, after it has stopped, or as it is when the time is over."""
    ecs = aws.client("ecs")
    appears_by = time.monotonic() + 8
    stops_by: float | None = None
    while True:
        arns = [
            arn
            for status in ("RUNNING", "STOPPED")
            for arn in ecs.list_tasks(cluster="jobs", family=family, desiredStatus=status)["taskArns"]
        ]
        tasks = ecs.describe_tasks(cluster="jobs", tasks=arns)["tasks"] if arns else []
        if tasks:
            # The time starts with the task: on a busy machine its launch alone may take longer.
            stops_by = stops_by or time.monotonic() + within
            if tasks[0]["lastStatus"] == "STOPPED" or time.monotonic() > stops_by:
                return dict(tasks[0])
        assert tasks or time.monotonic() < appears_by, f"No task of {family}"
        time.sleep(0.03)


def log_lines(aws: EmbeddedAws, task_description: Mapping[str, Any], container: str = "app") -> list[str]:
    """What a container of a task has written."""
    stream = f"run/{container}/{task_description['taskArn'].rsplit('/', 1)[-1]}"
    events = aws.client("logs").get_log_events(logGroupName="/jobs", logStreamName=stream, startFromHead=True)
    return [event["message"] for event in events["events"]]

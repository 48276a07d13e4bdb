"""Tasks as local processes, and what real containers add."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from embedded_aws import EmbeddedAws
from embedded_aws.images import import_python_image
from tests.embedded_aws.machines import (
    NETWORK,
    Ending,
    ending,
    log_lines,
    make_task,
    run,
    run_task,
    start,
    stopped_task,
    task,
)

RUN_TASK_EVENTS = [
    "ExecutionStarted",
    "TaskStateEntered",
    "TaskScheduled",
    "TaskStarted",
    "TaskSubmitted",
    "TaskSucceeded",
    "TaskStateExited",
    "ExecutionSucceeded",
]


def python(program: str) -> list[str]:
    return ["python", "-c", program]


def test_a_task_that_ends_well_is_the_result(aws: EmbeddedAws) -> None:
    family = make_task(aws, {"command": ["true"]})

    end = run(aws, {"Run": run_task(family)})

    assert end.status == "SUCCEEDED"
    assert end.types == RUN_TASK_EVENTS
    assert end.output["Containers"][0]["ExitCode"] == 0
    assert ":task/jobs/" in end.output["TaskArn"]
    assert end.output["Group"] == f"family:{family}"
    assert isinstance(end.output["StartedAt"], int)


def test_without_sync_the_state_does_not_wait(aws: EmbeddedAws) -> None:
    family = make_task(aws, {"command": ["sleep", "1"]})
    ask = {"Cluster": "jobs", "TaskDefinition": family, "LaunchType": "FARGATE", "NetworkConfiguration": NETWORK}

    end = run(aws, {"Run": task("ecs:runTask", ask)})

    assert end.output["Failures"] == []
    assert end.output["Tasks"][0]["LastStatus"] == "PROVISIONING"


def test_a_container_has_the_environment_of_a_task(aws: EmbeddedAws) -> None:
    program = (
        "import os, json, urllib.request as web\n"
        "metadata = json.load(web.urlopen(os.environ['ECS_CONTAINER_METADATA_URI_V4'] + '/task'))\n"
        "print(json.dumps([dict(os.environ), metadata['TaskARN']]))"
    )
    family = make_task(
        aws, {"command": python(program), "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}
    )
    overrides = {"ContainerOverrides": [{"Name": "app", "Environment": [{"Name": "B", "Value": "2"}]}]}

    end = run(aws, {"Run": run_task(family, Parameters={"Overrides": overrides})})

    environment, arn = json.loads(log_lines(aws, stopped_task(aws, family))[0])
    assert arn == end.output["TaskArn"]
    assert environment["AWS_ENDPOINT_URL"] == aws.endpoint
    assert environment["AWS_REGION"] == aws.region
    assert (environment["A"], environment["B"]) == ("1", "2")
    assert "GATEWAY_PORT" not in environment


def test_a_command_may_be_overridden(aws: EmbeddedAws) -> None:
    family = make_task(aws, {"command": ["false"]})
    overrides = {"ContainerOverrides": [{"Name": "app", "Command": ["sh", "-c", "echo one; echo two >&2"]}]}

    assert run(aws, {"Run": run_task(family, Parameters={"Overrides": overrides})}).status == "SUCCEEDED"
    assert sorted(log_lines(aws, stopped_task(aws, family))) == ["one", "two"]


def test_secrets_reach_the_container_or_stop_the_start(aws: EmbeddedAws) -> None:
    secret = aws.client("secretsmanager").create_secret(Name="password", SecretString="open sesame")["ARN"]
    show = {"command": ["sh", "-c", "echo $PASSWORD"]}
    knows = make_task(aws, {**show, "secrets": [{"name": "PASSWORD", "valueFrom": secret}]})
    lost = make_task(aws, {**show, "secrets": [{"name": "PASSWORD", "valueFrom": f"{secret}-lost"}]})

    assert run(aws, {"Run": run_task(knows)}).status == "SUCCEEDED"
    assert log_lines(aws, stopped_task(aws, knows)) == ["open sesame"]
    assert run(aws, {"Run": run_task(lost)}).status == "FAILED"
    assert stopped_task(aws, lost)["stoppedReason"].startswith("ResourceInitializationError: unable to pull secrets")


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"command": ["no-such-program"]}, "CannotStartContainerError"),
        (
            {
                "command": ["true"],
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {"awslogs-group": "/none", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "x"},
                },
            },
            "ResourceInitializationError: failed to validate logger args",
        ),
    ],
)
def test_what_cannot_start_failed_to_start(aws: EmbeddedAws, container: dict[str, Any], reason: str) -> None:
    family = make_task(aws, container)

    end = run(aws, {"Run": run_task(family)})

    description = stopped_task(aws, family)
    assert end.error == "States.TaskFailed"
    assert description["stopCode"] == "TaskFailedToStart"
    assert description["stoppedReason"].startswith(reason)
    assert "exitCode" not in description["containers"][0]


def test_a_signal_is_an_exit_code(aws: EmbeddedAws) -> None:
    family = make_task(aws, {"command": python("import os; os.kill(os.getpid(), 9)")})

    end = run(aws, {"Run": run_task(family)})

    assert json.loads(end.cause)["Containers"][0]["ExitCode"] == 137


def test_a_container_that_is_not_essential_fails_the_state_but_not_the_task(aws: EmbeddedAws) -> None:
    # AWS looks at every exit code, which is why a definition must look at the essential ones itself.
    helper = {"name": "helper", "essential": False, "command": ["sh", "-c", "exit 9"]}
    family = make_task(aws, {"command": ["sleep", "0.5"]}, helper)

    end = run(aws, {"Run": run_task(family)})

    codes = {each["Name"]: each["ExitCode"] for each in json.loads(end.cause)["Containers"]}
    assert end.error == "States.TaskFailed"
    assert codes == {"app": 0, "helper": 9}


def test_a_whole_process_group_ends_with_its_container(aws: EmbeddedAws, tmp_path: Any) -> None:
    mark = tmp_path / "alive"
    family = make_task(aws, {"command": ["sh", "-c", f"(sleep 1; touch {mark}) & exit 0"]})

    run(aws, {"Run": run_task(family)})
    time.sleep(1.3)

    assert not mark.exists()


def test_waiting_for_a_permit_is_fifteen_events(aws: EmbeddedAws) -> None:
    queue = aws.client("sqs").create_queue(QueueName="acquire")["QueueUrl"]
    send = {"QueueUrl": queue, "MessageBody.$": "$$.Task.Token"}
    acquire = task("sqs:sendMessage.waitForTaskToken", send, End=False, Next="Work", ResultPath=None)
    states = {
        "Acquire": {key: value for key, value in acquire.items() if key != "End"},
        "Work": {"Type": "Wait", "Seconds": 1, "Next": "Release"},
        "Release": task("sqs:sendMessage", {"QueueUrl": queue, "MessageBody": "done"}),
    }

    end = run_answered(aws, states, queue)

    assert end.status == "SUCCEEDED"
    assert len(end.types) == 15


def run_answered(aws: EmbeddedAws, states: Any, queue: str) -> Ending:
    execution = start(aws, states)
    token = aws.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"][0]["Body"]
    aws.client("stepfunctions").send_task_success(taskToken=token, output="{}")
    return ending(aws, execution)


@pytest.fixture(scope="session")
def containers(docker_engine: None) -> Iterator[EmbeddedAws]:
    """An account whose tasks are real containers of the image `local/python`."""
    import_python_image("local/python:1")
    with EmbeddedAws(tasks="container", wait_scale=0.01, stop_timeout=1.0) as containers:
        yield containers


def in_image(**fields: Any) -> dict[str, Any]:
    return {"image": "local/python:1", **fields}


@pytest.mark.container
def test_a_container_reaches_the_account_and_writes_its_log(containers: EmbeddedAws) -> None:
    program = (
        "import os, sys, urllib.request as web\n"
        "print(web.urlopen(os.environ['AWS_ENDPOINT_URL'] + '/_ministack/health').status)\n"
        "sys.exit(3)"
    )
    family = make_task(containers, in_image(entryPoint=["python", "-c"], command=[program]))

    end = run(containers, {"Run": run_task(family)}, within=20)

    description = stopped_task(containers, family)
    assert end.error == "States.TaskFailed"
    assert description["containers"][0]["exitCode"] == 3
    assert log_lines(containers, description) == ["200"]


@pytest.mark.container
def test_containers_stop_with_the_essential_one(containers: EmbeddedAws) -> None:
    # The first process of a container does not die of SIGTERM by default: it is killed after the time-out.
    endless = in_image(name="endless", essential=False, command=python("import time; time.sleep(60)"))
    family = make_task(containers, in_image(command=["sh", "-c", "exit 0"]), endless)

    run(containers, {"Run": run_task(family)}, within=20)

    description = stopped_task(containers, family)
    assert {each["name"]: each["exitCode"] for each in description["containers"]} == {"app": 0, "endless": 137}


@pytest.mark.container
@pytest.mark.parametrize(
    ("container", "reason"),
    [
        (in_image(command=["no-such-program"]), "CannotStartContainerError"),
        ({"image": "localhost:1/missing:1", "command": ["true"]}, "CannotPullContainerError"),
    ],
)
def test_a_container_that_cannot_start(containers: EmbeddedAws, container: dict[str, Any], reason: str) -> None:
    family = make_task(containers, container)

    assert run(containers, {"Run": run_task(family)}, within=20).error == "States.TaskFailed"
    description = stopped_task(containers, family)
    assert description["stopCode"] == "TaskFailedToStart"
    assert description["stoppedReason"].startswith(reason)


@pytest.mark.container
def test_stopping_an_execution_stops_its_container(containers: EmbeddedAws) -> None:
    polite = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(5)); print('up', flush=True); time.sleep(60)"
    )
    family = make_task(containers, in_image(command=python(polite)))
    execution = start(containers, {"Run": run_task(family)})
    deadline = time.monotonic() + 15
    while not (containers.launches(family) and up(containers, family)) and time.monotonic() < deadline:
        time.sleep(0.1)

    containers.client("stepfunctions").stop_execution(executionArn=execution)

    description = stopped_task(containers, family)
    assert description["stopCode"] == "UserInitiated"
    assert description["containers"][0]["exitCode"] == 5


def up(aws: EmbeddedAws, family: str) -> bool:
    arn = aws.launches(family)[0].task
    streams = aws.client("logs").describe_log_streams(logGroupName="/jobs")["logStreams"]
    name = f"run/app/{str(arn).rsplit('/', 1)[-1]}"
    return any(s["logStreamName"] == name for s in streams) and log_lines(aws, {"taskArn": arn}) == ["up"]

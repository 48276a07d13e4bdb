"""An object for a container: a real process finds it in its environment."""

from collections.abc import Iterator

import aws_cdk as cdk
import pytest
from aws_cdk import aws_stepfunctions_tasks as tasks

from constructs_lib import FargateJob
from embedded_aws import EmbeddedAws
from tests.end_to_end.pipeline.account import Account, deployed, make_pipeline, surroundings
from tests.end_to_end.test_definition_on_embedded_aws import eventually, shell
from tests.scheduled import surroundings as task_surroundings


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Containers")
    task = task_surroundings(stack)
    job = FargateJob(
        cluster=task.cluster,
        task_definition=task.task_definition,
        environment={"COLOUR": "green"},
        container_overrides=[
            tasks.ContainerOverride(
                container_definition=task.container,
                command=shell('env | grep -E "^(OBJECT_|COLOUR)"; case "$OBJECT_KEY" in *broken*) exit 3;; esac'),
            )
        ],
    )
    make_pipeline(surroundings(stack), "Tasks", job=job, versioned=True)
    cdk.CfnOutput(stack, "LogOutput", value=task.log_group.log_group_name)
    return stack


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with deployed(embedded_aws, make_stack, tmp_path_factory.mktemp("containers")) as account:
        yield account


def said(account: Account) -> list[dict[str, str]]:
    """The environments of the containers so far, as they wrote them."""
    logs = account.aws.client("logs")
    group = account.outputs["Log"]
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    found = []
    for stream in streams:
        events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
        found.append(dict(event["message"].split("=", 1) for event in events))
    return found


def test_a_container_is_told_of_its_object(account: Account, prefix: str) -> None:
    pipeline = account.pipeline("Tasks")
    key = f'{prefix}two words, a+b, 100%, "$HOME", 請求書 🎉.csv'
    version = pipeline.put(key, b"12345")
    [execution] = eventually(lambda: pipeline.executions("SUCCEEDED"), "the end")
    [environment] = said(account)
    assert environment.pop("OBJECT_ETAG") == "827ccb0eea8a706c4c34a16891f84e7b"
    assert int(environment.pop("OBJECT_SEQUENCER"), 16) > 0
    assert environment == {
        "OBJECT_BUCKET": pipeline.bucket,
        "OBJECT_KEY": key,
        "OBJECT_VERSION_ID": version,
        "OBJECT_SIZE": "5",
        "COLOUR": "green",
    }
    assert execution["name"].startswith("two-words-a-b-100-HOME-csv-")


def test_a_container_that_fails_is_told_with_its_object(account: Account, prefix: str) -> None:
    pipeline = account.pipeline("Tasks")
    pipeline.put(f"{prefix}broken.csv")
    [alert] = pipeline.alerts(1)
    assert "exit code 3" in alert["Subject"]
    assert f"{prefix}broken.csv" in alert["Message"]
    pipeline.settle()
    pipeline.assert_nothing_is_lost()

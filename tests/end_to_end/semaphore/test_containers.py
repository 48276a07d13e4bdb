"""Guarded containers: what they cost, and that one which does not stop at once keeps its permit meanwhile."""

import time
from collections.abc import Iterator

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from embedded_aws import EmbeddedAws
from tests.end_to_end.semaphore.account import Account, deployed, entered, make_machine, make_semaphore
from tests.end_to_end.test_definition_on_embedded_aws import eventually
from tests.scheduled import surroundings

GRACE = 3.0

# Without what the shell says of the processes it ends.
SAY = 'exec 2>/dev/null; say() { echo "$1 $(date +%s.%N)"; };'
WELL = f"{SAY} say began; sleep 0.3; say ended"
# Goes on for a second after SIGTERM.
STUBBORN = f"{SAY} trap 'sleep 1; say ended; kill $!; exit 0' TERM; say began; sleep 60 & wait; wait"


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Containers")
    around = surroundings(stack)
    semaphore = make_semaphore(stack, limit=1, grace=Duration.seconds(int(GRACE)))
    scope = Construct(stack, "Job")
    run = tasks.EcsRunTask(
        scope,
        "Run",
        integration_pattern=sfn.IntegrationPattern.RUN_JOB,
        cluster=around.cluster,
        task_definition=around.task_definition,
        launch_target=tasks.EcsFargateLaunchTarget(platform_version=ecs.FargatePlatformVersion.LATEST),
        container_overrides=[
            tasks.ContainerOverride(container_definition=around.container, command=sfn.JsonPath.list_at("$.command"))
        ],
        result_path="$.result",
    )
    make_machine(scope, semaphore.guard(scope, "Quota", run, key="$.key"), semaphore)
    cdk.CfnOutput(stack, "LogOutput", value=around.log_group.log_group_name)
    return stack


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with deployed(embedded_aws, make_stack, tmp_path_factory.mktemp("containers")) as account:
        yield account


def said(account: Account) -> list[tuple[str, float]]:
    """What the containers themselves said, and when, in order."""
    events = account.aws.client("logs").filter_log_events(logGroupName=account.outputs["Log"])["events"]
    lines = [event["message"].split() for event in events]
    return sorted(((what, float(when)) for what, when in lines), key=lambda line: line[1])


def start(account: Account, key: str, script: str) -> str:
    return account.start("Job", key, command=["sh", "-c", script])


def test_a_guarded_container_costs_three_transitions_and_nineteen_events(account: Account, key: str) -> None:
    execution = start(account, key, WELL)
    account.all_ended([execution])
    events = account.history(execution)
    assert entered(events) == ["Acquire Quota", "Run", "Release Quota"]
    assert len(events) <= 19
    account.everything_given_back(key)


def test_a_container_that_does_not_stop_at_once_keeps_its_permit_for_the_grace(account: Account, key: str) -> None:
    earlier = len(said(account))
    first = start(account, key, STUBBORN)
    eventually(lambda: len(said(account)) > earlier, "the first container")
    second = start(account, key, WELL)
    account.wait_for(key, inUse=1, waiting=1)

    aborted = time.time()
    account.stop([first])

    def second_ended() -> bool:
        account.ask("sweep")
        states = account.aws.client("stepfunctions")
        return bool(states.describe_execution(executionArn=second)["status"] != "RUNNING")

    eventually(second_ended, "the end of the second")
    account.all_ended([second])
    what, when = zip(*said(account)[earlier:], strict=True)
    assert what == ("began", "ended", "began", "ended")
    assert when[1] >= aborted + 1
    assert when[2] >= aborted + GRACE
    account.everything_given_back(key)

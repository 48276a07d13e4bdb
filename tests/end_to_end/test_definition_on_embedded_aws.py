"""The synthesized template, deployed to the embedded AWS: real processes as tasks, the real alert function.

CloudFormation of the embedded AWS gets the template as the CDK wrote it; the subscriber is a queue on the topic.
`make demo` deploys with the CDK's own CLI instead.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from constructs_lib import AlertFunction, LaunchRetry, RetryPolicy, ScheduledStepFunctionsFargateTask
from embedded_aws import EmbeddedAws, LaunchFault
from embedded_aws.deployment import deploy
from tests.scheduled import SCHEDULE, Surroundings, make_app, surroundings

PATIENCE = 90.0

Command = list[str]


def shell(script: str) -> Command:
    return ["sh", "-c", script]


WELL = shell("echo hello; exit 0")
BADLY = shell("echo cannot read the orders; exit 3")
FOR_LONG = shell("echo started; exec sleep 60")


def eventually(probe: Callable[[], Any], what: str, *, within: float = PATIENCE) -> Any:
    """What `probe` gives as soon as it gives something; `within` so many seconds."""
    deadline = time.monotonic() + within
    while not (found := probe()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {within:g} s")
        time.sleep(0.1)
    return found


# --- the stack -----------------------------------------------------------------------------------------------


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Jobs")
    around = surroundings(stack)
    alert = AlertFunction(stack, "Alert")
    unheard = AlertFunction(stack, "Unheard")
    inbox = sqs.Queue(stack, "Inbox")
    alert.topic.add_subscription(subscriptions.SqsSubscription(inbox))

    with_sidecar = ecs.FargateTaskDefinition(stack, "WithSidecar")
    image = ecs.ContainerImage.from_registry("busybox")
    with_sidecar.add_container("app", image=image, command=shell("sleep 0.5; exit 0"))
    with_sidecar.add_container("proxy", image=image, command=shell("exit 7"), essential=False)

    job(around, "Job", alert)
    job(around, "Hasty", alert, timeout=Duration.seconds(2))
    job(around, "Mute", unheard)
    sidecar = replace(around, task_definition=with_sidecar)
    job(sidecar, "Accompanied", alert, container_overrides=())

    alert_role = alert.function.role
    assert alert_role is not None
    outputs = {
        "Inbox": inbox.queue_url,
        "UnheardTopic": unheard.topic.topic_arn,
        "Topic": alert.topic.topic_arn,
        "Cluster": around.cluster.cluster_arn,
        "TaskDefinition": around.task_definition.task_definition_arn,
        "TaskRole": around.task_definition.task_role.role_arn,
        "ExecutionRole": around.task_definition.obtain_execution_role().role_arn,
        "TaskLog": around.log_group.log_group_arn,
        "AlertFunction": alert.function.function_arn,
        "AlertRole": alert_role.role_arn,
        "UnheardFunction": unheard.function.function_arn,
    }
    for name, value in outputs.items():
        cdk.CfnOutput(stack, name + "Output", value=value)
    return stack


def job(around: Surroundings, id_: str, alert: AlertFunction, **options: Any) -> ScheduledStepFunctionsFargateTask:
    """Runs the commands that the execution's input brings, so that one deployment serves all tests."""
    quick = RetryPolicy(max_attempts=2)
    construct = ScheduledStepFunctionsFargateTask(
        around.stack,
        id_,
        **{
            "schedule": SCHEDULE,
            "cluster": around.cluster,
            "task_definition": around.task_definition,
            "enabled": False,
            "input": {"commands": WELL},
            "container_overrides": [
                tasks.ContainerOverride(
                    container_definition=around.container, command=sfn.JsonPath.list_at("$.commands")
                )
            ],
            "retry": LaunchRetry(throttled=quick, no_capacity=quick, never_started=quick),
            "execution_timeout": Duration.hours(2),
            "failure_handlers": [alert],
            **options,
        },
    )
    arns = {
        "Machine": construct.state_machine.state_machine_arn,
        "Role": construct.state_machine.role.role_arn,
        "DeadLetters": construct.dead_letters.queue.queue_url,
        "DeadLettersArn": construct.dead_letters.queue.queue_arn,
    }
    for name, value in arns.items():
        cdk.CfnOutput(around.stack, f"{id_}{name}Output", value=value)
    return construct


@dataclass(frozen=True)
class Account:
    """The embedded AWS with the stack in it."""

    aws: EmbeddedAws
    outputs: Mapping[str, str]

    @cached_property
    def family(self) -> str:
        return self.outputs["TaskDefinition"].rpartition("/")[2].partition(":")[0]

    def start(self, job: str, **input_: Any) -> str:
        """The ARN of a new execution."""
        states = self.aws.client("stepfunctions")
        started = states.start_execution(stateMachineArn=self.outputs[f"{job}Machine"], input=json.dumps(input_))
        return str(started["executionArn"])

    def ended(self, execution: str) -> dict[str, Any]:
        """The execution once it has ended."""
        states = self.aws.client("stepfunctions")

        def described() -> dict[str, Any] | None:
            now: dict[str, Any] = states.describe_execution(executionArn=execution)
            return None if now["status"] == "RUNNING" else now

        found: dict[str, Any] = eventually(described, f"the end of {execution}")
        return found

    def alert(self, execution: str) -> dict[str, Any]:
        """The alert about an execution, as the subscriber of the topic gets it."""
        [message] = self.received(self.outputs["Inbox"], execution)
        return message

    def received(self, queue: str, execution: str) -> list[dict[str, Any]]:
        """The first messages in a queue that name the execution; those about others are dropped."""
        queues = self.aws.client("sqs")

        def about_it() -> list[dict[str, Any]]:
            bodies = []
            for message in queues.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
                queues.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                bodies.append(message["Body"])
            return [json.loads(body) for body in bodies if execution in body]

        found: list[dict[str, Any]] = eventually(about_it, f"a message about {execution}")
        return found

    def tasks_of(self, execution: str) -> list[dict[str, Any]]:
        """The tasks that the execution launched, as ECS describes them."""
        arns = [
            launch.task for launch in self.aws.launches(self.family) if launch.execution == execution and launch.task
        ]
        if not arns:
            return []
        described = self.aws.client("ecs").describe_tasks(cluster=self.outputs["Cluster"], tasks=arns)
        found: list[dict[str, Any]] = described["tasks"]
        return found

    def stopped(self, execution: str) -> bool:
        """Whether the process of the only task was ended by a signal, told by its own exit code."""

        def stopped_tasks() -> list[dict[str, Any]]:
            return [task for task in self.tasks_of(execution) if task["lastStatus"] == "STOPPED"]

        [task] = eventually(stopped_tasks, f"the stop of the task of {execution}")
        [container] = task["containers"]
        return container["exitCode"] in (137, 143)

    def launches(self, execution: str) -> int:
        return sum(launch.execution == execution for launch in self.aws.launches(self.family))


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    app = make_app(tmp_path_factory.mktemp("end_to_end"))
    stack = make_stack(app)
    outputs = deploy(embedded_aws, Path(app.synth().directory), stack.artifact_id)
    yield Account(embedded_aws, outputs)
    embedded_aws.reset()


# --- runs ----------------------------------------------------------------------------------------------------


def test_a_run_that_succeeds(account: Account) -> None:
    execution = account.start("Job", commands=WELL, day="monday")
    ended = account.ended(execution)
    assert ended["status"] == "SUCCEEDED"
    output = json.loads(ended["output"])
    assert (output["day"], output["commands"]) == ("monday", WELL)
    assert output["result"]["Containers"][0]["ExitCode"] == 0
    assert account.launches(execution) == 1


def test_two_refusals_for_capacity_and_then_success(account: Account) -> None:
    account.aws.refuse_launches(account.family, [LaunchFault.no_capacity(), LaunchFault.no_capacity()])
    execution = account.start("Job", commands=WELL)
    ended = account.ended(execution)
    assert (ended["status"], account.launches(execution)) == ("SUCCEEDED", 3)
    assert json.loads(ended["output"])["launch"]["noCapacity"] == 2


def test_throttling_that_looks_like_a_wrong_parameter(account: Account) -> None:
    fault = LaunchFault.api_error(
        "ECS.InvalidParameterException", "Error retrieving subnet information for [subnet-1]: Rate exceeded"
    )
    account.aws.refuse_launches(account.family, [fault])
    execution = account.start("Job", commands=WELL)
    assert (account.ended(execution)["status"], account.launches(execution)) == ("SUCCEEDED", 2)


def test_a_budget_that_is_used_up_is_told_with_what_was_tried(account: Account) -> None:
    pull = LaunchFault.never_started("CannotPullContainerError: failed to resolve ref: not found")
    account.aws.refuse_launches(account.family, [pull] * 9)
    execution = account.start("Job", commands=WELL)
    ended = account.ended(execution)
    account.aws.refuse_launches(account.family, [])
    assert (ended["status"], ended["error"], account.launches(execution)) == ("FAILED", "States.TaskFailed", 3)
    alert = account.alert(execution)
    assert "never started: image" in alert["Subject"]
    assert "3 launches: 2 never started" in alert["Message"]


def test_an_exit_code_is_not_launched_again_and_told_with_the_log(account: Account) -> None:
    execution = account.start("Job", commands=BADLY, tenant="a")
    ended = account.ended(execution)
    assert (ended["status"], ended["error"], account.launches(execution)) == ("FAILED", "States.TaskFailed", 1)
    assert json.loads(ended["cause"])["Containers"][0]["ExitCode"] == 3
    alert = account.alert(execution)
    assert alert["Subject"] == "Jobs/Job failed: application, exit code 3"
    assert "cannot read the orders" in alert["Message"]
    assert '"tenant": "a"' in alert["Message"]
    assert alert["MessageAttributes"]["kind"]["Value"] == "application"


def test_a_task_that_runs_too_long_is_stopped(account: Account) -> None:
    execution = account.start("Hasty", commands=FOR_LONG)
    ended = account.ended(execution)
    assert (ended["status"], ended["error"], account.launches(execution)) == ("FAILED", "States.Timeout", 1)
    assert account.stopped(execution)
    assert account.alert(execution)["Subject"] == "Jobs/Hasty failed: timed out"


def test_aborting_an_execution_stops_its_task_and_is_told(account: Account) -> None:
    execution = account.start("Job", commands=FOR_LONG)
    eventually(lambda: [task for task in account.tasks_of(execution) if task["lastStatus"] == "RUNNING"], "the start")
    account.aws.client("stepfunctions").stop_execution(executionArn=execution, error="Operator", cause="wrong day")
    assert account.ended(execution)["status"] == "ABORTED"
    assert account.stopped(execution)
    alert = account.alert(execution)
    assert alert["Subject"] == "Jobs/Job failed: aborted"
    assert "wrong day" in alert["Message"]


def test_an_input_without_the_command_is_told_although_no_catch_sees_it(account: Account) -> None:
    execution = account.start("Job", day="monday")
    ended = account.ended(execution)
    assert (ended["status"], ended["error"], account.launches(execution)) == ("FAILED", "States.Runtime", 0)
    alert = account.alert(execution)
    assert alert["Subject"] == "Jobs/Job failed: configuration"
    assert "$.commands" in alert["Message"]


def test_the_exit_code_of_a_sidecar_does_not_decide(account: Account) -> None:
    ended = account.ended(account.start("Accompanied"))
    assert ended["status"] == "SUCCEEDED"
    exit_codes = {one["Name"]: one["ExitCode"] for one in json.loads(ended["output"])["result"]["Containers"]}
    assert exit_codes == {"app": 0, "proxy": 7}


def test_an_alert_that_cannot_be_told_is_kept_and_the_execution_still_fails_with_its_own_error(
    account: Account,
) -> None:
    account.aws.client("sns").delete_topic(TopicArn=account.outputs["UnheardTopic"])
    execution = account.start("Mute", commands=BADLY)
    ended = account.ended(execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "States.TaskFailed")
    [kept] = account.received(account.outputs["MuteDeadLetters"], execution)
    assert kept["Response"]["error"] == {"Error": "States.TaskFailed", "Cause": ended["cause"]}
    assert kept["Execution"]["Execution"]["Id"] == execution


# --- permissions ---------------------------------------------------------------------------------------------


ALLOWED, DENIED = "Allow", "ImplicitDeny"
THIS_CLUSTER = {"ecs:cluster": "{Cluster}"}
OTHER_CLUSTER = {"ecs:cluster": "arn:aws:ecs:us-east-1:000000000000:cluster/other"}
TASK = "arn:aws:ecs:us-east-1:000000000000:task/jobs/0f9de17a6465404e8b1b2356dc13c2f8"
OTHER_DEFINITION = "arn:aws:ecs:us-east-1:000000000000:task-definition/other:1"
TO_ECS, TO_LAMBDA = ({"iam:PassedToService": f"{service}.amazonaws.com"} for service in ("ecs-tasks", "lambda"))
RULES = "arn:aws:events:us-east-1:000000000000:rule/"


@pytest.mark.parametrize(
    ("action", "resource", "context", "decision"),
    [
        ("ecs:RunTask", "{TaskDefinition}", THIS_CLUSTER, ALLOWED),
        ("ecs:RunTask", "{TaskDefinition}", OTHER_CLUSTER, DENIED),
        ("ecs:RunTask", OTHER_DEFINITION, THIS_CLUSTER, DENIED),
        ("ecs:StopTask", TASK, THIS_CLUSTER, ALLOWED),
        ("ecs:StopTask", TASK, OTHER_CLUSTER, DENIED),
        ("ecs:DescribeTasks", TASK, THIS_CLUSTER, ALLOWED),
        ("ecs:DescribeTasks", TASK, OTHER_CLUSTER, DENIED),
        ("ecs:TagResource", TASK, {"ecs:CreateAction": "RunTask"}, ALLOWED),
        ("ecs:TagResource", TASK, {}, DENIED),
        ("iam:PassRole", "{TaskRole}", TO_ECS, ALLOWED),
        ("iam:PassRole", "{ExecutionRole}", TO_ECS, ALLOWED),
        ("iam:PassRole", "{TaskRole}", TO_LAMBDA, DENIED),
        ("iam:PassRole", "{JobRole}", TO_ECS, DENIED),
        ("events:PutRule", RULES + "StepFunctionsGetEventsForECSTaskRule", {}, ALLOWED),
        ("events:PutRule", RULES + "other", {}, DENIED),
        ("lambda:InvokeFunction", "{AlertFunction}", {}, ALLOWED),
        ("lambda:InvokeFunction", "{UnheardFunction}", {}, DENIED),
        ("sqs:SendMessage", "{JobDeadLettersArn}", {}, ALLOWED),
        ("sqs:SendMessage", "{HastyDeadLettersArn}", {}, DENIED),
        ("sns:Publish", "{Topic}", {}, DENIED),
        ("ecs:RegisterTaskDefinition", OTHER_DEFINITION, {}, DENIED),
    ],
)
def test_the_state_machine_may_do_what_it_does_and_nothing_beside_it(
    action: str, resource: str, context: Mapping[str, str], decision: str, account: Account
) -> None:
    assert decided(account, "JobRole", action, resource, context) == decision


@pytest.mark.parametrize(
    ("action", "resource", "decision"),
    [
        ("sns:Publish", "{Topic}", ALLOWED),
        ("sns:Publish", "{UnheardTopic}", DENIED),
        ("logs:GetLogEvents", "{TaskLog}", ALLOWED),
        ("logs:GetLogEvents", "arn:aws:logs:us-east-1:000000000000:log-group:/other:*", DENIED),
        ("states:StartExecution", "{JobMachine}", DENIED),
    ],
)
def test_the_alert_function_may_read_the_jobs_log_and_publish_to_its_topic(
    action: str, resource: str, decision: str, account: Account
) -> None:
    assert decided(account, "AlertRole", action, resource, {}) == decision


def decided(account: Account, role: str, action: str, resource: str, context: Mapping[str, str]) -> str:
    """What IAM decides on one action of a role of the stack; its outputs stand in braces.

    `simulate_principal_policy` of the embedded AWS looks at no condition keys, so its evaluator is asked itself.
    """
    iam = account.aws.client("iam")
    arn = account.outputs[role]
    name = arn.rpartition("/")[2]
    documents = [
        iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    request = EvalContext(
        principal_arn=arn,
        principal_type="AssumedRole",
        principal_account=account.aws.account,
        action=action,
        resource_arn=resource.format_map(account.outputs),
        region=account.aws.region,
        service_context={key.lower(): value.format_map(account.outputs) for key, value in context.items()},
    )
    return str(evaluate(request, [parse_policy_document(document) for document in documents]).decision)

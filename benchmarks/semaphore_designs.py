"""The designs that the semaphore's benchmark compares. Each is a stack "Bench" with the same job in a limit.

Its outputs are the state machine for each size (`Size20`, …), which takes a `lock` in its input, and, where there is a
function, its log group (`Log`).
"""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from benchmarks.semaphore_figures import JOB
from constructs_lib import Semaphore

ROOT = Path(__file__).parent.parent
STACK = "Bench"
LIMIT = 5
JOB_SECONDS = 2
POLL_SECONDS = 3
PEER_PYTHON = ROOT / "build" / "bench" / "peer" / "bin" / "python"
"""Made by `make bench` from peer-requirements.txt."""


def ours(folder: Path, sizes: Sequence[int]) -> None:
    """The library's semaphore."""
    app, stack = _make_stack(folder)
    semaphore = Semaphore(stack, "Semaphore", limit=LIMIT)
    guarded = semaphore.guard(stack, "Limited", _make_job(stack), key="$.lock")
    machine = sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(guarded))
    semaphore.connect(machine)
    cdk.CfnOutput(stack, "LogOutput", value=semaphore.function.log_group.log_group_name)
    _synthesize(app, stack, sizes, machine)


def polling(folder: Path, sizes: Sequence[int]) -> None:
    """A counter in DynamoDB, and another try every 3 s: the shortest semaphore that is right while nothing fails."""
    app, stack = _make_stack(folder)
    text = dynamodb.AttributeType.STRING
    table = dynamodb.Table(
        stack,
        "Table",
        partition_key=dynamodb.Attribute(name="lock", type=text),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        removal_policy=RemovalPolicy.DESTROY,
    )
    number = tasks.DynamoAttributeValue.from_number
    lock = {"lock": tasks.DynamoAttributeValue.from_string(sfn.JsonPath.string_at("$.lock"))}
    acquire = tasks.DynamoUpdateItem(
        stack,
        "Acquire",
        table=table,
        key=lock,
        update_expression="SET holders = if_not_exists(holders, :none) + :one",
        condition_expression="attribute_not_exists(holders) OR holders < :limit",
        expression_attribute_values={":none": number(0), ":one": number(1), ":limit": number(LIMIT)},
        result_path=sfn.JsonPath.DISCARD,
    )
    pause = sfn.Wait(stack, "Pause", time=sfn.WaitTime.duration(Duration.seconds(POLL_SECONDS)))
    release = tasks.DynamoUpdateItem(
        stack,
        "Release",
        table=table,
        key=lock,
        update_expression="SET holders = holders - :one",
        expression_attribute_values={":one": number(1)},
        result_path=sfn.JsonPath.DISCARD,
    )
    acquire.add_catch(
        pause.next(acquire),
        errors=["DynamoDB.ConditionalCheckFailedException"],
        result_path=sfn.JsonPath.DISCARD,
    )
    definition = acquire.next(_make_job(stack)).next(release)
    machine = sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(definition))
    _synthesize(app, stack, sizes, machine)


def peer(folder: Path, sizes: Sequence[int]) -> None:
    """The package `state-machine-semaphore`, which polls too; see semaphore_peer_app.py."""
    if not PEER_PYTHON.exists():
        raise SystemExit(f"{PEER_PYTHON.relative_to(ROOT)} is missing; `make bench` makes it")
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(
        [PEER_PYTHON, "-m", "benchmarks.semaphore_peer_app", folder, str(LIMIT), str(JOB_SECONDS), *map(str, sizes)],
        cwd=ROOT,
        env=environment,
        check=True,
    )


DESIGNS: Mapping[str, Callable[[Path, Sequence[int]], None]] = {
    "ours": ours,
    "state-machine-semaphore": peer,
    "polling": polling,
}


def _make_stack(folder: Path) -> tuple[cdk.App, cdk.Stack]:
    app = cdk.App(outdir=str(folder), analytics_reporting=False)
    return app, cdk.Stack(app, STACK)


def _make_job(stack: cdk.Stack) -> sfn.Wait:
    return sfn.Wait(stack, JOB, time=sfn.WaitTime.duration(Duration.seconds(JOB_SECONDS)))


def _synthesize(app: cdk.App, stack: cdk.Stack, sizes: Sequence[int], machine: sfn.StateMachine) -> None:
    for size in sizes:
        cdk.CfnOutput(stack, f"Size{size}Output", value=machine.state_machine_arn)
    app.synth()

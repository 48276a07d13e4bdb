"""The README tells the truth: its examples synthesize, and its tables say what the code says."""

import ast
import inspect
import json
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from enum import Enum
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as cloudwatch_actions
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_rds as rds
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from aws_cdk.assertions import Template
from constructs import Construct

import constructs_lib
from alert.message import alert_from
from asl_tools.resolve import state_machines
from constructs_lib import (
    DistributedMapProcessor,
    ErrorSpool,
    ErrorSpoolReprocessor,
    FailureTolerance,
    Hold,
    LaunchRetry,
    S3TriggeredThrottledPipeline,
    ScheduledStepFunctionsFargateTask,
)
from spool.reprocessor import ACTIONS
from spool.requests import reprocess_of
from tests.distributed_maps import processor
from tests.error_spools import machine, reprocessor
from tests.lambda_src.alert_cases import container, stopped_task
from tests.lambda_src.alert_events import failed
from tests.pipelines import bucket, pipeline
from tests.scheduled import definition_of, scheduled, surroundings, template_of
from tests.templates import REPOSITORY, only

README = (REPOSITORY / "README.md").read_text()

SCHEDULED, _, REST = README.partition("## A job for each new object")
PIPELINE, _, REST = REST.partition("## A job for each of many items")
MAP, _, REST = REST.partition("## Failures are kept, and run again")
SPOOLS = REST.partition("## What it costs")[0]
CONSTRUCTS: dict[str, tuple[Callable[..., None], str]] = {
    "scheduled": (ScheduledStepFunctionsFargateTask.__init__, SCHEDULED),
    "pipeline": (S3TriggeredThrottledPipeline.__init__, PIPELINE),
    "map": (DistributedMapProcessor.__init__, MAP),
    "spool": (ErrorSpool.__init__, SPOOLS.partition("### All arguments of a spool")[2]),
    "reprocessor": (ErrorSpoolReprocessor.__init__, SPOOLS.partition("### All arguments of a reprocessor")[2]),
    "hold": (Hold.__init__, SPOOLS.partition("### All arguments of a hold")[2]),
}

MODULES = {
    "cloudwatch": cloudwatch,
    "cloudwatch_actions": cloudwatch_actions,
    "ec2": ec2,
    "ecs": ecs,
    "events": events,
    "scheduler": scheduler,
    "sfn": sfn,
    "sns": sns,
    "subscriptions": subscriptions,
    "tasks": tasks,
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def table(first_heading: str, text: str = README) -> Iterator[list[str]]:
    """The rows of the table with this first heading, cell by cell."""
    _, body = text.split(f"| {first_heading} |", 1)
    for row in body.splitlines()[2:]:
        if not row.startswith("|"):
            return
        yield [cell.strip() for cell in row.strip("|").split(" | ")]


# --- examples -------------------------------------------------------------------------------------------


def names_of_the_examples(app: cdk.App, stack: cdk.Stack) -> dict[str, Any]:
    """What the README says that an example goes on from."""
    around = surroundings(stack)
    return {
        **{name: getattr(constructs_lib, name) for name in constructs_lib.__all__},
        **MODULES,
        **{name: getattr(cdk, name) for name in ("Duration", "Environment", "Stack", "Stage", "TimeZone")},
        **{"Any": Any, "Construct": Construct, "Template": Template, "json": json, "re": re},
        "app": app,
        "self": stack,
        "cluster": around.cluster,
        "task_definition": around.task_definition,
        "open_a_ticket": lambda_.Function.from_function_arn(
            stack, "OpenATicket", "arn:aws:lambda:eu-central-1:111122223333:function:open-a-ticket"
        ),
        "incoming": s3.Bucket(stack, "Incoming"),
        "resize": lambda_.Function.from_function_arn(
            stack, "Resize", "arn:aws:lambda:eu-central-1:111122223333:function:resize"
        ),
        "orders": machine(stack, "OrdersAsTheyWere"),
        "operators": iam.Role(stack, "Operators", assumed_by=iam.AccountRootPrincipal()),
        "database": rds.DatabaseInstance(
            stack, "Database", engine=rds.DatabaseInstanceEngine.MYSQL, vpc=around.cluster.vpc
        ),
    }


@pytest.mark.parametrize("example", blocks("python"), ids=lambda example: example.split('"')[1])
def test_every_example_synthesizes(example: str, app: cdk.App, stack: cdk.Stack) -> None:
    exec(compile(example, "README.md", "exec"), names_of_the_examples(app, stack))

    app.synth()


def test_the_function_for_snapshots_hides_the_hash_and_nothing_else(stack: cdk.Stack) -> None:
    names: dict[str, Any] = {"Any": Any, "Template": Template, "json": json, "re": re}
    [example] = [block for block in blocks("python") if "def stable" in block]
    exec(compile(example, "README.md", "exec"), names)
    scheduled(surroundings(stack))
    template = Template.from_stack(stack)

    found = names["stable"](template)

    assert only(found, "AWS::Lambda::Function")["Code"]["S3Key"] == "<ASSET_HASH>.zip"
    assert only(found, "AWS::SNS::Topic") == only(template.to_json(), "AWS::SNS::Topic")


# --- commands and links ---------------------------------------------------------------------------------


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))

    named = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", README, re.MULTILINE)
    assert {shell or prose for shell, prose in named} <= targets


def test_every_local_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https://)([^)]+)\)", README)
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }

    assert links
    for link in links:
        assert (link[1:] in headings) if link.startswith("#") else (REPOSITORY / link).exists(), link


# --- tables, picture, message ---------------------------------------------------------------------------


def readable_type(annotation: ast.expr) -> str:
    # Quoted where the module is not imported at run time.
    text = ast.unparse(annotation).strip("'").removesuffix(" | None")
    return text.replace("ScheduleLike", "events.Schedule | scheduler.ScheduleExpression").replace(" | ", " or ")


def in_code_font(type_: str) -> str:
    if type_.startswith("Sequence["):
        return f"`{type_}`"
    return " or ".join(f"`{part}`" for part in type_.split(" or "))


def readable_default(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if default is None:
        return "-"
    if isinstance(default, cdk.Duration):
        return default.to_human_string()
    if isinstance(default, cdk.TimeZone):
        return f"`{default.timezone_name}`"
    if isinstance(default, FailureTolerance):
        return f"`FailureTolerance.{default.kind}()`"
    return f"`{default.name}`" if isinstance(default, Enum) else f"`{default!r}`"


@pytest.mark.parametrize("which", CONSTRUCTS)
def test_the_table_of_arguments_is_the_signature(which: str) -> None:
    construct, text = CONSTRUCTS[which]
    source = textwrap.dedent(inspect.getsource(construct))
    [definition] = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef)
    parameters = inspect.signature(construct).parameters
    expected = []
    for argument in definition.args.kwonlyargs:
        assert argument.annotation is not None
        type_ = in_code_font(readable_type(argument.annotation))
        expected.append([f"`{argument.arg}`", type_, readable_default(parameters[argument.arg].default)])

    assert [row[:3] for row in table("Argument", text)] == expected


def test_the_table_of_retries_is_the_default() -> None:
    expected = [
        [
            f"`{name}`",
            f"{policy.max_attempts} times" if policy.max_attempts else "never",
            ", ".join(map(str, policy.ceilings)) or "-",
        ]
        for name, policy in LaunchRetry().budgets.items()
    ]

    assert [[row[0], *row[2:]] for row in table("`LaunchRetry`")] == expected


def types(stack: cdk.Stack) -> Counter[str]:
    return Counter(resource["Type"] for resource in template_of(stack)["Resources"].values())


def resources_told(text: str) -> dict[str, int]:
    return {type_: int(row[1]) for row in table("Resource", text) for type_ in re.findall(r"`(AWS::[\w:]+)`", row[0])}


def test_the_table_of_a_pipelines_resources_is_the_template(app: cdk.App) -> None:
    with_pipeline, without = cdk.Stack(app, "With"), cdk.Stack(app, "Without")
    pipeline(with_pipeline)
    # With its function that the CDK adds, and the custom resource that this carries out.
    bucket(without).enable_event_bridge_notification()

    assert resources_told(PIPELINE) == types(with_pipeline) - types(without)


def test_the_table_of_a_maps_resources_is_the_template(stack: cdk.Stack) -> None:
    processor(stack)

    assert resources_told(MAP) == types(stack)


def test_the_table_of_resources_is_the_template(app: cdk.App) -> None:
    with_task, without = cdk.Stack(app, "With"), cdk.Stack(app, "Without")
    scheduled(surroundings(with_task))
    surroundings(without)

    assert resources_told(SCHEDULED) == types(with_task) - types(without)


def test_the_table_of_a_spools_resources_is_the_template(app: cdk.App) -> None:
    with_spool, without = cdk.Stack(app, "With"), cdk.Stack(app, "Without")
    reprocessor(with_spool)
    machine(without)

    assert resources_told(SPOOLS) == types(with_spool) - types(without)


def test_the_table_of_actions_is_what_the_reprocessor_takes() -> None:
    told = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in table("Action", SPOOLS)}
    values = {"max": 2, "olderThanSeconds": 60, "dryRun": True}

    assert set(told) == set(ACTIONS)
    given = {name: values.get(name, "text") for name in told["reprocess"]}
    selection = reprocess_of({"action": "reprocess", **given}, most=10)
    assert selection.dry_run
    assert None not in asdict(selection.filters).values()


def test_the_picture_has_the_states_of_the_state_machine(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack))
    [picture] = blocks("mermaid", SCHEDULED)

    drawn = set(re.findall(r'[\[{]"([^"]+)"[\]}]', picture))
    not_drawn = {"No cause given", "Start counting", "Failed"}
    assert drawn == set(definition_of(stack)["States"]) - not_drawn


def test_the_picture_of_a_pipeline_has_the_states_of_its_state_machine(stack: cdk.Stack) -> None:
    pipeline(stack)
    [picture] = blocks("mermaid", PIPELINE)

    [asl] = [one for name, one in state_machines(template_of(stack)).items() if "Workflow" in name]
    assert set(re.findall(r'\["([^"]+)"\]', picture)) == set(asl["States"]) - {"Leave quota to the sweeper"}


def test_the_picture_of_a_map_has_the_states_of_its_state_machine(stack: cdk.Stack) -> None:
    processor(stack)
    [picture] = blocks("mermaid", MAP)

    [asl] = [one for name, one in state_machines(template_of(stack)).items() if "Workflow" in name]
    not_drawn = {"Run all again", "Run again what failed"} | {
        name for name in asl["States"] if name.startswith("Keep ")
    }
    assert set(re.findall(r'[\[{]"([^"]+)"[\]}]', picture)) == set(asl["States"]) - not_drawn


def test_the_message_is_one_that_the_alert_function_makes() -> None:
    event = failed(
        "States.TaskFailed",
        stopped_task(container(exit_code=3)),
        launch={"throttled": 0, "noCapacity": 2, "neverStarted": 0, "pause": 21},
    )
    alert = alert_from(event).with_log(["reading orders of 2026-03-01", "no such table: orders"])

    assert blocks("text") == [f"{alert.text}\n"]

"""Ticks that are delivered twice, on the embedded AWS: the real template, real tables, real tasks.

A second delivery is an execution with the same input. The rule and the schedule make the first one themselves.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_scheduler as scheduler

from constructs_lib import AlertFunction, Overlap
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy
from tests.end_to_end.test_definition_on_embedded_aws import BADLY, FOR_LONG, WELL, Account, eventually, job
from tests.scheduled import Surroundings, make_app, surroundings

TWICE = ["Is there a tick?", "Note the tick", "Delivered twice"]


# --- the stack -----------------------------------------------------------------------------------------------


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Ticking")
    around = surroundings(stack)
    alert = AlertFunction(stack, "Alert")
    once(around, "Once", alert, once_per_tick=True)
    once(around, "Tableless", alert, once_per_tick=True)
    once(around, "OnRule", alert, once_per_tick=True)
    once(around, "Waiting", alert, overlap=Overlap.WAIT)
    # It is due as soon as it is made.
    daily = scheduler.ScheduleExpression.rate(Duration.days(1))
    once(around, "OnSchedule", alert, overlap=Overlap.SKIP, schedule=daily, enabled=True)
    cdk.CfnOutput(stack, "TaskDefinitionOutput", value=around.task_definition.task_definition_arn)
    return stack


def once(around: Surroundings, id_: str, alert: AlertFunction, **options: Any) -> None:
    construct = job(around, id_, alert, **options)
    assert construct.ticks is not None
    cdk.CfnOutput(around.stack, f"{id_}TicksOutput", value=construct.ticks.table.table_name)
    if construct.rule is not None:
        cdk.CfnOutput(around.stack, f"{id_}RuleOutput", value=construct.rule.rule_name)


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    app = make_app(tmp_path_factory.mktemp("ticks"))
    stack = make_stack(app)
    outputs = deploy(embedded_aws, Path(app.synth().directory), stack.artifact_id)
    yield Account(embedded_aws, outputs)
    embedded_aws.reset()


@pytest.fixture
def tick(request: pytest.FixtureRequest) -> dict[str, str]:
    """A tick that no other test has."""
    return {"time": f"2026-03-01T02:00:00Z, {request.node.name}"}


def entered(account: Account, execution: str) -> list[str]:
    pages = account.aws.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=execution)
    events = [event for page in pages for event in page["events"]]
    return [event["stateEnteredEventDetails"]["name"] for event in events if event["type"].endswith("StateEntered")]


def only_execution(account: Account, name: str) -> str:
    """The first execution of a job, as soon as something started it."""
    states = account.aws.client("stepfunctions")
    machine = account.outputs[f"{name}Machine"]
    [found] = eventually(
        lambda: states.list_executions(stateMachineArn=machine)["executions"], f"an execution of {name}"
    )
    return str(found["executionArn"])


def noted(account: Account, name: str, time: str) -> str | None:
    """The execution that a tick was noted for."""
    table = account.outputs[f"{name}Ticks"]
    item = account.aws.client("dynamodb").get_item(TableName=table, Key={"tick": {"S": time}}).get("Item")
    return str(item["execution"]["S"]) if item else None


def assert_delivered_twice(account: Account, execution: str) -> None:
    ended = account.ended(execution)
    assert ended["status"] == "SUCCEEDED"
    assert json.loads(ended["output"])["tick"]["duplicate"] is True
    assert entered(account, execution) == TWICE
    assert account.launches(execution) == 0


# --- executions with the same input --------------------------------------------------------------------------


def test_the_same_tick_after_the_end_of_the_first_run_is_not_run_again(account: Account, tick: dict[str, str]) -> None:
    first = account.start("Once", commands=WELL, tick=tick)
    ended = account.ended(first)
    assert (ended["status"], account.launches(first)) == ("SUCCEEDED", 1)
    assert json.loads(ended["output"])["tick"] == tick
    assert noted(account, "Once", tick["time"]) == first

    assert_delivered_twice(account, account.start("Once", commands=WELL, tick=tick))
    assert noted(account, "Once", tick["time"]) == first


def test_a_run_that_failed_is_not_run_again_either(account: Account, tick: dict[str, str]) -> None:
    first = account.start("Once", commands=BADLY, tick=tick)
    assert account.ended(first)["status"] == "FAILED"
    assert_delivered_twice(account, account.start("Once", commands=BADLY, tick=tick))


def test_of_many_at_once_one_is_run(account: Account, tick: dict[str, str]) -> None:
    def deliver(_: int) -> str:
        return account.start("Once", commands=WELL, tick=tick)

    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(deliver, range(8)))
    assert {account.ended(one)["status"] for one in started} == {"SUCCEEDED"}
    [ran] = [one for one in started if account.launches(one)]
    assert noted(account, "Once", tick["time"]) == ran
    for one in set(started) - {ran}:
        assert_delivered_twice(account, one)


def test_a_second_delivery_does_not_wait_for_the_first_run(account: Account, tick: dict[str, str]) -> None:
    first = account.start("Waiting", commands=FOR_LONG, tick=tick)
    eventually(lambda: account.launches(first), "the launch")
    assert_delivered_twice(account, account.start("Waiting", commands=FOR_LONG, tick=tick))
    states = account.aws.client("stepfunctions")
    assert states.describe_execution(executionArn=first)["status"] == "RUNNING"
    states.stop_execution(executionArn=first)
    assert account.ended(first)["status"] == "ABORTED"


def test_an_older_tick_that_comes_late_is_run(account: Account, tick: dict[str, str]) -> None:
    for time in (f"2026-03-02, {tick['time']}", f"2026-03-01, {tick['time']}"):
        execution = account.start("Once", commands=WELL, tick={"time": time})
        assert account.ended(execution)["status"] == "SUCCEEDED"
        assert account.launches(execution) == 1


def test_a_run_by_hand_is_always_run(account: Account) -> None:
    for _ in range(2):
        execution = account.start("Once", commands=WELL)
        assert account.ended(execution)["status"] == "SUCCEEDED"
        assert entered(account, execution) == ["Is there a tick?", "Run task"]


def test_an_execution_whose_write_lost_its_answer_is_run(account: Account, tick: dict[str, str]) -> None:
    """The write is tried again then, and finds what it wrote itself."""
    machine = account.outputs["OnceMachine"]
    execution = f"{machine.replace(':stateMachine:', ':execution:')}:answer-lost"
    account.aws.client("dynamodb").put_item(
        TableName=account.outputs["OnceTicks"],
        Item={"tick": {"S": tick["time"]}, "execution": {"S": execution}},
    )
    started = account.aws.client("stepfunctions").start_execution(
        stateMachineArn=machine, name="answer-lost", input=json.dumps({"commands": WELL, "tick": tick})
    )
    assert started["executionArn"] == execution
    assert account.ended(execution)["status"] == "SUCCEEDED"
    assert account.launches(execution) == 1
    assert_delivered_twice(account, account.start("Once", commands=WELL, tick=tick))


def test_without_its_table_a_job_is_run_all_the_same(account: Account, tick: dict[str, str]) -> None:
    account.aws.client("dynamodb").delete_table(TableName=account.outputs["TablelessTicks"])
    execution = account.start("Tableless", commands=WELL, tick=tick)
    assert account.ended(execution)["status"] == "SUCCEEDED"
    assert account.launches(execution) == 1


# --- what starts it ------------------------------------------------------------------------------------------


def test_a_rule_tells_the_time_of_its_event(account: Account) -> None:
    """The rule is given a pattern, so that it need not be waited for; its target stays as it was deployed."""
    rules = account.aws.client("events")
    pattern = json.dumps({"source": ["tests.ticks"]})
    rules.put_rule(Name=account.outputs["OnRuleRule"], EventPattern=pattern, State="ENABLED")
    rules.put_events(Entries=[{"Source": "tests.ticks", "DetailType": "Scheduled Event", "Detail": "{}"}])
    assert_told_and_run_once(account, "OnRule")


def test_a_schedule_tells_when_it_was_due(account: Account) -> None:
    assert_told_and_run_once(account, "OnSchedule")


def assert_told_and_run_once(account: Account, name: str) -> None:
    first = only_execution(account, name)
    ended = account.ended(first)
    assert (ended["status"], account.launches(first)) == ("SUCCEEDED", 1)
    input_ = json.loads(ended["input"])
    assert input_["commands"] == WELL
    time = input_["tick"]["time"]
    assert time == datetime.fromisoformat(time).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert noted(account, name, time) == first

    assert_delivered_twice(account, account.start(name, **input_))

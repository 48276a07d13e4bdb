"""One observation per correction: the corrected emulator shows what AWS documents, stock MiniStack does not.

When `test_stock_still_differs` fails, MiniStack has learnt it: the correction can go.
"""

import contextlib
import gzip
import importlib
import inspect
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import embedded_aws
from embedded_aws import EmbeddedAws
from embedded_aws.corrections import MODULES
from embedded_aws.corrections.registry import CORRECTIONS
from tests.embedded_aws.machines import (
    ROLE,
    ending,
    make_function,
    make_machine,
    make_task,
    run,
    run_task,
    start,
    stopped_task,
    task,
)


@dataclass(frozen=True)
class Observation:
    correction: str
    observe: Callable[[EmbeddedAws], Any]
    on_aws: Any
    certain_on_stock: bool
    """Whether stock MiniStack differs each time. A race or a clock may hide it."""


OBSERVATIONS: list[Observation] = []


def on_aws(
    correction: str, expected: Any, *, certain_on_stock: bool = True
) -> Callable[[Callable[[EmbeddedAws], Any]], Any]:
    """The decorated function observes the named correction; on AWS it would see `expected`."""

    def register(observe: Callable[[EmbeddedAws], Any]) -> Callable[[EmbeddedAws], Any]:
        OBSERVATIONS.append(Observation(correction, observe, expected, certain_on_stock))
        return observe

    return register


def parameters(**fields: Any) -> dict[str, Any]:
    return {"Type": "Pass", "Parameters": fields, "End": True}


# Paths, templates, intrinsic functions, Choice, Wait


@on_aws("a_path_that_leads_nowhere_is_an_error", ("FAILED", "States.Runtime"))
def _(aws: EmbeddedAws) -> Any:
    end = run(aws, {"Pass": {"Type": "Pass", "InputPath": "$.missing", "End": True}})
    return end.status, end.error


@on_aws("a_path_that_leads_nowhere_is_an_error", [1])
def _(aws: EmbeddedAws) -> Any:
    data = {"containers": [{"name": "app", "code": 1}, {"name": "log", "code": 0}]}
    return run(
        aws, {"Pass": {"Type": "Pass", "InputPath": "$.containers[?(@.name=='app')].code", "End": True}}, data=data
    ).output


@on_aws(
    "a_template_names_the_path_it_misses",
    "An error occurred while executing the state 'Pass' (entered at the event id #2). The JSONPath '$.x' specified "
    "for the field 'y.$' could not be found in the input '{\"a\":1}'",
)
def _(aws: EmbeddedAws) -> Any:
    return run(aws, {"Pass": parameters(**{"y.$": "$.x"})}, data={"a": 1}).cause


@on_aws("the_context_object_has_a_root", ["Execution", "State", "StateMachine"])
def _(aws: EmbeddedAws) -> Any:
    return sorted(run(aws, {"Pass": parameters(**{"all.$": "$$"})}).output["all"] or [])


@on_aws("a_failing_intrinsic_fails_the_execution", ("FAILED", "States.Runtime"))
def _(aws: EmbeddedAws) -> Any:
    parse = parameters(**{"json.$": "States.StringToJson('{cut off')"})
    branch = {"StartAt": "Parse", "States": {"Parse": parse}}
    end = run(aws, {"Both": {"Type": "Parallel", "Branches": [branch], "End": True}})
    return end.status, end.error


@on_aws("a_path_argument_may_hold_a_filter", {"code": 7})
def _(aws: EmbeddedAws) -> Any:
    expression = "States.ArrayGetItem($.containers[?(@.name=='app')].code, 0)"
    data = {"containers": [{"name": "log", "code": 0}, {"name": "app", "code": 7}]}
    return run(aws, {"Pass": parameters(**{"code.$": expression})}, data=data).output


@on_aws("intrinsics_compute_as_documented", ({0}, "true null 1"))
def _(aws: EmbeddedAws) -> Any:
    draw = {"random.$": "States.MathRandom(0, 1)", "text.$": "States.Format('{} {} {}', true, null, 1)"}
    inner = {"StartAt": "Draw", "States": {"Draw": parameters(**draw)}}
    each = {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": inner, "End": True}
    output = run(aws, {"Each": each}, data={"items": list(range(20))}).output
    return {result["random"] for result in output}, output[0]["text"]


def choice(rule: dict[str, Any], data: Any) -> dict[str, Any]:
    return {
        "Choose": {"Type": "Choice", "Choices": [{**rule, "Next": "Yes"}], "Default": "No"},
        "Yes": {"Type": "Pass", "Result": "yes", "End": True},
        "No": {"Type": "Pass", "Result": "no", "End": True},
    }


@on_aws("choice_rules_are_complete", "yes")
def _(aws: EmbeddedAws) -> Any:
    return run(aws, choice({"Variable": "$.x", "IsPresent": True}, None), data={"x": None}).output


@on_aws("choice_rules_are_complete", "yes")
def _(aws: EmbeddedAws) -> Any:
    return run(aws, choice({"Variable": "$.x", "StringMatches": "a\\*b*"}, None), data={"x": "a*bcd"}).output


@on_aws("choice_rules_are_complete", "yes")
def _(aws: EmbeddedAws) -> Any:
    return run(aws, choice({"Variable": "$.x", "StringGreaterThanPath": "$.y"}, None), data={"x": "b", "y": "a"}).output


@on_aws("choice_rules_are_complete", ("FAILED", "States.Runtime"))
def _(aws: EmbeddedAws) -> Any:
    end = run(aws, choice({"Variable": "$.x", "NumericEquals": 1}, None))
    return end.status, end.error


@on_aws("a_wait_needs_whole_seconds", ("FAILED", "States.Runtime"))
def _(aws: EmbeddedAws) -> Any:
    end = run(aws, {"Wait": {"Type": "Wait", "SecondsPath": "$.pause", "End": True}}, data={"pause": "soon"})
    return end.status, end.error


# Starting and ending


@on_aws("start_execution_is_idempotent", (True, "ExecutionAlreadyExists", "ExecutionAlreadyExists"))
def _(aws: EmbeddedAws) -> Any:
    sfn = aws.client("stepfunctions")
    wait = {"Type": "Wait", "Seconds": 50, "End": True}
    machine = make_machine(aws, {"StartAt": "Wait", "States": {"Wait": wait}})

    def begin(data: str) -> Any:
        try:
            return sfn.start_execution(stateMachineArn=machine, name="one", input=data)["executionArn"]
        except sfn.exceptions.ExecutionAlreadyExists:
            return "ExecutionAlreadyExists"

    first, second, other = begin("{}"), begin("{}"), begin('{"a": 1}')
    ending(aws, first)
    return first == second, other, begin("{}")


@on_aws("start_execution_is_idempotent", ["InvalidName", "InvalidName", "InvalidExecutionInput"])
def _(aws: EmbeddedAws) -> Any:
    sfn = aws.client("stepfunctions")
    machine = make_machine(aws, {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}})
    refused = []
    for name, data in (("x" * 80 + "y", "{}"), ("a b", "{}"), ("ok", "{cut off")):
        try:
            sfn.start_execution(stateMachineArn=machine, name=name, input=data)
        except (sfn.exceptions.InvalidName, sfn.exceptions.InvalidExecutionInput) as error:
            refused.append(error.response["Error"]["Code"])
    return refused


@on_aws("an_execution_has_a_timeout", ("TIMED_OUT", "ExecutionTimedOut"))
def _(aws: EmbeddedAws) -> Any:
    end = run(aws, {"Wait": {"Type": "Wait", "Seconds": 300, "End": True}}, TimeoutSeconds=1, within=2)
    return end.status, end.types[-1]


@on_aws("stop_execution_stops_the_work", ("ABORTED", "STOPPED", "UserInitiated"))
def _(aws: EmbeddedAws) -> Any:
    family = make_task(aws, {"command": ["sleep", "60"]})
    execution = start(aws, {"Run": run_task(family)})
    stopped_task(aws, family, within=0.5)
    aws.client("stepfunctions").stop_execution(executionArn=execution)
    description = stopped_task(aws, family, within=2)
    return ending(aws, execution).status, description["lastStatus"], description.get("stopCode")


@on_aws("an_execution_ends_once", "ABORTED")
def _(aws: EmbeddedAws) -> Any:
    queue = make_queue(aws)
    say_so = f"boto3.client('sqs').send_message(QueueUrl='{queue}', MessageBody='1')"
    name = make_function(aws, f"time.sleep(1)\n{say_so}\nraise ValueError('late')")
    # Once before, so that its process is there.
    aws.client("lambda").invoke(FunctionName=name)
    received(aws, queue)
    execution = start(aws, {"Call": task("lambda:invoke", {"FunctionName": name})})
    time.sleep(0.5)
    aws.client("stepfunctions").stop_execution(executionArn=execution)
    received(aws, queue, within=20)
    time.sleep(1)
    return ending(aws, execution).status


@on_aws("a_pause_ends_with_its_execution", True)
def _(aws: EmbeddedAws) -> Any:
    family = make_task(aws, {"command": ["true"]})
    child = {
        "StartAt": "Wait",
        "States": {"Wait": {"Type": "Wait", "Seconds": 100, "Next": "Run"}, "Run": run_task(family)},
    }
    failing = {"StartAt": "Fail", "States": {"Fail": {"Type": "Fail", "Error": "Early"}}}
    both = {"Type": "Parallel", "Branches": [child, failing], "End": True}
    started = time.monotonic()
    run(aws, {"Both": both}, within=2)
    return time.monotonic() - started < 0.9


@on_aws("a_task_that_timed_out_is_stopped", ("States.Timeout", "STOPPED"))
def _(aws: EmbeddedAws) -> Any:
    family = make_task(aws, {"command": ["sleep", "60"]})
    end = run(aws, {"Run": run_task(family, TimeoutSeconds=1)})
    return end.error, stopped_task(aws, family, within=2)["lastStatus"]


@on_aws("branches_end_together", ("Early", False))
def _(aws: EmbeddedAws) -> Any:
    table = make_table(aws)
    put = task("dynamodb:putItem", {"TableName": table, "Item": {"id": {"S": "late"}}})
    slow = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 50, "Next": "Put"}, "Put": put}}
    failing = {"StartAt": "Fail", "States": {"Fail": {"Type": "Fail", "Error": "Early"}}}
    end = run(aws, {"Both": {"Type": "Parallel", "Branches": [slow, failing], "End": True}})
    time.sleep(0.7)
    return end.error, bool(aws.client("dynamodb").scan(TableName=table)["Count"])


@on_aws("branches_write_history", ["A", "B"])
def _(aws: EmbeddedAws) -> Any:
    # Both branches ask for the name of their state once more after a pause in which the other has set its own.
    name = make_function(aws, "assert event['count']\nreturn event['name']")
    payload = {"name.$": "$$.State.Name", "count.$": "$$.State.RetryCount"}
    retry = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 100}]
    call = task("lambda:invoke", {"FunctionName": name, "Payload": payload}, Retry=retry, OutputPath="$.Payload")
    branches = [{"StartAt": state, "States": {state: call}} for state in "AB"]
    return run(aws, {"Both": {"Type": "Parallel", "Branches": branches, "End": True}}).output


@on_aws("an_execution_has_a_timeout", ["ABORTED"])
def _(aws: EmbeddedAws) -> Any:
    sfn = aws.client("stepfunctions")
    child = make_machine(aws, {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 500, "End": True}}})
    parent = start(aws, {"Child": task("states:startExecution.sync:2", {"StateMachineArn": child})})
    time.sleep(0.6)
    sfn.stop_execution(executionArn=parent)
    time.sleep(0.3)
    return [execution["status"] for execution in sfn.list_executions(stateMachineArn=child)["executions"]]


# Errors, Retry and Catch


def caught(state: dict[str, Any]) -> dict[str, Any]:
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]
    return {"Try": {**state, "Catch": catch}, "Caught": {"Type": "Pass", "End": True}}


@on_aws("terminal_errors_are_not_caught", ("FAILED", "States.Runtime"))
def _(aws: EmbeddedAws) -> Any:
    selector = {"x.$": "$.missing"}
    end = run(
        aws, caught(task("sqs:sendMessage", {"QueueUrl": make_queue(aws), "MessageBody": "x"}, ResultSelector=selector))
    )
    return end.status, end.error


@on_aws("times_may_be_given_by_paths", "States.Timeout")
def _(aws: EmbeddedAws) -> Any:
    send = {"QueueUrl": make_queue(aws), "MessageBody.$": "$$.Task.Token"}
    wait = task("sqs:sendMessage.waitForTaskToken", send, TimeoutSecondsPath="$.limit")
    return run(aws, {"Wait": wait}, data={"limit": 1}, within=2).error


@on_aws("a_retry_waits_as_it_says", True)
def _(aws: EmbeddedAws) -> Any:
    retry = {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 300, "MaxDelaySeconds": 1, "MaxAttempts": 5}
    started = time.monotonic()
    run(aws, {"Call": task("lambda:invoke", {"FunctionName": "missing"}, Retry=[retry])})
    return time.monotonic() - started < 2.5


@on_aws("a_retry_waits_as_it_says", True)
def _(aws: EmbeddedAws) -> Any:
    queue = make_queue(aws)
    send = {"QueueUrl": queue, "MessageBody.$": "$$.Task.Token"}
    retry = [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]
    start(aws, {"Wait": task("sqs:sendMessage.waitForTaskToken", send, TimeoutSeconds=1, Retry=retry)})
    first, second = received(aws, queue, text=True), received(aws, queue, text=True)
    return first != second


@on_aws("payloads_have_a_limit", "States.DataLimitExceeded")
def _(aws: EmbeddedAws) -> Any:
    table = make_table(aws)
    aws.client("dynamodb").put_item(TableName=table, Item={"id": {"S": "big"}, "text": {"S": "x" * 300_000}})
    return run(aws, caught(task("dynamodb:getItem", {"TableName": table, "Key": {"id": {"S": "big"}}}))).error


@on_aws("payloads_have_a_limit", ["States.DataLimitExceeded"] * 2)
def _(aws: EmbeddedAws) -> Any:
    half = "x" * 140_000
    both = {"first.$": "$.half", "second.$": "$.half"}
    send = task("sqs:sendMessage", {"QueueUrl": make_queue(aws), "MessageBody": both})
    return [
        run(aws, states, data={"half": half}).error
        for states in (caught(send), {"Pass": parameters(**both), "Done": {"Type": "Succeed"}})
    ]


@on_aws("an_error_of_sqs_is_an_exception", ["SQS.QueueDoesNotExistException", "SQS.AmazonSQSException"])
def _(aws: EmbeddedAws) -> Any:
    queue = make_queue(aws)
    missing = run(aws, {"Send": task("sqs:sendMessage", {"QueueUrl": f"{queue}-not", "MessageBody": "x"})})
    aws.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"MaximumMessageSize": "1024"})
    long = run(aws, {"Send": task("sqs:sendMessage", {"QueueUrl": queue, "MessageBody": "x" * 1025})})
    return [missing.error, long.error]


@on_aws("a_validation_error_has_the_general_name", "DynamoDB.AmazonDynamoDBException")
def _(aws: EmbeddedAws) -> Any:
    return run(aws, {"Get": task("dynamodb:getItem", {"TableName": make_table(aws), "Key": {"no": {"S": "x"}}})}).error


@on_aws("a_throttled_function_has_a_name", "Lambda.TooManyRequestsException")
def _(aws: EmbeddedAws) -> Any:
    name = make_function(aws, "return 1")
    aws.client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    return run(aws, {"Call": task("lambda:invoke", {"FunctionName": name})}).error


@on_aws("a_failing_child_fails_the_task", "States.TaskFailed")
def _(aws: EmbeddedAws) -> Any:
    child = make_machine(aws, {"StartAt": "Fail", "States": {"Fail": {"Type": "Fail", "Error": "Mine"}}})
    return run(aws, {"Child": task("states:startExecution.sync:2", {"StateMachineArn": child})}).error


@on_aws("errors_have_the_name_of_their_class", ("KeyError", "'id'", True))
def _(aws: EmbeddedAws) -> Any:
    name = make_function(aws, "return {}['id']")
    end = run(aws, {"Call": task("lambda:invoke", {"FunctionName": name})})
    cause = json.loads(end.cause) if end.cause.startswith("{") else {}
    return end.error, cause.get("errorMessage"), "stackTrace" in cause


# History and events


@on_aws("nothing_happens_after_the_end", ["TaskScheduled", "TaskStarted", "TaskSucceeded", "sqs", "sendMessage"])
def _(aws: EmbeddedAws) -> Any:
    end = run(aws, {"Send": task("sqs:sendMessage", {"QueueUrl": make_queue(aws), "MessageBody": "x"})})
    scheduled = end.events[2]["taskScheduledEventDetails"]
    return [*end.types[2:5], scheduled["resourceType"], scheduled["resource"]]


@on_aws("branches_write_history", 4)
def _(aws: EmbeddedAws) -> Any:
    branch = {"StartAt": "One", "States": {"One": {"Type": "Pass", "End": True}}}
    types = run(aws, {"Both": {"Type": "Parallel", "Branches": [branch, branch], "End": True}}).types
    return sum(kind.startswith("PassState") for kind in types)


@on_aws("branches_end_together", ["ParallelStateStarted", "ParallelStateSucceeded"])
def _(aws: EmbeddedAws) -> Any:
    branch = {"StartAt": "One", "States": {"One": {"Type": "Succeed"}}}
    types = run(aws, {"Both": {"Type": "Parallel", "Branches": [branch], "End": True}}).types
    return [kind for kind in types if kind.startswith("ParallelState") and not kind.endswith(("Entered", "Exited"))]


@on_aws("iterations_end_together", ["MapStateStarted", "MapStateSucceeded"])
def _(aws: EmbeddedAws) -> Any:
    inner = {"StartAt": "One", "States": {"One": {"Type": "Succeed"}}}
    types = run(
        aws, {"Each": {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": inner, "End": True}}, data={"items": [1]}
    ).types
    return [kind for kind in types if kind.startswith("MapState") and not kind.endswith(("Entered", "Exited"))]


@on_aws("every_end_is_an_event", ("ABORTED", "Enough", "Because", "REDRIVABLE"))
def _(aws: EmbeddedAws) -> Any:
    queue = make_queue(aws)
    execution = start(aws, {"Wait": {"Type": "Wait", "Seconds": 500, "End": True}})
    watch(aws, queue, execution, "ABORTED")
    aws.client("stepfunctions").stop_execution(executionArn=execution, error="Enough", cause="Because")
    detail = received(aws, queue)["detail"]
    return detail["status"], detail["error"], detail["cause"], detail["redriveStatus"]


# Redrive


def redrive(aws: EmbeddedAws, execution: str, **fields: Any) -> Any:
    """When the execution was redriven, or the name of the error."""
    try:
        return aws.client("stepfunctions").redrive_execution(executionArn=execution, **fields)["redriveDate"]
    except ClientError as error:
        return error.response["Error"]["Code"]


def gate(aws: EmbeddedAws) -> tuple[str, dict[str, Any]]:
    """A table, and a task that fails as long as its only item is there."""
    table = make_table(aws)
    item = {"id": {"S": "once"}}
    aws.client("dynamodb").put_item(TableName=table, Item=item)
    put = {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(id)"}
    return table, task("dynamodb:putItem", put)


def open_gate(aws: EmbeddedAws, table: str) -> None:
    aws.client("dynamodb").delete_item(TableName=table, Key={"id": {"S": "once"}})


def counted(aws: EmbeddedAws, **fields: Any) -> tuple[str, dict[str, Any]]:
    """A queue, and a task that sends one message to it."""
    queue = make_queue(aws)
    return queue, task("sqs:sendMessage", {"QueueUrl": queue, "MessageBody": "x"}, ResultPath=None, **fields)


def messages(aws: EmbeddedAws, queue: str) -> int:
    count = "ApproximateNumberOfMessages"
    return int(aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=[count])["Attributes"][count])


@on_aws(
    "an_execution_can_be_redriven",
    (
        "FAILED",
        "SUCCEEDED",
        {"kept": [1], "redrives": 1},
        1,
        ["ExecutionFailed", "ExecutionRedriven", "TaskScheduled", "TaskStarted", "TaskSucceeded", "TaskStateExited"],
    ),
)
def _(aws: EmbeddedAws) -> Any:
    # The first state sends its message once, and what it made of its input is there after the redrive.
    queue, send = counted(aws)
    table, put = gate(aws)
    tell = parameters(**{"kept.$": "$.kept", "redrives.$": "$$.Execution.RedriveCount"})
    failed = run(
        aws,
        {
            "Keep": {"Type": "Pass", "Parameters": {"kept.$": "States.Array($.a)"}, "Next": "Send"},
            "Send": {**without(send, "End"), "Next": "Put"},
            "Put": {**without(put, "End"), "ResultPath": None, "Next": "Tell"},
            "Tell": tell,
        },
        data={"a": 1},
    )
    open_gate(aws, table)
    redrive(aws, failed.arn)
    end = ending(aws, failed.arn)
    position = end.types.index("ExecutionFailed") if "ExecutionFailed" in end.types else 0
    return failed.status, end.status, end.output, messages(aws, queue), end.types[position : position + 6]


def without(state: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != field}


@on_aws("an_execution_can_be_redriven", ("SUCCEEDED", 1))
def _(aws: EmbeddedAws) -> Any:
    # Of two branches the one that has failed runs again, from the state where it was.
    queue, send = counted(aws)
    table, put = gate(aws)
    fails = {
        "StartAt": "Send",
        "States": {
            "Send": {**without(send, "End"), "Next": "Pause"},
            "Pause": {"Type": "Wait", "Seconds": 30, "Next": "Put"},
            "Put": put,
        },
    }
    succeeds = {"StartAt": "Pass", "States": {"Pass": parameters(**{"entered.$": "$$.State.EnteredTime"})}}
    failed = run(aws, {"Both": {"Type": "Parallel", "Branches": [succeeds, fails], "End": True}})
    open_gate(aws, table)
    redrive(aws, failed.arn)
    return ending(aws, failed.arn).status, messages(aws, queue)


@on_aws("an_execution_can_be_redriven", ("SUCCEEDED", [1, 2, 3], 3))
def _(aws: EmbeddedAws) -> Any:
    # Of three iterations those run again that have failed or were stopped.
    queue, send = counted(aws)
    table, put = gate(aws)
    choose = {"Type": "Choice", "Choices": [{"Variable": "$", "NumericEquals": 2, "Next": "Put"}], "Default": "Done"}
    states = {
        "Send": {**without(send, "End"), "Next": "Choose"},
        "Choose": choose,
        "Put": {**put, "ResultPath": None},
        "Done": {"Type": "Succeed"},
    }
    each = {"Type": "Map", "ItemProcessor": {"StartAt": "Send", "States": states}, "MaxConcurrency": 1, "End": True}
    failed = run(aws, {"Each": {**each, "ItemsPath": "$.items"}}, data={"items": [1, 2, 3]})
    open_gate(aws, table)
    redrive(aws, failed.arn)
    end = ending(aws, failed.arn)
    return end.status, end.output, messages(aws, queue)


@on_aws("an_execution_can_be_redriven", (1, [("FAILED", 1), ("RUNNING", 1)], ["FailStateEntered", "ExecutionFailed"]))
def _(aws: EmbeddedAws) -> Any:
    # A Fail state that a Catch has led to fails again at once; the work is not done once more.
    _, work = gate(aws)
    fail = {"Fail": {"Type": "Fail", "Error": "Mine"}}
    failed = run(aws, {"Work": {**work, "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Fail"}]}, **fail})
    queue = make_queue(aws)
    watch(aws, queue, failed.arn, "RUNNING", "FAILED")
    redrive(aws, failed.arn)
    end = ending(aws, failed.arn)
    details = [(received(aws, queue) or {"detail": {}})["detail"] for _ in range(2)]
    told = sorted((str(detail.get("status")), int(detail.get("redriveCount", 0))) for detail in details)
    return end.types.count("TaskFailed"), told, end.types[-2:]


@on_aws("an_execution_can_be_redriven", ("ABORTED", "TIMED_OUT", "TIMED_OUT", "SUCCEEDED"))
def _(aws: EmbeddedAws) -> Any:
    # One that was aborted goes on; its whole time-out begins again.
    sfn = aws.client("stepfunctions")
    execution, _ = waiting(aws, TimeoutSeconds=60)
    sfn.stop_execution(executionArn=execution)
    statuses = [ending(aws, execution).status]
    queue = make_queue(aws)
    send = {"QueueUrl": queue, "MessageBody.$": "$$.Task.Token"}
    execution = start(aws, {"Wait": task("sqs:sendMessage.waitForTaskToken", send)}, TimeoutSeconds=1)
    received(aws, queue, within=8, text=True)
    statuses.append(ending(aws, execution, within=3).status)
    redrive(aws, execution)
    received(aws, queue, text=True)
    statuses.append(ending(aws, execution, within=3).status)
    redrive(aws, execution)
    answer(aws, "send_task_success", received(aws, queue, text=True), output="{}")
    return (*statuses, ending(aws, execution).status)


@on_aws("an_execution_can_be_redriven", ("SUCCEEDED", 1))
def _(aws: EmbeddedAws) -> Any:
    # The call of the attempt before fails while the one of the redrive is under way: nobody hears of it.
    name = make_function(aws, "time.sleep(1 + event['redrives'])\nassert event['redrives']\nreturn event['redrives']")
    aws.client("lambda").invoke(FunctionName=name, Payload='{"redrives": 1}')
    call = {"FunctionName": name, "Payload": {"redrives.$": "$$.Execution.RedriveCount"}}
    execution = start(aws, {"Call": task("lambda:invoke", call, OutputPath="$.Payload")})
    time.sleep(0.4)
    with contextlib.suppress(ClientError):  # On stock it has failed by now.
        aws.client("stepfunctions").stop_execution(executionArn=execution)
    redrive(aws, execution)
    end = ending(aws, execution)
    return end.status, end.output


@on_aws("an_execution_can_be_redriven", ["ExecutionNotRedrivable", "ExecutionNotRedrivable", "ExecutionDoesNotExist"])
def _(aws: EmbeddedAws) -> Any:
    done = run(aws, {"Done": {"Type": "Succeed"}}).arn
    running = start(aws, {"Wait": {"Type": "Wait", "Seconds": 800, "End": True}})
    return [redrive(aws, execution) for execution in (done, running, f"{done}-not")]


@on_aws("an_execution_can_be_redriven", (True, 1, "ExecutionNotRedrivable"))
def _(aws: EmbeddedAws) -> Any:
    # The same request again is no second redrive.
    execution = start(aws, {"Wait": {"Type": "Wait", "Seconds": 800, "End": True}})
    aws.client("stepfunctions").stop_execution(executionArn=execution)
    first, second = (redrive(aws, execution, clientToken="one") for _ in range(2))
    count = aws.client("stepfunctions").describe_execution(executionArn=execution).get("redriveCount")
    return first == second and not isinstance(first, str), count, redrive(aws, execution, clientToken="two")


@on_aws(
    "an_execution_tells_of_its_redrives",
    [
        (0, "NOT_REDRIVABLE", "Execution is RUNNING and cannot be redriven", False),
        (0, "REDRIVABLE", None, False),
        (1, "NOT_REDRIVABLE", "Execution is RUNNING and cannot be redriven", True),
    ],
)
def _(aws: EmbeddedAws) -> Any:
    sfn = aws.client("stepfunctions")
    execution = start(aws, {"Wait": {"Type": "Wait", "Seconds": 800, "End": True}})

    def description() -> Any:
        told = sfn.describe_execution(executionArn=execution)
        return *(told.get(f"redrive{what}") for what in ("Count", "Status", "StatusReason")), "redriveDate" in told

    seen = [description()]
    sfn.stop_execution(executionArn=execution)
    seen.append(description())
    redrive(aws, execution)
    return [*seen, description()]


@on_aws("an_execution_tells_of_its_redrives", ("FAILED", False))
def _(aws: EmbeddedAws) -> Any:
    failed = run(aws, {"Fail": {"Type": "Fail", "Error": "Mine"}}).arn
    told = aws.client("stepfunctions").describe_execution(executionArn=failed)
    return told["status"], "output" in told


@on_aws("an_execution_keeps_its_place", {"redrives": 0, "role": ROLE})
def _(aws: EmbeddedAws) -> Any:
    tell = parameters(**{"redrives.$": "$$.Execution.RedriveCount", "role.$": "$$.Execution.RoleArn"})
    return run(aws, {"Tell": tell}).output


@on_aws("a_list_tells_of_redrives", [1, 0])
def _(aws: EmbeddedAws) -> Any:
    return [execution.get("redriveCount") for execution in listed_after_redrive(aws)]


@on_aws("a_redrive_makes_an_execution_recent", [True, False])
def _(aws: EmbeddedAws) -> Any:
    return [execution["name"] == "first" for execution in listed_after_redrive(aws)]


def listed_after_redrive(aws: EmbeddedAws) -> Any:
    """Two executions that run; the first was redriven after the second was started."""
    sfn = aws.client("stepfunctions")
    wait = {"Type": "Wait", "Seconds": 800, "End": True}
    machine = make_machine(aws, {"StartAt": "Wait", "States": {"Wait": wait}})
    first = sfn.start_execution(stateMachineArn=machine, name="first")["executionArn"]
    sfn.stop_execution(executionArn=first)
    sfn.start_execution(stateMachineArn=machine, name="second")
    time.sleep(0.01)
    redrive(aws, first)
    return sfn.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"] or []


@on_aws("a_list_tells_of_redrives", (100, 1))
def _(aws: EmbeddedAws) -> Any:
    sfn = aws.client("stepfunctions")
    machine = make_machine(aws, {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}})
    for _ in range(101):
        sfn.start_execution(stateMachineArn=machine)
    first = sfn.list_executions(stateMachineArn=machine)
    token = first.get("nextToken")
    rest = sfn.list_executions(stateMachineArn=machine, nextToken=token)["executions"] if token else []
    return len(first["executions"]), len(rest)


# Distributed Map


def distributed(states: dict[str, Any], *, kind: str = "STANDARD", **fields: Any) -> dict[str, Any]:
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": kind},
        "StartAt": next(iter(states)),
        "States": states,
    }
    source = {} if "ItemReader" in fields else {"ItemsPath": "$.items"}
    return {"Each": {"Type": "Map", "ItemProcessor": processor, **source, "End": True, **fields}}


def map_run(aws: EmbeddedAws, execution: str) -> Any:
    sfn = aws.client("stepfunctions")
    [run] = sfn.list_map_runs(executionArn=execution)["mapRuns"]
    return sfn.describe_map_run(mapRunArn=run["mapRunArn"])


def children(aws: EmbeddedAws, run: Any) -> Any:
    return aws.client("stepfunctions").list_executions(mapRunArn=run["mapRunArn"])["executions"]


def counts(run: Any, of: str = "itemCounts") -> dict[str, int]:
    named = {name: run[of][name] for name in ("pending", "running", "succeeded", "failed", "aborted")}
    return {name: count for name, count in named.items() if count}


def make_bucket(aws: EmbeddedAws) -> str:
    bucket = f"bucket-{time.monotonic_ns()}"
    aws.client("s3").create_bucket(Bucket=bucket)
    return bucket


def stored(aws: EmbeddedAws, bucket: str, key: str) -> Any:
    try:
        return json.loads(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError:
        return {}


PAUSE = {"Type": "Wait", "Seconds": 500, "End": True}
KEEP = {"Type": "Pass", "End": True}


@on_aws("a_map_run_is_complete", ("ABORTED", {"ABORTED"}, {"pending": 1, "aborted": 2}))
def _(aws: EmbeddedAws) -> Any:
    parent = start(aws, distributed({"Wait": PAUSE}, MaxConcurrency=2), data={"items": [1, 2, 3]})
    time.sleep(0.5)
    aws.client("stepfunctions").stop_execution(executionArn=parent)
    time.sleep(0.3)
    run = map_run(aws, parent)
    return run["status"], {child["status"] for child in children(aws, run)}, counts(run)


@on_aws("a_map_run_is_complete", [{"BatchInput": {"day": 1}, "Items": items} for items in (["a", "b"], ["c"])])
def _(aws: EmbeddedAws) -> Any:
    batcher = {"MaxItemsPerBatch": 2, "BatchInput": {"day.$": "$.day"}}
    return run(aws, distributed({"Keep": KEEP}, ItemBatcher=batcher), data={"items": ["a", "b", "c"], "day": 1}).output


@on_aws("a_map_run_is_complete", ([2, 1], {"succeeded": 3}, {"succeeded": 2}))
def _(aws: EmbeddedAws) -> Any:
    # Two items of 100 bytes fit into 240 bytes together with what is around them, three do not.
    batcher = {"MaxItemsPerBatch": 10, "MaxInputBytesPerBatchPath": "$.most"}
    data = {"items": ["x" * 98] * 3, "most": 240}
    end = run(aws, distributed({"Keep": KEEP}, ItemBatcher=batcher), data=data)
    run_of = map_run(aws, end.arn)
    lengths = [len(batch["Items"]) if isinstance(batch, dict) else 1 for batch in end.output]
    return lengths, counts(run_of), counts(run_of, "executionCounts")


@on_aws(
    "a_map_run_is_complete", ("States.ExceedToleratedFailureThreshold", {"pending": 2, "failed": 2}, "MapRunFailed")
)
def _(aws: EmbeddedAws) -> Any:
    # The second failure is one too many: nothing is started after it.
    states = distributed({"Fail": {"Type": "Fail"}}, MaxConcurrency=1, ToleratedFailureCountPath="$.most")
    end = run(aws, states, data={"items": [1, 2, 3, 4], "most": 1})
    return end.error, counts(map_run(aws, end.arn)), end.types[-3]


FAIL_TWO = {
    "Which": {"Type": "Choice", "Choices": [{"Variable": "$", "NumericEquals": 2, "Next": "No"}], "Default": "Yes"},
    "No": {"Type": "Fail", "Error": "Two"},
    "Yes": {"Type": "Pass", "Result": "yes", "End": True},
}


@on_aws(
    "a_map_run_is_complete",
    ({"FAILED": ["Two"], "PENDING": [], "SUCCEEDED": ["yes", "yes"]}, ["MapRunArn", "ResultWriterDetails"], True),
)
def _(aws: EmbeddedAws) -> Any:
    bucket = make_bucket(aws)
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": bucket, "Prefix": "results"}}
    states = distributed(FAIL_TWO, ResultWriter=writer, ToleratedFailurePercentage=50)
    end = run(aws, states, data={"items": [1, 2, 3]})
    output = end.output if isinstance(end.output, dict) else {}
    key = output.get("ResultWriterDetails", {}).get("Key", "")
    files = stored(aws, bucket, key).get("ResultFiles", {}) if key else {}
    found = {
        status: [
            json.loads(child["Output"]) if status == "SUCCEEDED" else child["Error"]
            for file in files[status]
            for child in stored(aws, bucket, file["Key"])
        ]
        for status in files
    }
    arn = map_run(aws, end.arn)["mapRunArn"]
    return found, sorted(output), key == f"results/{arn.rsplit(':', 1)[-1]}/manifest.json"


@on_aws("a_map_run_is_complete", ("States.ResultWriterFailed", []))
def _(aws: EmbeddedAws) -> Any:
    table, put = gate(aws)
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": f"not-{table}"}}
    end = run(aws, distributed({"Put": put}, ResultWriter=writer), data={"items": [1]})
    return end.error, aws.client("stepfunctions").list_map_runs(executionArn=end.arn)["mapRuns"]


@on_aws("a_map_run_is_complete", ["yes", "Two", "yes"])
def _(aws: EmbeddedAws) -> Any:
    # A child that has failed within the tolerated number is described where the others have their output.
    end = run(aws, distributed(FAIL_TWO, ToleratedFailureCount=1), data={"items": [1, 2, 3]})
    return [each["Error"] if isinstance(each, dict) else each for each in end.output]


@on_aws("a_map_run_is_complete", (1, 3))
def _(aws: EmbeddedAws) -> Any:
    parent = start(aws, distributed({"Wait": PAUSE}, MaxConcurrency=1), data={"items": [1, 2, 3]})
    time.sleep(0.5)
    run = map_run(aws, parent)
    before = run["executionCounts"]["running"]
    aws.client("stepfunctions").update_map_run(mapRunArn=run["mapRunArn"], maxConcurrency=3)
    time.sleep(0.3)
    return before, map_run(aws, parent)["executionCounts"]["running"]


@on_aws(
    "a_map_run_is_complete",
    ("FAILED", "SUCCEEDED", 3, {"succeeded": 3}, [0, 0, 1], "MapRunRedriven"),
)
def _(aws: EmbeddedAws) -> Any:
    # The child that has failed goes on where it was, in the same map run; the third child begins only now.
    queue, send = counted(aws)
    table, put = gate(aws)
    choice = {"Type": "Choice", "Choices": [{"Variable": "$", "NumericEquals": 2, "Next": "Put"}], "Default": "Done"}
    states = {
        "Send": {**without(send, "End"), "Next": "Which"},
        "Which": choice,
        "Put": {**put, "ResultPath": None},
        "Done": {"Type": "Succeed"},
    }
    failed = run(aws, distributed(states, MaxConcurrency=1), data={"items": [1, 2, 3]})
    open_gate(aws, table)
    redrive(aws, failed.arn)
    end = ending(aws, failed.arn)
    run_of = map_run(aws, failed.arn)
    redrives = sorted(child.get("redriveCount", 0) for child in children(aws, run_of))
    told = [kind for kind in end.types if kind.startswith("MapRun")]
    return failed.status, end.status, messages(aws, queue), counts(run_of), redrives, told[2:3] and told[2]


@on_aws(
    "an_inventory_lists_objects",
    [{"Bucket": "b", "Key": "a/1", "Size": "10"}, {"Bucket": "b", "Key": "2", "Size": "0"}],
)
def _(aws: EmbeddedAws) -> Any:
    bucket = make_bucket(aws)
    storage = aws.client("s3")
    rows = '"b","a/1","10"\n"b","2","0"\n'
    storage.put_object(Bucket=bucket, Key="data/1.csv.gz", Body=gzip.compress(rows.encode()))
    manifest = {
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size",
        "files": [{"key": "data/1.csv.gz"}],
    }
    storage.put_object(Bucket=bucket, Key="manifest.json", Body=json.dumps(manifest))
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "MANIFEST"},
        "Parameters": {"Bucket": bucket, "Key": "manifest.json"},
    }
    return run(aws, distributed({"Keep": KEEP}, ItemReader=reader)).output


@on_aws("an_inventory_lists_objects", "States.ItemReaderFailed")
def _(aws: EmbeddedAws) -> Any:
    bucket = make_bucket(aws)
    aws.client("s3").put_object(Bucket=bucket, Key="items.json", Body="[cut off")
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Parameters": {"Bucket": bucket, "Key": "items.json"},
    }
    return run(aws, distributed({"Keep": KEEP}, ItemReader=reader)).error


@on_aws("backslashes_escape_in_a_csv_file", [{"path": "C:\\new\n", "size": "1,0"}, {"path": 'a "b"', "size": ""}])
def _(aws: EmbeddedAws) -> Any:
    bucket = make_bucket(aws)
    body = 'path,size\n"C:\\\\n\\ew\n",1\\,0\n"a ""b"""\n'
    aws.client("s3").put_object(Bucket=bucket, Key="items.csv", Body=body)
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"},
        "Parameters": {"Bucket": bucket, "Key": "items.csv"},
    }
    return run(aws, distributed({"Keep": KEEP}, ItemReader=reader)).output


# Callbacks


@on_aws("a_callback_task_can_fail", ("RuntimeError", "States.HeartbeatTimeout"))
def _(aws: EmbeddedAws) -> Any:
    name = make_function(aws, "raise RuntimeError('no')")
    call = {"FunctionName": name, "Payload": {"token.$": "$$.Task.Token"}}
    failing = run(aws, {"Call": task("lambda:invoke.waitForTaskToken", call, TimeoutSeconds=2)})
    send = {"QueueUrl": make_queue(aws), "MessageBody.$": "$$.Task.Token"}
    silent = run(aws, {"Wait": task("sqs:sendMessage.waitForTaskToken", send, HeartbeatSeconds=1, TimeoutSeconds=2)})
    return failing.error, silent.error


def waiting(aws: EmbeddedAws, **fields: Any) -> tuple[str, str]:
    """An execution that waits for a callback, and its token."""
    queue = make_queue(aws)
    send = {"QueueUrl": queue, "MessageBody.$": "$$.Task.Token"}
    execution = start(aws, {"Wait": task("sqs:sendMessage.waitForTaskToken", send, **fields)})
    return execution, received(aws, queue, within=8, text=True)


def answer(aws: EmbeddedAws, operation: str, token: str, **fields: Any) -> str:
    sfn = aws.client("stepfunctions")
    try:
        getattr(sfn, operation)(taskToken=token, **fields)
    except sfn.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return "accepted"


@on_aws("a_token_is_good_for_one_answer", ["TaskTimedOut", "InvalidToken", "InvalidOutput"])
def _(aws: EmbeddedAws) -> Any:
    execution, token = waiting(aws)
    aws.client("stepfunctions").stop_execution(executionArn=execution)
    return [
        answer(aws, "send_task_success", token, output="{}"),
        answer(aws, "send_task_success", "nobody's", output="{}"),
        answer(aws, "send_task_success", token, output="{cut off"),
    ]


@on_aws("a_token_is_good_for_one_failure", ["accepted", "TaskTimedOut"])
def _(aws: EmbeddedAws) -> Any:
    execution, token = waiting(aws)
    answers = [answer(aws, "send_task_failure", token, error="Mine")]
    ending(aws, execution)
    return [*answers, answer(aws, "send_task_failure", token, error="Mine")]


@on_aws("a_heartbeat_says_whether_the_task_waits", ["accepted", "TaskTimedOut"])
def _(aws: EmbeddedAws) -> Any:
    execution, token = waiting(aws)
    answers = [answer(aws, "send_task_heartbeat", token)]
    aws.client("stepfunctions").stop_execution(executionArn=execution)
    return [*answers, answer(aws, "send_task_heartbeat", token)]


# ECS


@on_aws("run_task_reports_as_aws_does", ("States.TaskFailed", "EssentialContainerExited", 3))
def _(aws: EmbeddedAws) -> Any:
    end = run(aws, {"Run": run_task(make_task(aws, {"command": ["sh", "-c", "exit 3"]}))}, within=2)
    cause = json.loads(end.cause) if end.cause.startswith("{") else {}
    return end.error, cause.get("StopCode"), cause.get("Containers", [{}])[0].get("ExitCode")


@on_aws("every_task_runs", "STOPPED")
def _(aws: EmbeddedAws) -> Any:
    family = make_task(aws, {"command": ["true"]})
    start(aws, {"Run": run_task(family)})
    return stopped_task(aws, family, within=2)["lastStatus"]


@on_aws("containers_run_side_by_side", ("EssentialContainerExited", {"app": 0, "endless": 143}))
def _(aws: EmbeddedAws) -> Any:
    endless = {"name": "endless", "essential": False, "command": ["sleep", "60"]}
    family = make_task(aws, {"command": ["true"]}, endless)
    start(aws, {"Run": run_task(family)})
    description = stopped_task(aws, family, within=2)
    return description.get("stopCode"), {each["name"]: each.get("exitCode") for each in description["containers"]}


@on_aws("run_task_checks_its_request", ["ClusterNotFoundException", "InvalidParameterException"])
def _(aws: EmbeddedAws) -> Any:
    ecs = aws.client("ecs")
    family = make_task(aws, {"command": ["true"]})
    refused = []
    for fields in (
        {"cluster": "missing", "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}}},
        {"cluster": "jobs"},
    ):
        try:
            ecs.run_task(taskDefinition=family, **fields)
        except ecs.exceptions.ClientError as error:
            refused.append(error.response["Error"]["Code"])
    return refused


@on_aws("stop_task_takes_its_time", ("RUNNING", "STOPPED", 137))
def _(aws: EmbeddedAws) -> Any:
    ecs = aws.client("ecs")
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    family = make_task(aws, {"command": ["sh", "-c", deaf]})
    network = {"awsvpcConfiguration": {"subnets": ["s"]}}
    arn = ecs.run_task(cluster="jobs", taskDefinition=family, networkConfiguration=network)["tasks"][0]["taskArn"]
    time.sleep(0.3)
    asked = ecs.stop_task(cluster="jobs", task=arn)["task"]
    description = stopped_task(aws, family, within=4)
    return asked["lastStatus"], asked["desiredStatus"], description["containers"][0].get("exitCode")


# Other services


@on_aws("one_operation_at_a_time", "100", certain_on_stock=False)
def _(aws: EmbeddedAws) -> Any:
    table = make_table(aws)
    key = {"id": {"S": "counter"}}
    update = {"UpdateExpression": "ADD n :one", "ExpressionAttributeValues": {":one": {"N": "1"}}}
    count = {
        "StartAt": "Count",
        "States": {"Count": task("dynamodb:updateItem", {"TableName": table, "Key": key, **update})},
    }
    each = {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": count, "End": True}
    run(aws, {"Each": each}, data={"items": list(range(100))})
    return aws.client("dynamodb").get_item(TableName=table, Key=key)["Item"]["n"]["N"]


@on_aws("events_of_objects_are_as_documented", (True, True))
def _(aws: EmbeddedAws) -> Any:
    storage, events = aws.client("s3"), aws.client("events")
    bucket = f"bucket-{time.monotonic_ns()}"
    storage.create_bucket(Bucket=bucket)
    storage.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    storage.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    queue = make_queue(aws)
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}}
    events.put_rule(Name=bucket, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=bucket, Targets=[{"Id": "queue", "Arn": queue_arn(aws, queue)}])
    version = storage.put_object(Bucket=bucket, Key="a key")["VersionId"]
    event = received(aws, queue)
    in_seconds = bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event["time"]))
    return event["detail"]["object"].get("version-id") == version, in_seconds


def make_mapping(aws: EmbeddedAws, queue: str, body: str) -> tuple[str, str]:
    """A mapping of a queue to a function with this body. The UUID of one and the name of the other."""
    name = make_function(aws, body)
    mapping = aws.client("lambda").create_event_source_mapping(
        FunctionName=name,
        EventSourceArn=queue_arn(aws, queue),
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    return mapping["UUID"], name


@on_aws("a_mapping_says_its_state", "Disabled")
def _(aws: EmbeddedAws) -> Any:
    mapping = {
        "Type": "AWS::Lambda::EventSourceMapping",
        "Properties": {
            "FunctionName": make_function(aws, "return {}"),
            "EventSourceArn": queue_arn(aws, make_queue(aws)),
            "Enabled": False,
        },
    }
    formation = aws.client("cloudformation")
    stack = f"stack-{time.monotonic_ns()}"
    formation.create_stack(StackName=stack, TemplateBody=json.dumps({"Resources": {"Mapping": mapping}}))
    formation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    [resource] = formation.describe_stack_resources(StackName=stack)["StackResources"]
    return aws.client("lambda").get_event_source_mapping(UUID=resource["PhysicalResourceId"])["State"]


@on_aws("a_change_of_a_mapping_takes_its_time", ["Disabling", "Disabling", "ResourceInUseException", "Disabled"])
def _(aws: EmbeddedAws) -> Any:
    functions = aws.client("lambda")
    uuid, _ = make_mapping(aws, make_queue(aws), "return {}")

    def change(enabled: bool) -> Any:
        try:
            return functions.update_event_source_mapping(UUID=uuid, Enabled=enabled)["State"]
        except functions.exceptions.ResourceInUseException as error:
            return error.response["Error"]["Code"]

    def state() -> Any:
        return functions.get_event_source_mapping(UUID=uuid)["State"]

    seen = [change(False), state(), change(True)]
    deadline = time.monotonic() + 4
    while state().endswith("ing") and time.monotonic() < deadline:
        time.sleep(0.1)
    return [*seen, state()]


def left_in_queue(aws: EmbeddedAws, answer: str) -> int:
    """How many of one message are left when a function has answered so for it."""
    queue = make_queue(aws)
    _, name = make_mapping(aws, queue, f"message = event['Records'][0]['messageId']\nreturn {answer}")
    aws.client("sqs").send_message(QueueUrl=queue, MessageBody="x")
    logs = aws.client("logs")
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        try:
            if logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="END")["events"]:
                break
        except logs.exceptions.ResourceNotFoundException:
            pass
        time.sleep(0.05)
    deadline = time.monotonic() + 0.7
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    while True:
        attributes = aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=counts)["Attributes"]
        left = sum(int(attributes[count]) for count in counts)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


@on_aws("an_answer_that_makes_no_sense_fails_its_batch", [1, 1])
def _(aws: EmbeddedAws) -> Any:
    answers = ["{'batchItemFailures': [{'itemIdentifier': ''}]}", "{'batchItemFailures': [{'id': message}]}"]
    return [left_in_queue(aws, answer) for answer in answers]


@on_aws("an_answer_that_makes_no_sense_fails_its_batch", 0)
def _(aws: EmbeddedAws) -> Any:
    return left_in_queue(aws, "{'batchItemFailures': None}")


@on_aws("a_change_of_an_alarm_is_an_event", (["ALARM", "INSUFFICIENT_DATA"], ["OK", "ALARM"], "full"))
def _(aws: EmbeddedAws) -> Any:
    alarms, events = aws.client("cloudwatch"), aws.client("events")
    queue = make_queue(aws)
    name = f"alarm-{time.monotonic_ns()}"
    alarms.put_metric_alarm(
        AlarmName=name,
        MetricName="Messages",
        Namespace=name,
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    arn = alarms.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmArn"]
    pattern = {"source": ["aws.cloudwatch"], "detail-type": ["CloudWatch Alarm State Change"], "resources": [arn]}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue_arn(aws, queue)}])
    details = []
    for state, reason in (("ALARM", "full"), ("OK", "empty")):
        alarms.set_alarm_state(AlarmName=name, StateValue=state, StateReason=reason)
        details.append((received(aws, queue) or {"detail": {}})["detail"])
    values = [[detail.get(at, {}).get("value") for at in ("state", "previousState")] for detail in details]
    return *values, details[1].get("previousState", {}).get("reason")


@on_aws("functions_are_invoked_asynchronously", True)
def _(aws: EmbeddedAws) -> Any:
    queue = make_queue(aws)
    name = make_function(aws, "raise ValueError('always')")
    aws.client("lambda").update_function_configuration(
        FunctionName=name, DeadLetterConfig={"TargetArn": queue_arn(aws, queue)}
    )
    aws.client("lambda").put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    function = aws.client("lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    rule = f"rule-{time.monotonic_ns()}"
    aws.client("events").put_rule(Name=rule, EventPattern=json.dumps({"source": [rule]}))
    aws.client("events").put_targets(Rule=rule, Targets=[{"Id": "function", "Arn": function}])
    aws.client("events").put_events(Entries=[{"Source": rule, "DetailType": "x", "Detail": "{}"}])
    return received(aws, queue, within=8) is not None


def make_queue(aws: EmbeddedAws) -> str:
    return str(aws.client("sqs").create_queue(QueueName=f"queue-{time.monotonic_ns()}")["QueueUrl"])


def queue_arn(aws: EmbeddedAws, queue: str) -> str:
    return str(
        aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    )


def received(aws: EmbeddedAws, queue: str, *, within: int = 2, text: bool = False) -> Any:
    messages = aws.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=within).get("Messages", [])
    for message in messages:
        aws.client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    body = messages[0]["Body"] if messages else "null"
    return body if text else json.loads(body)


def watch(aws: EmbeddedAws, queue: str, execution: str, *status: str) -> None:
    events = aws.client("events")
    name = f"rule-{time.monotonic_ns()}"
    pattern = {"source": ["aws.states"], "detail": {"executionArn": [execution], "status": list(status)}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue_arn(aws, queue)}])


def make_table(aws: EmbeddedAws) -> str:
    name = f"table-{time.monotonic_ns()}"
    aws.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return name


def schedule(aws: EmbeddedAws, expression: str, text: str) -> Any:
    queue = make_queue(aws)
    aws.client("scheduler").create_schedule(
        Name=f"schedule-{time.monotonic_ns()}",
        ScheduleExpression=expression,
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": queue_arn(aws, queue), "RoleArn": ROLE, "Input": text},
    )
    return received(aws, queue)


@on_aws("a_rate_starts_at_once", {"fired": True})
def _(aws: EmbeddedAws) -> Any:
    return schedule(aws, "rate(1 hour)", '{"fired": true}')


@on_aws("schedules_are_looked_at_every_second", {"fired": True}, certain_on_stock=False)
def _(aws: EmbeddedAws) -> Any:
    due = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 1))
    return schedule(aws, f"at({due})", '{"fired": true}')


@on_aws("schedules_fill_in_their_context", ["1", True])
def _(aws: EmbeddedAws) -> Any:
    text = '{"time": "<aws.scheduler.scheduled-time>", "attempt": "<aws.scheduler.attempt-number>"}'
    body = schedule(aws, "rate(1 hour)", text) or {}
    return [body.get("attempt"), str(body.get("time")).endswith(":00Z")]


@pytest.mark.parametrize("seen", OBSERVATIONS, ids=lambda seen: seen.correction)
def test_the_emulator_does_as_aws_does(aws: EmbeddedAws, seen: Observation) -> None:
    assert seen.observe(aws) == seen.on_aws


def test_stock_still_differs(stock: EmbeddedAws) -> None:
    # All at once: most of the time goes by waiting for what does not happen.
    certain = [seen for seen in OBSERVATIONS if seen.certain_on_stock]
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda seen: seen.observe(stock), certain))
    learnt = [seen.correction for seen, answer in zip(certain, answers, strict=True) if answer == seen.on_aws]
    assert learnt == []


NETWORK_STACK = {
    "Resources": {
        "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
        "Flow": {
            "Type": "AWS::EC2::FlowLog",
            "Properties": {"ResourceId": {"Ref": "Vpc"}, "ResourceType": "VPC", "TrafficType": "ALL"},
        },
        "Cluster": {"Type": "AWS::ECS::Cluster"},
        "Spot": {
            "Type": "AWS::ECS::ClusterCapacityProviderAssociations",
            "Properties": {
                "Cluster": {"Ref": "Cluster"},
                "CapacityProviders": ["FARGATE", "FARGATE_SPOT"],
                "DefaultCapacityProviderStrategy": [{"CapacityProvider": "FARGATE_SPOT", "Weight": 1}],
            },
        },
    }
}


def test_more_resource_types_are_accepted(aws: EmbeddedAws, stock: EmbeddedAws) -> None:
    cloudformation = aws.client("cloudformation")

    cloudformation.create_stack(StackName="network", TemplateBody=json.dumps(NETWORK_STACK))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="network", WaiterConfig={"Delay": 1})

    outline = cloudformation.describe_stack_resources(StackName="network")["StackResources"]
    ids = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in outline}
    [cluster] = aws.client("ecs").describe_clusters(clusters=[ids["Cluster"]])["clusters"]
    assert ids["Flow"].startswith("fl-")
    assert cluster["defaultCapacityProviderStrategy"][0]["capacityProvider"] == "FARGATE_SPOT"
    cloudformation.delete_stack(StackName="network")
    with pytest.raises(ClientError, match="Unrecognized resource types"):
        stock.client("cloudformation").create_stack(StackName="network", TemplateBody=json.dumps(NETWORK_STACK))


def test_every_correction_is_observed() -> None:
    for module in MODULES:
        importlib.import_module(f"embedded_aws.corrections.{module}")
    corrections = {correction.function.__name__ for correction in CORRECTIONS}
    assert corrections - {seen.correction for seen in OBSERVATIONS} == {
        # Seen together with `errors_have_the_name_of_their_class`.
        "a_worker_keeps_its_trace",
        # Seen together with `events_of_objects_are_as_documented`.
        "an_event_keeps_the_version_of_its_object",
        # Seen together with `an_answer_that_makes_no_sense_fails_its_batch`.
        "a_batch_is_known_to_its_invocation",
        # Not about AWS; see test_emulator.py.
        "a_long_partition_is_as_quick_as_a_short_one",
        "a_long_queue_is_as_quick_as_a_short_one",
        # Only with `enforce_iam`; see test_emulator.py.
        "every_request_counts_as_encrypted",
        "invocations_queue",
        "reset_stops_every_execution",
        "reset_stops_every_task",
        # These take an account that enforces permissions; see test_emulator.py.
        "a_token_is_of_a_state_machine",
        "a_mapping_takes_permissions_of_its_own",
        "a_batch_takes_the_permission_of_its_entries",
        "a_map_run_takes_permissions_of_its_own",
        # It takes a minute to see a rule fire; see test_emulator.py.
        "rules_are_looked_at_every_second",
    }


def test_the_readme_lists_every_correction() -> None:
    readme = (Path(embedded_aws.__file__).parent / "README.md").read_text()
    assert [each.function.__name__ for each in CORRECTIONS if f"`{each.function.__name__}`" not in readme] == []


def test_every_correction_names_its_document() -> None:
    for correction in CORRECTIONS:
        text = inspect.getdoc(correction.function) or ""
        assert re.match(r"Stock: .*\n\n(AWS|Here): .*Document: ", text, re.DOTALL), correction.function.__name__

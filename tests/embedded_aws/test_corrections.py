"""One observation per correction: the corrected emulator shows what AWS documents, stock MiniStack does not.

When `test_stock_still_differs` fails, MiniStack has learnt it: the correction can go.
"""

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
    name = make_function(aws, "time.sleep(2)\nraise ValueError('late')")
    # Once before, so that its process is there and its failure comes while this waits for it.
    aws.client("lambda").invoke(FunctionName=name)
    execution = start(aws, {"Call": task("lambda:invoke", {"FunctionName": name})})
    time.sleep(0.5)
    aws.client("stepfunctions").stop_execution(executionArn=execution)
    time.sleep(4)
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


@on_aws("a_map_run_ends_with_its_execution", ("ABORTED", {"ABORTED"}))
def _(aws: EmbeddedAws) -> Any:
    sfn = aws.client("stepfunctions")
    wait = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 500, "End": True}}}
    processor = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, **wait}
    each = {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": processor, "End": True}
    parent = start(aws, {"Each": each}, data={"items": [1, 2]})
    time.sleep(0.5)
    sfn.stop_execution(executionArn=parent)
    time.sleep(0.3)
    [run] = sfn.list_map_runs(executionArn=parent)["mapRuns"]
    children = sfn.list_executions(mapRunArn=run["mapRunArn"])["executions"]
    return sfn.describe_map_run(mapRunArn=run["mapRunArn"])["status"], {child["status"] for child in children}


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


@on_aws("results_have_a_limit", "States.DataLimitExceeded")
def _(aws: EmbeddedAws) -> Any:
    table = make_table(aws)
    aws.client("dynamodb").put_item(TableName=table, Item={"id": {"S": "big"}, "text": {"S": "x" * 300_000}})
    return run(aws, caught(task("dynamodb:getItem", {"TableName": table, "Key": {"id": {"S": "big"}}}))).error


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
    cause = json.loads(end.cause)
    return end.error, cause["errorMessage"], "stackTrace" in cause


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
    return received(aws, queue) is not None


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


def watch(aws: EmbeddedAws, queue: str, execution: str, status: str) -> None:
    events = aws.client("events")
    name = f"rule-{time.monotonic_ns()}"
    pattern = {"source": ["aws.states"], "detail": {"executionArn": [execution], "status": [status]}}
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
        "a_long_queue_is_as_quick_as_a_short_one",
        # Only with `enforce_iam`; see test_emulator.py.
        "every_request_counts_as_encrypted",
        "invocations_queue",
        "reset_stops_every_execution",
        "reset_stops_every_task",
        # It takes an account that enforces permissions; see test_emulator.py.
        "a_token_is_of_a_state_machine",
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

"""What the pipeline makes of its options."""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_s3 as s3

from asl_tools.resolve import state_machines
from asl_tools.second_interpreter import Error, Result, Run, run_all
from constructs_lib import S3TriggeredThrottledPipeline, Semaphore
from tests.parts.test_guard import CONTEXT, GRANTED, RELEASED
from tests.pipelines import OBJECT, bucket, chain, fargate_job, full_options, function, pipeline
from tests.scheduled import make_app, template_of
from tests.templates import as_list, only, resources, statements

Template = Mapping[str, Any]

VARIANTS: dict[str, Callable[[cdk.Stack], dict[str, Any]]] = {
    "bare": lambda stack: {},
    "full": full_options,
    "fargate": lambda stack: {"job": fargate_job(stack)},
    "function": lambda stack: {"job": function(stack)},
    "chain": lambda stack: {"job": chain(stack)},
    "one at a time": lambda stack: {"one_at_a_time_per_key": True},
    "newest only": lambda stack: {"drop_stale_events": True},
    "paused": lambda stack: {"paused": True},
    "own bucket": lambda stack: {"bucket": s3.Bucket(stack, "Incoming")},
    "nobody to tell": lambda stack: {"failure_handlers": []},
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Each variant in a stack of its own, all in one app."""
    app = make_app(tmp_path_factory.mktemp("variants"))
    stacks = {}
    for number, (name, options) in enumerate(VARIANTS.items()):
        stacks[name] = cdk.Stack(app, f"Stack{number}")
        pipeline(stacks[name], **options(stacks[name]))
    return {name: template_of(stack) for name, stack in stacks.items()}


@pytest.fixture(scope="module")
def bare(templates: Mapping[str, Template]) -> Template:
    return templates["bare"]


def function_of(template: Template, handler: str) -> tuple[str, dict[str, Any]]:
    """The logical id and the properties of the function with this handler."""
    [found] = [
        (name, one)
        for name, one in resources(template, "AWS::Lambda::Function").items()
        if one["Handler"] == f"pipeline.{handler}.handle"
    ]
    return found


def variables(template: Template, handler: str) -> dict[str, Any]:
    found: dict[str, Any] = function_of(template, handler)[1]["Environment"]["Variables"]
    return found


def logical_id(template: Template, type_: str, part: str) -> str:
    """Of the only resource of the type with this text in its id, and no dead-letter queue."""
    [found] = [name for name in resources(template, type_) if part in name and "DeadLetters" not in name]
    return found


def definition(template: Template, part: str = "Workflow") -> dict[str, Any]:
    [found] = [one for name, one in state_machines(template).items() if part in name]
    return found


def role_of(template: Template, resource: Mapping[str, Any]) -> str:
    role: str = (resource.get("Role") or resource["RoleArn"])["Fn::GetAtt"][0]
    return role


def allowed(template: Template, role: str) -> dict[str, list[Any]]:
    """The resources for each action of a role."""
    found: dict[str, list[Any]] = {}
    for policy in resources(template, "AWS::IAM::Policy").values():
        if {"Ref": role} in policy["Roles"]:
            for one in policy["PolicyDocument"]["Statement"]:
                for action in as_list(one["Action"]):
                    found.setdefault(action, []).extend(as_list(one["Resource"]))
    return found


# --- from the bucket to the buffer --------------------------------------------------------------------------


def test_every_new_object_of_the_bucket_goes_to_the_buffer(bare: Template) -> None:
    rule = resources(bare, "AWS::Events::Rule")[logical_id(bare, "AWS::Events::Rule", "BufferRule")]
    buffer = logical_id(bare, "AWS::SQS::Queue", "PipelineBuffer")
    assert rule["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": ["incoming"]}},
    }
    [target] = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": [buffer, "Arn"]}
    [dead_letters] = [name for name in resources(bare, "AWS::SQS::Queue") if "BufferDeadLetters" in name]
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": [dead_letters, "Arn"]}}
    # The event as it is, which is what the starter reads.
    assert not {"Input", "InputPath", "InputTransformer"} & set(target)


def test_the_filter_of_the_rule(templates: Mapping[str, Template]) -> None:
    template = templates["full"]
    rule = resources(template, "AWS::Events::Rule")[logical_id(template, "AWS::Events::Rule", "BufferRule")]
    assert rule["EventPattern"]["detail"]["object"] == {
        "key": [
            {"wildcard": "in/*.csv"},
            {"wildcard": "in/*.json"},
            {"wildcard": "more\\*/*.csv"},
            {"wildcard": "more\\*/*.json"},
            {"wildcard": "other/*/data-*.txt"},
        ],
        "size": [{"numeric": ["<=", 1_000_000]}],
    }


@pytest.mark.parametrize("variant", ["bare", "own bucket"])
def test_the_bucket_sends_its_events(variant: str, templates: Mapping[str, Template]) -> None:
    notifications = only(templates[variant], "Custom::S3BucketNotifications")
    assert notifications["NotificationConfiguration"] == {"EventBridgeConfiguration": {}}
    # Of a bucket that somebody else made, what is set already stays.
    assert notifications["Managed"] is (variant == "own bucket")


def test_the_buffer_keeps_what_it_gets_as_long_as_it_can(bare: Template) -> None:
    queue = resources(bare, "AWS::SQS::Queue")[logical_id(bare, "AWS::SQS::Queue", "PipelineBuffer")]
    [dead_letters] = [name for name in resources(bare, "AWS::SQS::Queue") if "BufferDeadLetters" in name]
    assert queue == {
        "SqsManagedSseEnabled": True,
        "MessageRetentionPeriod": 14 * 86_400,
        "VisibilityTimeout": 6 * function_of(bare, "starter")[1]["Timeout"],
        "RedrivePolicy": {"deadLetterTargetArn": {"Fn::GetAtt": [dead_letters, "Arn"]}, "maxReceiveCount": 1000},
    }


def test_every_queue_takes_tls_only(bare: Template) -> None:
    policies = resources(bare, "AWS::SQS::QueuePolicy").values()
    secured = {
        policy["Queues"][0]["Ref"]
        for policy in policies
        for one in policy["PolicyDocument"]["Statement"]
        if one["Effect"] == "Deny" and one["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }
    assert secured == set(resources(bare, "AWS::SQS::Queue"))


# --- from the buffer to the executions ----------------------------------------------------------------------


def test_the_starter_reads_the_buffer(bare: Template) -> None:
    assert only(bare, "AWS::Lambda::EventSourceMapping") == {
        "EventSourceArn": {"Fn::GetAtt": [logical_id(bare, "AWS::SQS::Queue", "PipelineBuffer"), "Arn"]},
        "FunctionName": {"Ref": function_of(bare, "starter")[0]},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": 5},
        "Enabled": True,
    }


def test_what_the_starter_knows(templates: Mapping[str, Template]) -> None:
    bare = templates["bare"]
    [dead_letters] = [name for name in resources(bare, "AWS::SQS::Queue") if "BufferDeadLetters" in name]
    assert variables(bare, "starter") == {
        "STATE_MACHINE_ARN": {"Ref": logical_id(bare, "AWS::StepFunctions::StateMachine", "Workflow")},
        "DEAD_LETTERS_URL": {"Ref": dead_letters},
        "BUCKET": "incoming",
        "IGNORED_PREFIXES": "[]",
        "MIN_SIZE": "0",
        "SEQUENCES_TABLE": "",
        "PIPELINE": "Stack0/Pipeline",
    }
    assert variables(templates["full"], "starter")["MIN_SIZE"] == "1"
    newest = templates["newest only"]
    table = logical_id(newest, "AWS::DynamoDB::Table", "Sequences")
    assert variables(newest, "starter")["SEQUENCES_TABLE"] == {"Ref": table}
    assert resources(newest, "AWS::DynamoDB::Table")[table]["KeySchema"] == [
        {"AttributeName": "key", "KeyType": "HASH"}
    ]


def test_the_starter_may_start_this_state_machine_and_little_else(templates: Mapping[str, Template]) -> None:
    for variant in ("bare", "newest only"):
        template = templates[variant]
        may = allowed(template, role_of(template, function_of(template, "starter")[1]))
        machine = logical_id(template, "AWS::StepFunctions::StateMachine", "Workflow")
        buffer = {"Fn::GetAtt": [logical_id(template, "AWS::SQS::Queue", "PipelineBuffer"), "Arn"]}
        [dead_letters] = [name for name in resources(template, "AWS::SQS::Queue") if "BufferDeadLetters" in name]
        [log] = [name for name in resources(template, "AWS::Logs::LogGroup") if "Starter" in name]
        expected = {
            "states:StartExecution": [{"Ref": machine}],
            "sqs:ReceiveMessage": [buffer],
            "sqs:DeleteMessage": [buffer],
            "sqs:GetQueueAttributes": [buffer],
            "sqs:SendMessage": [{"Fn::GetAtt": [dead_letters, "Arn"]}],
            "logs:CreateLogStream": [{"Fn::GetAtt": [log, "Arn"]}],
            "logs:PutLogEvents": [{"Fn::GetAtt": [log, "Arn"]}],
        }
        if variant == "newest only":
            table = logical_id(template, "AWS::DynamoDB::Table", "Sequences")
            expected["dynamodb:UpdateItem"] = [{"Fn::GetAtt": [table, "Arn"]}]
        assert may == expected


def test_the_valve_looks_at_the_line_and_turns_this_mapping_only(bare: Template) -> None:
    [mapping] = resources(bare, "AWS::Lambda::EventSourceMapping")
    [semaphore] = [
        name
        for name, one in resources(bare, "AWS::Lambda::Function").items()
        if one["Handler"] == "semaphore.handler.handle"
    ]
    name, valve = function_of(bare, "valve")
    assert variables(bare, "valve") == {
        "EVENT_SOURCE_MAPPING": {"Ref": mapping},
        "SEMAPHORE_FUNCTION": {"Fn::GetAtt": [semaphore, "Arn"]},
        "MOST_WAITING": "10000",
        "PAUSED": "",
        "PIPELINE": "Stack0/Pipeline",
    }
    may = allowed(bare, role_of(bare, valve))
    assert may["lambda:InvokeFunction"] == [{"Fn::GetAtt": [semaphore, "Arn"]}]
    for action in ("lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"):
        [arn] = may[action]
        assert arn["Fn::Join"][1][-2:] == [":event-source-mapping:", {"Ref": mapping}]
    assert {action.partition(":")[0] for action in may} == {"lambda", "logs"}
    rule = resources(bare, "AWS::Events::Rule")[logical_id(bare, "AWS::Events::Rule", "ValveEveryMinute")]
    assert rule["ScheduleExpression"] == "rate(1 minute)"
    assert [target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": [name, "Arn"]}]


def test_paused_closes_the_valve_and_keeps_it_closed(templates: Mapping[str, Template]) -> None:
    assert only(templates["paused"], "AWS::Lambda::EventSourceMapping")["Enabled"] is False
    assert variables(templates["paused"], "valve")["PAUSED"] == "true"


def test_the_options_of_starter_and_valve(templates: Mapping[str, Template]) -> None:
    mapping = only(templates["full"], "AWS::Lambda::EventSourceMapping")
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 3}
    assert variables(templates["full"], "valve")["MOST_WAITING"] == "500"


@pytest.mark.parametrize("handler", ["starter", "valve", "backfill"])
def test_every_handler_is_there_and_reads_what_it_is_given(handler: str, bare: Template) -> None:
    source = inspect.getsource(__import__(f"pipeline.{handler}", fromlist=["handle"]))
    needed = {name for name in variables(bare, handler) if f'"{name}"' in source or name == "PIPELINE"}
    assert needed == set(variables(bare, handler))


# --- what is run ---------------------------------------------------------------------------------------------


def test_the_turn_of_a_key_is_outside_the_quota(templates: Mapping[str, Template]) -> None:
    asl = definition(templates["one at a time"])
    answers: dict[str, list[Result | Error]] = {
        "Acquire turn": [GRANTED],
        "Acquire quota": [GRANTED],
        "Call the function": [Result({"Payload": 1})],
        "Release quota": [RELEASED],
        "Release turn": [RELEASED],
    }
    [outcome] = run_all([Run(definition=asl, input={"object": OBJECT}, context=CONTEXT, tasks=answers)])
    assert outcome.visited == list(answers)
    keys = {name: outcome.inputs[f"Acquire {name}"][0]["Payload"]["key"] for name in ("turn", "quota")}
    assert keys == {"turn": OBJECT["key"], "quota": "default"}


def test_limits_and_paces(templates: Mapping[str, Template]) -> None:
    told = {
        (one["Environment"]["Variables"]["LIMIT"], one["Environment"]["Variables"]["STARTS_PER_SECOND"])
        for one in resources(templates["full"], "AWS::Lambda::Function").values()
        if one["Handler"] == "semaphore.handler.handle"
    }
    assert told == {("40", "10"), ("1", "")}


@pytest.mark.parametrize(
    ("variant", "seconds"), [("fargate", "120"), ("function", "120"), ("chain", "900"), ("bare", "900")]
)
def test_a_permit_is_kept_while_aborted_work_may_go_on(
    variant: str, seconds: str, templates: Mapping[str, Template]
) -> None:
    [grace] = [
        one["Environment"]["Variables"]["GRACE_SECONDS"]
        for one in resources(templates[variant], "AWS::Lambda::Function").values()
        if one["Handler"] == "semaphore.handler.handle"
    ]
    assert grace == seconds


def test_an_execution_may_wait_as_long_as_one_can(templates: Mapping[str, Template]) -> None:
    assert definition(templates["bare"])["TimeoutSeconds"] == 365 * 86_400
    assert definition(templates["full"])["TimeoutSeconds"] == 7 * 86_400


# --- the backfill --------------------------------------------------------------------------------------------

FULL = {"prefix": "", "before": "2026-03-01T00:00:00Z", "startAfter": "z", "sent": 3000, "done": True}


def test_a_backfill_goes_on_until_all_is_done(bare: Template) -> None:
    asl = definition(bare, "Backfill")
    part = {**FULL, "startAfter": "k", "sent": 1000, "done": False}
    answers: list[Result | Error] = [
        Result({"Payload": part}),
        Error("Lambda.ServiceException"),
        Error("TimeIsOverError"),
        Result({"Payload": FULL}),
    ]
    [outcome] = run_all([Run(definition=asl, input={"prefix": "in/"}, tasks={"Fill the buffer": answers})])
    assert (outcome.status, outcome.output) == ("SUCCEEDED", FULL)
    asked = [call["Payload"] for call in outcome.inputs["Fill the buffer"]]
    # What was done is not done again, also after a failure.
    assert asked == [{"prefix": "in/"}, part, part, part]


def test_an_input_that_makes_no_sense_is_not_asked_again(bare: Template) -> None:
    answers = {"Fill the buffer": [Error("InvalidRequestError", "prefix must be text, got 5")]}
    [outcome] = run_all([Run(definition=definition(bare, "Backfill"), input={"prefix": 5}, tasks=answers)])
    assert (outcome.status, outcome.error) == ("FAILED", "InvalidRequestError")


def test_what_the_backfill_knows_and_may(templates: Mapping[str, Template]) -> None:
    template = templates["full"]
    name, backfill = function_of(template, "backfill")
    buffer = logical_id(template, "AWS::SQS::Queue", "PipelineBuffer")
    [incoming] = resources(template, "AWS::S3::Bucket")
    environment = variables(template, "backfill")
    assert json.loads(environment.pop("FILTERS")) == {
        "prefixes": ["in/", "more*/"],
        "suffixes": [".csv", ".json"],
        "wildcards": ["other/*/data-*.txt"],
        "minSize": 1,
        "maxSize": 1_000_000,
    }
    assert environment == {"BUCKET": {"Ref": incoming}, "BUFFER_URL": {"Ref": buffer}}
    may = allowed(template, role_of(template, backfill))
    assert may["s3:ListBucket"] == [{"Fn::GetAtt": [incoming, "Arn"]}]
    assert may["sqs:SendMessage"] == may["sqs:GetQueueAttributes"] == [{"Fn::GetAtt": [buffer, "Arn"]}]
    assert {action for action in may if not action.startswith("logs:")} == {
        "s3:ListBucket",
        "sqs:SendMessage",
        "sqs:GetQueueAttributes",
    }
    machines = resources(template, "AWS::StepFunctions::StateMachine")
    [machine] = [one for id_, one in machines.items() if "Backfill" in id_]
    assert allowed(template, role_of(template, machine))["lambda:InvokeFunction"] == [{"Fn::GetAtt": [name, "Arn"]}]
    assert machine["TracingConfiguration"] == {"Enabled": True}
    assert machine["LoggingConfiguration"]["Level"] == "ALL"


# --- alarms, metrics, dashboard ------------------------------------------------------------------------------


def test_what_has_an_alarm(bare: Template) -> None:
    found = {
        (one["MetricName"], one["Threshold"]): one["AlarmDescription"]
        for name, one in resources(bare, "AWS::CloudWatch::Alarm").items()
        if any(part in name for part in ("PipelineBuffer", "PipelineStarter", "PipelineValve", "PipelineBackfill"))
    }
    assert found[("ApproximateAgeOfOldestMessage", 3600)] == "Stack0/Pipeline: an object has waited for 1 hour."
    assert set(found) == {
        ("ApproximateAgeOfOldestMessage", 3600),
        ("ApproximateNumberOfMessagesVisible", 1),
        ("Errors", 1),
        ("ExecutionsFailed", 1),
    }


@pytest.mark.parametrize("variant", ["bare", "full", "nobody to tell"])
def test_every_alarm_can_be_reached(variant: str, stack: cdk.Stack) -> None:
    construct = pipeline(stack, **VARIANTS[variant](stack))
    reached = len(construct.alarms)
    alarms = resources(template_of(stack), "AWS::CloudWatch::Alarm")
    # The alert function of the full example is the caller's.
    ours = [one for name, one in alarms.items() if not name.startswith("SharedAlert")]
    assert reached == len(ours)
    assert all(bool(one.get("AlarmActions")) is (variant == "full") for one in ours)


def test_who_waits_too_long_is_told_of_wherever_it_waits(templates: Mapping[str, Template]) -> None:
    alarms = resources(templates["full"], "AWS::CloudWatch::Alarm").values()
    waits = [one["MetricName"] for one in alarms if one["Threshold"] == 600]
    assert sorted(waits) == ["ApproximateAgeOfOldestMessage", "OldestWaiterSeconds", "OldestWaiterSeconds"]


def test_the_metrics(stack: cdk.Stack) -> None:
    construct = pipeline(stack)
    metrics = {
        "Started": construct.metric_started(),
        "Duplicates": construct.metric_duplicates(),
        "Stale": construct.metric_stale(),
        "Ignored": construct.metric_ignored(),
        "Rejected": construct.metric_rejected(),
        "Delayed": construct.metric_delayed(statistic="Maximum"),
        "ValveOpen": construct.metric_valve_open(period=Duration.hours(1)),
    }
    for name, metric in metrics.items():
        assert (metric.namespace, metric.metric_name) == ("ConstructsLib/Pipeline", name)
        assert dict(metric.dimensions or {}) == {"Pipeline": "Stack/Pipeline"}
    assert (metrics["Started"].statistic, metrics["Delayed"].statistic) == ("Sum", "Maximum")
    assert metrics["ValveOpen"].period.to_minutes() == 60
    assert construct.metric_waiting().metric_name == "ApproximateNumberOfMessagesVisible"
    assert construct.metric_oldest_object_seconds().metric_name == "ApproximateAgeOfOldestMessage"


def test_it_is_named_for_people_after_the_stack_as_deployed(app: cdk.App) -> None:
    stack = cdk.Stack(app, "Stack", stack_name="production")
    assert pipeline(stack).name == "production/Pipeline"


def widgets(stack: cdk.Stack, construct: S3TriggeredThrottledPipeline) -> dict[str, list[str]]:
    """The metrics of each graph, by the end of its title."""
    dashboard = cloudwatch.Dashboard(stack, "Dashboard")
    dashboard.add_widgets(*construct.dashboard_widgets())
    body = only(template_of(stack), "AWS::CloudWatch::Dashboard")["DashboardBody"]
    text = body if isinstance(body, str) else "".join(x if isinstance(x, str) else "…" for x in body["Fn::Join"][1])
    return {
        one["properties"]["title"].rsplit(": ")[-1]: [metric[1] for metric in one["properties"]["metrics"]]
        for one in json.loads(text)["widgets"]
    }


def test_the_section_of_a_dashboard(stack: cdk.Stack) -> None:
    visible = "ApproximateNumberOfMessagesVisible"
    assert widgets(stack, pipeline(stack)) == {
        "waiting": [visible, "Waiting"],
        "oldest, in seconds": ["ApproximateAgeOfOldestMessage", "OldestWaiterSeconds"],
        "at work": ["InUse", "ValveOpen"],
        "objects": ["Started", "Duplicates", "Delayed", "Rejected"],
        "executions": ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed"],
        "dead letters": [visible, visible],
    }


def test_of_a_semaphore_without_a_name_there_is_nothing_to_see(stack: cdk.Stack) -> None:
    imported = Semaphore.from_attributes(
        stack,
        "Imported",
        function_arn="arn:aws:lambda:eu-central-1:111122223333:function:quota",
        role_arn="arn:aws:iam::111122223333:role/quota",
    )
    found = widgets(stack, pipeline(stack, semaphore=imported))
    assert (found["waiting"], found["at work"]) == (["ApproximateNumberOfMessagesVisible"], ["ValveOpen"])


# --- permissions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_policy_allows_every_action_of_a_service(variant: str, templates: Mapping[str, Template]) -> None:
    for one in statements(templates[variant]):
        assert not [action for action in as_list(one["Action"]) if action == "*" or action.endswith(":*")], one


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_log_delivery_and_traces_are_allowed_on_every_resource(
    variant: str, templates: Mapping[str, Template]
) -> None:
    for name, policy in resources(templates[variant], "AWS::IAM::Policy").items():
        # The function of the CDK that sets a bucket's notifications.
        if "Pipeline" not in name:
            continue
        for one in policy["PolicyDocument"]["Statement"]:
            if "*" in as_list(one["Resource"]):
                assert all(action.startswith(("logs:", "xray:")) for action in one["Action"]), one


# --- more than one -------------------------------------------------------------------------------------------


def test_two_in_one_stack_with_one_bucket(stack: cdk.Stack) -> None:
    incoming = s3.Bucket(stack, "Incoming")
    pipeline(stack, "Orders", bucket=incoming, prefixes=["orders/"])
    pipeline(stack, "Invoices", bucket=incoming, prefixes=["invoices/"])
    template = template_of(stack)
    assert len(resources(template, "AWS::Lambda::EventSourceMapping")) == 2
    assert len(resources(template, "Custom::S3BucketNotifications")) == 1


def test_two_in_one_stack_share_a_semaphore(stack: cdk.Stack) -> None:
    quota = Semaphore(stack, "Quota", limit=5)
    one, other = (pipeline(stack, id_, semaphore=quota, bucket=bucket(stack, id_.lower())) for id_ in ("One", "Two"))
    assert one.semaphore is other.semaphore is quota
    # The alarms of what is shared are told where it was made.
    assert not set(quota.alarms.values()) & set(one.alarms)
    assert len(resources(template_of(stack), "AWS::DynamoDB::Table")) == 1


def test_everything_shared_lies_in_other_stacks(app: cdk.App) -> None:
    shared = cdk.Stack(app, "Shared")
    quota, incoming = Semaphore(shared, "Quota", limit=5), s3.Bucket(shared, "Incoming")
    stacks = [cdk.Stack(app, name) for name in ("One", "Two")]
    for stack in stacks:
        pipeline(stack, bucket=incoming, semaphore=quota, one_at_a_time_per_key=True)
    for stack in stacks:
        template = template_of(stack)
        # One of the two semaphores: that of the turns.
        assert len(resources(template, "AWS::DynamoDB::Table")) == 1
        assert "Fn::ImportValue" in variables(template, "valve")["SEMAPHORE_FUNCTION"]
        assert "Fn::ImportValue" in variables(template, "starter")["BUCKET"]


def test_no_physical_names_are_chosen(bare: Template) -> None:
    named = {
        (resource["Type"], name)
        for resource in bare["Resources"].values()
        for name in ("QueueName", "FunctionName", "TableName", "StateMachineName", "TopicName", "RoleName")
        if resource["Type"] not in ("AWS::Lambda::Permission", "AWS::Lambda::EventSourceMapping")
        and name in resource.get("Properties", {})
    }
    assert named == set()


def test_every_option_is_set_by_the_full_example(stack: cdk.Stack) -> None:
    parameters = inspect.signature(S3TriggeredThrottledPipeline.__init__).parameters
    assert set(full_options(stack)) == set(parameters) - {"self", "scope", "id_", "semaphore"}


def test_what_is_inside_can_be_reached(stack: cdk.Stack) -> None:
    construct = pipeline(stack, job=fargate_job(stack), one_at_a_time_per_key=True)
    assert construct.queue is construct.buffer.queue
    assert construct.rule is construct.buffer.rule
    assert construct.turns is not None
    assert construct.alert is not None
    assert len(construct.security_groups) == 1
    assert construct.starter.sequences is None

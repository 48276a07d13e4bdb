"""What the construct makes of its options."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from asl_tools.resolve import state_machines
from constructs_lib import AlertFunction, RetryPolicy, ScheduledStepFunctionsFargateTask
from tests.scheduled import (
    Surroundings,
    full,
    full_options,
    make_app,
    scheduled,
    surroundings,
    template_of,
)
from tests.templates import FLAGS, as_list, only, readable, resources, statements

Template = Mapping[str, Any]


def override(container: ecs.ContainerDefinition, **what: Any) -> dict[str, Any]:
    return {"container_overrides": [tasks.ContainerOverride(container_definition=container, **what)]}


def parameter(stack: cdk.Stack, name: str, type_: str = "String") -> cdk.CfnParameter:
    return cdk.CfnParameter(stack, name, type=type_)


def on_scheduler(around: Surroundings) -> dict[str, Any]:
    return {
        "schedule": scheduler.ScheduleExpression.cron(hour="3", minute="0", time_zone=cdk.TimeZone.ASIA_TOKYO),
        "time_window": scheduler.TimeWindow.flexible(Duration.minutes(5)),
        "rule_name": "nightly",
        "input": {"day": "monday"},
        "max_event_age": Duration.hours(2),
        "retry_attempts": 3,
    }


def with_tokens(around: Surroundings) -> dict[str, Any]:
    """Everything that may be known at deployment only."""
    stack = around.stack
    tenant = parameter(stack, "Tenant").value_as_string
    return {
        "schedule": events.Schedule.expression(parameter(stack, "Expression").value_as_string),
        "rule_name": parameter(stack, "Name").value_as_string,
        "input": {"tenant": tenant, "job": parameter(stack, "Job").value},
        "cpu": parameter(stack, "Cpu", "Number").value_as_number,
        "retry_attempts": parameter(stack, "Attempts", "Number").value_as_number,
        "security_groups": [
            ec2.SecurityGroup.from_security_group_id(stack, "Group", parameter(stack, "GroupId").value_as_string)
        ],
        **override(
            around.container,
            command=sfn.JsonPath.list_at("$.job.commands"),
            environment=[tasks.TaskEnvironmentVariable(name="TENANT", value=tenant)],
        ),
    }


def imported_cluster(around: Surroundings) -> dict[str, Any]:
    cluster = ecs.Cluster.from_cluster_attributes(
        around.stack, "Imported", cluster_name="jobs", vpc=around.cluster.vpc, security_groups=[]
    )
    return {"cluster": cluster}


def imported_subnets(around: Surroundings) -> dict[str, Any]:
    subnet = ec2.Subnet.from_subnet_attributes(
        around.stack,
        "Subnet",
        subnet_id=parameter(around.stack, "SubnetId").value_as_string,
        availability_zone="eu-central-1a",
        route_table_id="rtb-1",
    )
    return {"subnets": ec2.SubnetSelection(subnets=[subnet]), "assign_public_ip": True}


VARIANTS: dict[str, Callable[[Surroundings], dict[str, Any]]] = {
    "bare": lambda around: {},
    "full": full_options,
    "on scheduler": on_scheduler,
    "rule": lambda around: {"rule_name": "nightly", "enabled": False, "input": {"day": "monday"}},
    "tokens": with_tokens,
    "imported cluster": imported_cluster,
    "imported subnets": imported_subnets,
    "topic only": lambda around: {"failure_handlers": [sns.Topic(around.stack, "Topic")]},
    "own function": lambda around: {
        "alert_lambda": lambda_.Function.from_function_arn(
            around.stack, "Own", "arn:aws:lambda:eu-central-1:111122223333:function:own"
        )
    },
    "nobody": lambda around: {"failure_handlers": []},
    "at an exact time": lambda around: {
        "schedule": scheduler.ScheduleExpression.expression("at(2030-12-31T23:59:59)"),
    },
    "a day": lambda around: {"expected_every": Duration.hours(25)},
    "half an hour": lambda around: {"expected_every": Duration.seconds(1790)},
    "for a year": lambda around: {"timeout": Duration.days(365)},
    "input paths of all kinds": lambda around: {
        "input": {"jobs": [{"commands": ["a"]}], "a b": "c", "any": {}},
        **override(
            around.container,
            command=sfn.JsonPath.list_at("$.jobs[0].commands"),
            environment=[
                tasks.TaskEnvironmentVariable(name="QUOTED", value=sfn.JsonPath.string_at("$['a b']")),
                tasks.TaskEnvironmentVariable(name="WILD", value=sfn.JsonPath.string_at("$.any[*].x")),
                tasks.TaskEnvironmentVariable(name="RUN", value=sfn.JsonPath.string_at("$$.Execution.Name")),
                tasks.TaskEnvironmentVariable(name="LITERAL", value="no $.path"),
            ],
        ),
    },
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Each variant in a stack of its own, all in one app."""
    app = make_app(tmp_path_factory.mktemp("variants"))
    stacks = {}
    for number, (name, options) in enumerate(VARIANTS.items()):
        stacks[name] = cdk.Stack(app, f"Stack{number}")
        around = surroundings(stacks[name])
        scheduled(around, **options(around))
    return {name: template_of(stack) for name, stack in stacks.items()}


@pytest.fixture(scope="module")
def bare(templates: Mapping[str, Template]) -> Template:
    return templates["bare"]


def definition(template: Template) -> dict[str, Any]:
    [machine] = state_machines(template).values()
    return machine


def launch(template: Template) -> dict[str, Any]:
    """What RunTask is called with."""
    parameters: dict[str, Any] = definition(template)["States"]["Run task"]["Parameters"]
    return parameters


# --- the trigger ---------------------------------------------------------------------------------------------


def trigger(template: Template) -> dict[str, Any]:
    [rule] = [rule for rule in resources(template, "AWS::Events::Rule").values() if "ScheduleExpression" in rule]
    return rule


def test_a_schedule_becomes_a_rule(templates: Mapping[str, Template]) -> None:
    rule = trigger(templates["rule"])
    assert (rule["Name"], rule["ScheduleExpression"], rule["State"]) == ("nightly", "cron(0 3 * * ? *)", "DISABLED")
    [target] = rule["Targets"]
    assert json.loads(target["Input"]) == {"day": "monday"}
    assert only(templates["rule"], "AWS::StepFunctions::StateMachine")["StateMachineName"] == "nightly-state-machine"


def test_a_start_is_tried_for_an_hour_and_then_kept(bare: Template) -> None:
    [target] = trigger(bare)["Targets"]
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 185}
    [queue] = [name for name in resources(bare, "AWS::SQS::Queue") if "Alert" not in name]
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": [queue, "Arn"]}}
    assert json.loads(target["Input"]) == {}


def test_a_schedule_expression_becomes_a_schedule_with_its_zone_and_window(
    templates: Mapping[str, Template],
) -> None:
    template = templates["on scheduler"]
    schedule = only(template, "AWS::Scheduler::Schedule")
    assert schedule["Name"] == "nightly"
    assert schedule["ScheduleExpressionTimezone"] == "Asia/Tokyo"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}
    assert schedule["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 7200, "MaximumRetryAttempts": 3}
    assert json.loads(schedule["Target"]["Input"]) == {"day": "monday"}
    [queue] = [name for name in resources(template, "AWS::SQS::Queue") if "Alert" not in name]
    assert schedule["Target"]["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": [queue, "Arn"]}}
    assert only(template, "AWS::StepFunctions::StateMachine")["StateMachineName"] == "nightly-state-machine"


def test_a_schedule_of_one_moment_passes(templates: Mapping[str, Template]) -> None:
    schedule = only(templates["at an exact time"], "AWS::Scheduler::Schedule")
    assert schedule["ScheduleExpression"] == "at(2030-12-31T23:59:59)"


def test_what_starts_it_is_told(stack: cdk.Stack) -> None:
    around = surroundings(stack)
    by_rule = scheduled(around, "ByRule")
    by_schedule = scheduled(around, "BySchedule", schedule=scheduler.ScheduleExpression.rate(Duration.hours(1)))
    assert isinstance(by_rule.rule, events.Rule)
    assert isinstance(by_schedule.schedule, scheduler.Schedule)
    assert (by_rule.schedule, by_schedule.rule) == (None, None)


# --- the task ------------------------------------------------------------------------------------------------


def test_the_defaults_of_a_launch(bare: Template) -> None:
    [cluster] = resources(bare, "AWS::ECS::Cluster")
    [task_definition] = resources(bare, "AWS::ECS::TaskDefinition")
    [group] = resources(bare, "AWS::EC2::SecurityGroup")
    state = definition(bare)["States"]["Run task"]
    assert state["Resource"] == "arn:${AWS::Partition}:states:::ecs:runTask.sync"
    assert state["Parameters"] == {
        "Cluster": f"${{{cluster}.Arn}}",
        # A Ref is the ARN with its revision: a deployment does not change what runs already.
        "TaskDefinition": f"${{{task_definition}}}",
        "LaunchType": "FARGATE",
        "PlatformVersion": "LATEST",
        "NetworkConfiguration": {
            "AwsvpcConfiguration": {
                "Subnets": ["subnet-private-1", "subnet-private-2"],
                "SecurityGroups": [f"${{{group}.GroupId}}"],
                "AssignPublicIp": "DISABLED",
            }
        },
        "EnableECSManagedTags": True,
        "PropagateTags": "TASK_DEFINITION",
    }
    assert "HeartbeatSeconds" not in state


def test_the_default_security_group_lets_nothing_in(bare: Template) -> None:
    assert "SecurityGroupIngress" not in only(bare, "AWS::EC2::SecurityGroup")


def test_the_options_of_a_launch(templates: Mapping[str, Template]) -> None:
    template = templates["full"]
    parameters = launch(template)
    [role] = [name for name in resources(template, "AWS::IAM::Role") if name.startswith("JobRole")]
    assert parameters["CapacityProviderStrategy"] == [{"CapacityProvider": "FARGATE_SPOT", "Weight": 1}]
    assert parameters["PlatformVersion"] == "1.4.0"
    assert parameters["PropagateTags"] == "NONE"
    assert parameters["NetworkConfiguration"]["AwsvpcConfiguration"] == {
        "Subnets": ["subnet-public-1", "subnet-public-2"],
        "SecurityGroups": ["sg-0a1b2c3d4e5f60718"],
        "AssignPublicIp": "ENABLED",
    }
    assert parameters["Overrides"] == {
        "ContainerOverrides": [
            {
                "Name": "app",
                "Command.$": "$.commands",
                "Environment": [
                    {"Name": "TENANT", "Value.$": "$.tenant"},
                    {"Name": "RUN", "Value.$": "$$.Execution.Name"},
                    # For its heartbeats.
                    {"Name": "TASK_TOKEN", "Value.$": "$$.Task.Token"},
                ],
                "Cpu": 128,
                "Memory": 512,
                "MemoryReservation": 256,
            }
        ],
        "Cpu": "1024",
        "Memory": "2048",
        "TaskRoleArn": f"${{{role}.Arn}}",
    }
    assert resources(template, "AWS::EC2::SecurityGroup") == {}


def test_on_demand_differs_from_spot_by_the_capacity_only(templates: Mapping[str, Template]) -> None:
    states = definition(templates["full"])["States"]
    spot, on_demand = dict(states["Run task"]["Parameters"]), dict(states["Run task on demand"]["Parameters"])
    del spot["CapacityProviderStrategy"]
    assert on_demand.pop("LaunchType") == "FARGATE"
    assert spot == on_demand


def test_time_limits(templates: Mapping[str, Template]) -> None:
    machine = definition(templates["full"])
    assert machine["TimeoutSeconds"] == 5 * 3600
    for name in ("Run task", "Run task on demand"):
        assert machine["States"][name]["TimeoutSeconds"] == 30 * 60
        assert machine["States"][name]["HeartbeatSeconds"] == 5 * 60


def test_only_essential_containers_owe_heartbeats(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack, essential=["app", "worker"], sidecars=["proxy"]), heartbeat=Duration.minutes(1))
    token = {"Name": "TASK_TOKEN", "Value.$": "$$.Task.Token"}
    assert launch(template_of(stack))["Overrides"]["ContainerOverrides"] == [
        {"Name": "app", "Environment": [token]},
        {"Name": "worker", "Environment": [token]},
    ]


def test_no_execution_is_allowed_longer_than_step_functions_allows(templates: Mapping[str, Template]) -> None:
    assert definition(templates["for a year"])["TimeoutSeconds"] == 365 * 86_400


def test_paths_into_the_input_are_found_wherever_they_lead(templates: Mapping[str, Template]) -> None:
    [container] = launch(templates["input paths of all kinds"])["Overrides"]["ContainerOverrides"]
    assert container["Command.$"] == "$.jobs[0].commands"
    assert container["Environment"][-1] == {"Name": "LITERAL", "Value": "no $.path"}


# --- tokens and what is imported -----------------------------------------------------------------------------


def test_tokens_pass(templates: Mapping[str, Template]) -> None:
    template = templates["tokens"]
    machine = only(template, "AWS::StepFunctions::StateMachine")
    assert machine["StateMachineName"] == {"Fn::Join": ["", [{"Ref": "Name"}, "-state-machine"]]}
    rule = trigger(template)
    assert (rule["Name"], rule["ScheduleExpression"]) == ({"Ref": "Name"}, {"Ref": "Expression"})
    [target] = rule["Targets"]
    assert target["RetryPolicy"]["MaximumRetryAttempts"] == {"Ref": "Attempts"}
    assert {"Ref": "Tenant"} in target["Input"]["Fn::Join"][1]
    parameters = launch(template)
    assert parameters["Overrides"]["Cpu"] == "${Cpu}"
    assert parameters["NetworkConfiguration"]["AwsvpcConfiguration"]["SecurityGroups"] == ["${GroupId}"]
    [container] = parameters["Overrides"]["ContainerOverrides"]
    assert container["Environment"] == [{"Name": "TENANT", "Value": "${Tenant}"}]


def test_an_imported_cluster(templates: Mapping[str, Template]) -> None:
    template = templates["imported cluster"]
    assert launch(template)["Cluster"].endswith(":cluster/jobs")
    [run_task] = [one for one in statements(template) if one["Action"] == "ecs:RunTask"]
    assert run_task["Condition"]["ArnEquals"]["ecs:cluster"]["Fn::Join"][1][-1] == ":cluster/jobs"


def test_imported_subnets_may_be_public(templates: Mapping[str, Template]) -> None:
    network = launch(templates["imported subnets"])["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert (network["Subnets"], network["AssignPublicIp"]) == (["${SubnetId}"], "ENABLED")


def test_a_vpc_that_is_looked_up(app: cdk.App) -> None:
    account = cdk.Environment(account="111122223333", region="eu-central-1")
    stack = cdk.Stack(app, "Stack", env=account)
    vpc = ec2.Vpc.from_lookup(stack, "Default", is_default=True)
    scheduled(surroundings(stack, vpc=vpc), assign_public_ip=True)
    assert launch(template_of(stack))["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "ENABLED"


# --- who is told ---------------------------------------------------------------------------------------------


def unseen_endings(template: Template) -> dict[str, Any]:
    [rule] = [rule for rule in resources(template, "AWS::Events::Rule").values() if "EventPattern" in rule]
    return rule


def test_by_default_an_alert_function_tells_of_failures(bare: Template) -> None:
    function = only(bare, "AWS::Lambda::Function")
    [topic] = resources(bare, "AWS::SNS::Topic")
    assert function["Handler"] == "alert.handler.handle"
    assert function["Environment"] == {"Variables": {"ALERT_TOPIC_ARN": {"Ref": topic}}}
    assert definition(bare)["States"]["Tell of the failure"]["Resource"].endswith(":states:::lambda:invoke")


def test_endings_that_no_catch_sees_are_told_by_a_rule(bare: Template) -> None:
    rule = unseen_endings(bare)
    [machine] = resources(bare, "AWS::StepFunctions::StateMachine")
    [function] = resources(bare, "AWS::Lambda::Function")
    assert rule["EventPattern"] == {
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {
            "stateMachineArn": [{"Ref": machine}],
            "$or": [
                {"status": ["TIMED_OUT", "ABORTED"]},
                {"status": ["FAILED"], "error": ["States.Runtime", "States.DataLimitExceeded", {"exists": False}]},
            ],
        },
    }
    [target] = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": [function, "Arn"]}
    assert "DeadLetterConfig" in target


def test_a_function_of_ones_own_replaces_the_alert_function(templates: Mapping[str, Template]) -> None:
    template = templates["own function"]
    own = "arn:aws:lambda:eu-central-1:111122223333:function:own"
    parameters = definition(template)["States"]["Tell of the failure"]["Parameters"]
    assert parameters["FunctionName"] == own
    # No more than what was promised: the response and the context object.
    assert set(parameters["Payload"]) == {"Response.$", "Execution"}
    assert resources(template, "AWS::Lambda::Function") == {}
    assert resources(template, "AWS::SNS::Topic") == {}
    assert [one["Resource"] for one in statements(template) if one["Action"] == "lambda:InvokeFunction"] == [own]
    assert [target["Arn"] for target in unseen_endings(template)["Targets"]] == [own]


def test_a_topic_alone(templates: Mapping[str, Template]) -> None:
    template = templates["topic only"]
    [topic] = resources(template, "AWS::SNS::Topic")
    state = definition(template)["States"]["Tell of the failure"]
    assert state["Resource"].endswith(":states:::sns:publish")
    assert state["Parameters"]["TopicArn"] == f"${{{topic}}}"
    assert [target["Arn"] for target in unseen_endings(template)["Targets"]] == [{"Ref": topic}]
    assert resources(template, "AWS::Lambda::Function") == {}


def test_several_handlers_are_told_in_order_and_the_own_function_first(templates: Mapping[str, Template]) -> None:
    states = definition(templates["full"])["States"]
    services = [states[f"Tell {number} of the failure"]["Resource"].split(":::")[1] for number in (1, 2, 3)]
    assert services == ["lambda:invoke", "lambda:invoke", "sns:publish"]
    assert states["Tell 1 of the failure"]["Next"] == "Tell 2 of the failure"
    assert states["Tell 3 of the failure"]["Next"] == "Failed"
    assert len(unseen_endings(templates["full"])["Targets"]) == 3


def test_alerts_can_be_left_out(templates: Mapping[str, Template]) -> None:
    template = templates["nobody"]
    assert resources(template, "AWS::Lambda::Function") == {}
    assert len(resources(template, "AWS::Events::Rule")) == 1
    actions = {action for one in statements(template) for action in as_list(one["Action"])}
    assert not actions & {"lambda:InvokeFunction", "sns:Publish", "sqs:SendMessage"}


# --- seeing it -----------------------------------------------------------------------------------------------


def test_every_execution_is_logged_and_traced(bare: Template) -> None:
    machine = only(bare, "AWS::StepFunctions::StateMachine")
    [log_group] = [name for name in resources(bare, "AWS::Logs::LogGroup") if "Workflow" in name]
    assert machine["TracingConfiguration"] == {"Enabled": True}
    assert machine["LoggingConfiguration"] == {
        "Destinations": [{"CloudWatchLogsLogGroup": {"LogGroupArn": {"Fn::GetAtt": [log_group, "Arn"]}}}],
        "IncludeExecutionData": True,
        "Level": "ALL",
    }
    settings = resources(bare, "AWS::Logs::LogGroup")[log_group]
    parts = settings["LogGroupName"]["Fn::Join"][1]
    assert parts[:2] == ["/aws/vendedlogs/states/", {"Ref": "AWS::StackName"}]
    assert settings["RetentionInDays"] == 90
    assert bare["Resources"][log_group]["DeletionPolicy"] == "Delete"


def test_the_options_of_the_log(templates: Mapping[str, Template]) -> None:
    template = templates["full"]
    logging = only(template, "AWS::StepFunctions::StateMachine")["LoggingConfiguration"]
    assert logging["IncludeExecutionData"] is False
    [log_group] = [group for name, group in resources(template, "AWS::Logs::LogGroup").items() if "Workflow" in name]
    assert log_group["RetentionInDays"] == 7


def test_every_bad_ending_has_an_alarm(bare: Template) -> None:
    alarms = {alarm["MetricName"]: alarm for alarm in resources(bare, "AWS::CloudWatch::Alarm").values()}
    assert set(alarms) == {
        "ExecutionsFailed",
        "ExecutionsTimedOut",
        "ExecutionsAborted",
        "ExecutionThrottled",
        "ApproximateNumberOfMessagesVisible",
        "Errors",
    }
    for alarm in alarms.values():
        assert (alarm["Threshold"], alarm["TreatMissingData"]) == (1, "notBreaching")
        assert "AlarmActions" not in alarm


def test_alarms_can_be_reached_and_given_actions(stack: cdk.Stack) -> None:
    construct = full(stack)
    template = template_of(stack)
    listed = {stack.resolve(alarm.alarm_arn)["Fn::GetAtt"][0] for alarm in construct.alarms}
    alarms = resources(template, "AWS::CloudWatch::Alarm")
    # Those of the shared alert function are its own.
    assert listed == {name for name in alarms if not name.startswith("SharedAlert")}
    [on_call] = [name for name in resources(template, "AWS::SNS::Topic") if name.startswith("OnCall")]
    assert all(alarms[name]["AlarmActions"] == [{"Ref": on_call}] for name in listed)


def test_alarms_of_an_own_alert_function_are_among_them(stack: cdk.Stack) -> None:
    construct = scheduled(surroundings(stack), expected_every=Duration.days(1))
    names = {alarm.node.path.removeprefix("Stack/Nightly/") for alarm in construct.alarms}
    assert names == {
        "Workflow/FailedAlarm",
        "Workflow/TimedOutAlarm",
        "Workflow/AbortedAlarm",
        "Workflow/ThrottledAlarm",
        "DeadLetters/Alarm",
        "Alert/Failing",
        "Alert/DeadLetters/Alarm",
        "MissedRunAlarm",
    }


@pytest.mark.parametrize(
    ("variant", "period", "periods"),
    [("full", 3600, 96), ("a day", 3600, 25), ("half an hour", 1800, 1)],
)
def test_a_run_that_is_missed_has_an_alarm(
    variant: str, period: int, periods: int, templates: Mapping[str, Template]
) -> None:
    alarms = resources(templates[variant], "AWS::CloudWatch::Alarm").values()
    [alarm] = [alarm for alarm in alarms if alarm["MetricName"] == "ExecutionsSucceeded"]
    assert (alarm["Period"], alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]) == (period, periods, periods)
    assert (alarm["ComparisonOperator"], alarm["TreatMissingData"]) == ("LessThanThreshold", "breaching")


# --- permissions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_policy_allows_every_action_of_a_service(variant: str, templates: Mapping[str, Template]) -> None:
    actions = [action for one in statements(templates[variant]) for action in as_list(one["Action"])]
    assert actions
    assert not [action for action in actions if "*" in action]


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_log_delivery_and_traces_are_allowed_on_every_resource(
    variant: str, templates: Mapping[str, Template]
) -> None:
    unlimited = [one for one in statements(templates[variant]) if "*" in as_list(one["Resource"])]
    services = {action.split(":")[0] for one in unlimited for action in as_list(one["Action"])}
    assert services == {"logs", "xray"}
    # No level of resources: Actions, resources, and condition keys for CloudWatch Logs, and for X-Ray.
    assert not [one for one in unlimited if "logs:PutLogEvents" in as_list(one["Action"])]


def test_what_the_state_machine_may_do(templates: Mapping[str, Template]) -> None:
    template = templates["full"]
    [cluster] = resources(template, "AWS::ECS::Cluster")
    [task_definition] = resources(template, "AWS::ECS::TaskDefinition")
    of_role = [
        statement
        for name, policy in resources(template, "AWS::IAM::Policy").items()
        if "WorkflowRole" in name
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    by_action = {action: one for one in of_role for action in as_list(one["Action"])}
    in_cluster = {"ArnEquals": {"ecs:cluster": {"Fn::GetAtt": [cluster, "Arn"]}}}
    assert by_action["ecs:RunTask"]["Resource"] == {"Ref": task_definition}
    assert by_action["ecs:RunTask"]["Condition"] == in_cluster
    assert by_action["ecs:StopTask"]["Condition"] == in_cluster
    assert by_action["ecs:TagResource"]["Condition"] == {"StringEquals": {"ecs:CreateAction": "RunTask"}}
    passed = by_action["iam:PassRole"]
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    roles = {arn["Fn::GetAtt"][0] for arn in passed["Resource"]}
    # The role that the caller gave, and not the task definition's own.
    assert {name.rstrip("0123456789ABCDEF") for name in roles} == {"JobRole", "TaskExecutionRole"}


# --- where it can stand --------------------------------------------------------------------------------------


def test_two_in_one_stack(stack: cdk.Stack) -> None:
    around = surroundings(stack)
    scheduled(around, "Nightly")
    scheduled(around, "Hourly")
    template = template_of(stack)
    assert len(resources(template, "AWS::StepFunctions::StateMachine")) == 2
    groups = [
        group["LogGroupName"]
        for group in resources(template, "AWS::Logs::LogGroup").values()
        if "LogGroupName" in group
    ]
    assert len({json.dumps(name) for name in groups}) == 2


def test_in_a_stage(app: cdk.App) -> None:
    stack = cdk.Stack(cdk.Stage(app, "Production"), "Stack")
    scheduled(surroundings(stack))
    machine = definition(template_of(stack))
    assert (
        machine["States"]["Tell of the failure"]["Parameters"]["Payload"]["Job"]["name"] == "Production/Stack/Nightly"
    )


def test_everything_shared_lies_in_other_stacks(app: cdk.App) -> None:
    shared, alerts, first, second = (cdk.Stack(app, name) for name in ("Shared", "Alerts", "First", "Second"))
    around = surroundings(shared, vpc=ec2.Vpc(shared, "Vpc", max_azs=2))
    handlers = [AlertFunction(alerts, "Alert"), sns.Topic(alerts, "Topic")]
    own = lambda_.Function(
        alerts,
        "Own",
        runtime=lambda_.Runtime.PYTHON_3_13,
        handler="index.handle",
        code=lambda_.Code.from_inline("def handle(event, context): return event"),
    )
    for stack in (first, second):
        here = replace(around, stack=stack)
        scheduled(here, alert_lambda=own, failure_handlers=handlers)
    app.synth()  # raises on a cycle
    assert {one.stack_name for one in first.dependencies} == {"Shared", "Alerts"}
    assert {one.stack_name for one in alerts.dependencies} == set()
    assert {one.stack_name for one in shared.dependencies} == set()


def test_the_environment_need_not_be_known(bare: Template) -> None:
    assert "${AWS::Partition}" in launch(bare)["Cluster"] or launch(bare)["Cluster"].startswith("${")
    text = json.dumps(bare)
    assert "111122223333" not in text
    assert "eu-central-1:" not in text


def test_no_physical_names_are_chosen(bare: Template) -> None:
    names = ("Name", "StateMachineName", "QueueName", "TopicName", "FunctionName", "RoleName", "AlarmName", "GroupName")
    named = {
        f"{logical_id}.{name}"
        for logical_id, resource in bare["Resources"].items()
        for name in names
        # A reference is to somebody else's name.
        if isinstance(resource.get("Properties", {}).get(name), str)
    }
    assert named == set()


def test_escape_hatches_reach_the_resources(stack: cdk.Stack) -> None:
    construct = scheduled(surroundings(stack))
    machine = construct.state_machine.node.default_child
    assert isinstance(machine, sfn.CfnStateMachine)
    machine.add_property_override("TracingConfiguration.Enabled", False)
    assert construct.rule is not None
    rule = construct.rule.node.default_child
    assert isinstance(rule, events.CfnRule)
    rule.add_property_override("Description", "every night")
    construct.state_machine.role.add_managed_policy(iam.ManagedPolicy.from_aws_managed_policy_name("ReadOnlyAccess"))
    [group] = construct.security_groups
    group.add_ingress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443))
    assert construct.alert is not None
    construct.alert.function.add_environment("EXTRA", "1")

    template = template_of(stack)
    assert only(template, "AWS::StepFunctions::StateMachine")["TracingConfiguration"]["Enabled"] is False
    assert trigger(template)["Description"] == "every night"
    assert only(template, "AWS::EC2::SecurityGroup")["SecurityGroupIngress"][0]["FromPort"] == 443
    assert only(template, "AWS::Lambda::Function")["Environment"]["Variables"]["EXTRA"] == "1"


def test_feature_flags_change_nothing_about_security(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An app that was never told of any flag gets the same resources and the same permissions."""
    readables = []
    for flags in (FLAGS, {}):
        stack = cdk.Stack(make_app(tmp_path_factory.mktemp("flags"), flags), "Stack")
        full(stack)
        readables.append(readable(template_of(stack))["Resources"])
    with_flags, without = readables

    def of_construct(template: Mapping[str, Any]) -> dict[str, Any]:
        # What surrounds the construct is the caller's, flags included.
        return {name: one for name, one in template.items() if name.startswith(("Nightly", "SharedAlert"))}

    ours, theirs = of_construct(with_flags), of_construct(without)
    assert set(ours) == set(theirs)
    for name in ours:
        assert allowed(ours[name]) == allowed(theirs[name]), name
        assert {k: v for k, v in ours[name].items() if k != "Properties"} == {
            k: v for k, v in theirs[name].items() if k != "Properties"
        }, name


def allowed(resource: Mapping[str, Any]) -> Any:
    """The properties; those of a policy as single permissions, which a flag merges and sorts."""
    if resource["Type"] != "AWS::IAM::Policy":
        return resource.get("Properties")
    return {
        json.dumps([action, one_resource, statement.get("Condition"), statement["Effect"]], sort_keys=True)
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
        for one_resource in as_list(statement["Resource"])
    }


def test_every_option_is_set_by_the_full_example(stack: cdk.Stack) -> None:
    """Or the snapshots and rules that stand on it would miss an option."""
    options = inspect.signature(ScheduledStepFunctionsFargateTask.__init__).parameters
    given = full_options(surroundings(stack))
    required = {"self", "scope", "id_", "cluster", "task_definition"}
    # The opposite of the first is the default, and has tests of its own; the others are those of `guarded`.
    assert set(options) - set(given) - required == {"fail_execution", "overlap", "semaphore"}


def test_a_policy_that_retries_everything_is_a_retry_of_the_state(stack: cdk.Stack) -> None:
    scheduled(surroundings(stack), retry=RetryPolicy(max_attempts=2), fail_execution=False)
    machine = definition(template_of(stack))
    [retrier] = machine["States"]["Run task"]["Retry"]
    assert (retrier["ErrorEquals"], retrier["MaxAttempts"]) == (["States.ALL"], 2)
    assert machine["States"]["Tell of the failure"]["Next"] == "Failed, and told"
    assert machine["States"]["Failed, and told"]["Type"] == "Succeed"


def test_a_container_without_a_log_of_cloudwatch_is_described_without(stack: cdk.Stack) -> None:
    task_definition = ecs.FargateTaskDefinition(stack, "Quiet")
    image = ecs.ContainerImage.from_registry("busybox")
    named = logs.LogGroup.from_log_group_name(stack, "Named", "/jobs")
    task_definition.add_container("app", image=image)
    task_definition.add_container(
        "proxy", image=image, essential=False, logging=ecs.LogDriver.aws_logs(stream_prefix="p", log_group=named)
    )
    scheduled(replace(surroundings(stack), task_definition=task_definition))
    template = template_of(stack)
    job = definition(template)["States"]["Tell of the failure"]["Parameters"]["Payload"]["Job"]
    assert job["containers"] == [
        {"name": "app", "essential": True},
        {"name": "proxy", "essential": False, "logGroup": "/jobs", "logStreamPrefix": "p"},
    ]
    [reading] = [one for one in statements(template) if one["Action"] == "logs:GetLogEvents"]
    assert reading["Resource"]["Fn::Join"][1][-1] == ":log-group:/jobs:*"

"""What cannot work is refused at synthesis, with a message that says what to write instead."""

import re
from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from constructs_lib import AlertFunction, ConfigurationError, LaunchRetry, RetryPolicy
from tests.scheduled import Surroundings, imported_vpc, scheduled, surroundings

Options = Callable[[Surroundings], dict[str, Any]]

AN_HOUR = "Pass for example Duration.hours(1)."


def exactly(message: str) -> str:
    return f"^{re.escape(message)}$"


def token(around: Surroundings) -> Duration:
    return Duration.seconds(cdk.CfnParameter(around.stack, "Seconds", type="Number").value_as_number)


def stranger(around: Surroundings) -> ecs.ContainerDefinition:
    other = ecs.FargateTaskDefinition(around.stack, "Other")
    return other.add_container("other", image=ecs.ContainerImage.from_registry("busybox"))


def command(around: Surroundings, path: str, **more: Any) -> dict[str, Any]:
    override = tasks.ContainerOverride(
        container_definition=around.container, command=sfn.JsonPath.list_at(path), environment=more.pop("env", None)
    )
    return {"container_overrides": [override], **more}


def on_ec2(around: Surroundings) -> ecs.TaskDefinition:
    task_definition = ecs.TaskDefinition(around.stack, "OnEc2", compatibility=ecs.Compatibility.EC2)
    task_definition.add_container("app", image=ecs.ContainerImage.from_registry("busybox"), memory_limit_mib=64)
    return task_definition


def subnets_of_type(type_: ec2.SubnetType) -> ec2.SubnetSelection:
    return ec2.SubnetSelection(subnet_type=type_)


OTHER_SUBNETS = (
    "Pass subnets=ec2.SubnetSelection(...) for subnets that the VPC has; for public subnets add assign_public_ip=True."
)
LONG_BUDGET = RetryPolicy(max_attempts=10, interval=Duration.minutes(1))

# The message follows the path of the construct and a colon. Arguments of the work are checked where it is made.
REJECTIONS: list[tuple[str, Options, str]] = [
    # Durations
    (
        "Stack/Nightly",
        lambda around: {"timeout": Duration.seconds(0)},
        f"timeout must be at least 1 second, in whole seconds, got Duration of 0 seconds. {AN_HOUR}",
    ),
    (
        "Stack/Nightly",
        lambda around: {"timeout": Duration.millis(1500)},
        f"timeout must be at least 1 second, in whole seconds, got Duration of 1 second 500 millis. {AN_HOUR}",
    ),
    (
        "Stack/Nightly",
        lambda around: {"timeout": token(around)},
        "timeout must be known at synthesis, got a token. Pass a literal such as Duration.hours(1) instead of a token.",
    ),
    ("Stack/Nightly", lambda around: {"timeout": 60}, f"timeout must be a Duration, got 60. {AN_HOUR}"),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"timeout": Duration.days(366)},
        "timeout must be at most 365 days, got Duration of 366 days. Pass Duration.seconds(31536000) or less.",
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"heartbeat": Duration.seconds(0)},
        f"heartbeat must be at least 1 second, in whole seconds, got Duration of 0 seconds. {AN_HOUR}",
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"heartbeat": Duration.hours(1)},
        "heartbeat must be shorter than timeout (1 hour), got Duration of 1 hour. "
        "Shorten heartbeat or lengthen timeout.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"execution_timeout": Duration.seconds(0)},
        f"execution_timeout must be at least 1 second, in whole seconds, got Duration of 0 seconds. {AN_HOUR}",
    ),
    (
        "Stack/Nightly",
        lambda around: {"execution_timeout": Duration.minutes(100)},
        "execution_timeout must not be shorter than timeout and the pauses of retry together (1 hour 53 minutes), "
        "got Duration of 1 hour 40 minutes. Lengthen it, or shorten timeout or the retry budget.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"execution_timeout": token(around)},
        "execution_timeout must be known at synthesis, got a token. "
        "Pass a literal such as Duration.hours(1) instead of a token.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"execution_timeout": Duration.days(366)},
        "execution_timeout must be at most 365 days, got Duration of 366 days. "
        "Pass Duration.seconds(31536000) or less.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"expected_every": Duration.days(8)},
        "expected_every must be at most 7 days, got Duration of 8 days. Pass Duration.seconds(604800) or less.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"expected_every": Duration.seconds(30)},
        f"expected_every must be at least 1 minute, in whole seconds, got Duration of 30 seconds. {AN_HOUR}",
    ),
    (
        "Stack/Nightly",
        lambda around: {"max_event_age": Duration.seconds(30)},
        f"max_event_age must be at least 1 minute, in whole seconds, got Duration of 30 seconds. {AN_HOUR}",
    ),
    (
        "Stack/Nightly",
        lambda around: {"max_event_age": Duration.hours(25)},
        "max_event_age must be at most 1 day, got Duration of 1 day 1 hour. Pass Duration.seconds(86400) or less.",
    ),
    # Retries
    (
        "Stack/Nightly",
        lambda around: {"timeout": Duration.minutes(9), "retry": LaunchRetry(throttled=LONG_BUDGET)},
        "retry.throttled must not wait longer than timeout (9 minutes) in all, got Duration of 10 minutes. "
        "Shorten it, or pass execution_timeout=Duration.… for the whole execution.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"timeout": Duration.minutes(9), "retry": LONG_BUDGET},
        "retry must not wait longer than timeout (9 minutes) in all, got Duration of 10 minutes. "
        "Shorten it, or pass execution_timeout=Duration.… for the whole execution.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"retry": 3},
        "retry must be of type LaunchRetry or RetryPolicy, got 3. Pass for example LaunchRetry().",
    ),
    (
        "Stack/Nightly",
        lambda around: {"retry_attempts": 186},
        "retry_attempts must be a whole number from 0 to 185, got 186. Pass for example 1.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"retry_attempts": -1},
        "retry_attempts must be a whole number from 0 to 185, got -1. Pass for example 1.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"retry_attempts": True},
        "retry_attempts must be a whole number from 0 to 185, got True. Pass for example 1.",
    ),
    # The task
    (
        "Stack/Nightly/Workflow",
        lambda around: {"task_definition": on_ec2(around)},
        "task_definition must be compatible with Fargate, got 'Stack/OnEc2'. Use ecs.FargateTaskDefinition.",
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"task_definition": ecs.FargateTaskDefinition(around.stack, "Empty")},
        "task_definition must have a container, got 'Stack/Empty'. "
        "Call task_definition.add_container(...) before you pass it.",
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"container_overrides": [tasks.ContainerOverride(container_definition=stranger(around))]},
        "container_overrides must name a container of the task definition (app), got 'other'. "
        "Pass container_definition=task_definition.default_container.",
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"cpu": 128},
        "cpu must be a whole number from 256 to 32768, got 128. Pass for example 256.",
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"memory_limit_mib": 511},
        "memory_limit_mib must be a whole number from 512 to 249856, got 511. Pass for example 512.",
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"capacity": "on demand"},
        "capacity must be of type Capacity, got 'on demand'. Pass for example Capacity.ON_DEMAND.",
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"propagated_tag_source": ecs.PropagatedTagSource.SERVICE},
        "propagated_tag_source must not be SERVICE: a task that is run by itself belongs to no service, "
        "got 'SERVICE'. Pass ecs.PropagatedTagSource.TASK_DEFINITION or NONE.",
    ),
    # The network
    (
        "Stack/Nightly/Workflow",
        lambda around: {"subnets": subnets_of_type(ec2.SubnetType.PRIVATE_ISOLATED)},
        "subnets must select subnets of the cluster's VPC (There are no 'Isolated' subnet groups in this VPC. "
        "Available types: Deprecated_Private_NAT,Private,Deprecated_Private,Public), got 'PRIVATE_ISOLATED'. "
        + OTHER_SUBNETS,
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"subnets": ec2.SubnetSelection(subnet_group_name="Nowhere")},
        "subnets must select subnets of the cluster's VPC (There are no subnet groups with name 'Nowhere' in this "
        "VPC. Available names: Public,Private), got 'Nowhere'. " + OTHER_SUBNETS,
    ),
    (
        "Stack/Nightly/Workflow",
        lambda around: {"assign_public_ip": True, "subnets": subnets_of_type(ec2.SubnetType.PRIVATE_WITH_EGRESS)},
        "assign_public_ip is of use in public subnets only: a private subnet does not route to a public address, "
        "got True. Leave assign_public_ip out, or pass "
        "subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC).",
    ),
    # The input
    (
        "Stack/Nightly",
        lambda around: {"input": {"error": 1, "day": 2, "result": 3}},
        "input must not have the keys result, error, launch, which the state machine sets beside the input, "
        "got ['error', 'result']. Rename them, or nest your input one level deeper.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"input": ["a"]},
        "input must be of type Mapping, got ['a']. Pass for example input={'day': 'monday'}.",
    ),
    (
        "Stack/Nightly",
        lambda around: command(around, "$.commands"),
        "input must have $.commands, which container_overrides takes from it, got {}. "
        "Add it to input, or correct the path.",
    ),
    (
        "Stack/Nightly",
        lambda around: command(around, "$.job.commands", input={"job": 3}),
        "input must have $.job.commands, which container_overrides takes from it, got {'job': 3}. "
        "Add it to input, or correct the path.",
    ),
    (
        "Stack/Nightly",
        lambda around: command(around, "$.jobs[1]", input={"jobs": [["a"]]}),
        "input must have $.jobs[1], which container_overrides takes from it, got {'jobs': [['a']]}. "
        "Add it to input, or correct the path.",
    ),
    (
        "Stack/Nightly",
        lambda around: command(
            around,
            "$.commands",
            input={"commands": ["a"]},
            env=[
                tasks.TaskEnvironmentVariable(
                    name="DAY", value=sfn.JsonPath.format("day-{}", sfn.JsonPath.string_at("$.day"))
                )
            ],
        ),
        "input must have $.day, which container_overrides takes from it, got {'commands': ['a']}. "
        "Add it to input, or correct the path.",
    ),
    # Names
    (
        "Stack/Nightly",
        lambda around: {"rule_name": "nightly report"},
        "rule_name must have 1 to 66 letters, digits, - or _, got 'nightly report'. Shorten it, or leave it out.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"rule_name": ""},
        "rule_name must have 1 to 66 letters, digits, - or _, got ''. Shorten it, or leave it out.",
    ),
    (
        "Stack/Nightly",
        lambda around: {"rule_name": "n" * 67},
        f"rule_name must have 1 to 66 letters, digits, - or _, got '{'n' * 67}'. Shorten it, or leave it out.",
    ),
    # Who is told
    (
        "Stack/Nightly",
        lambda around: {"failure_handlers": ["arn:aws:sns:eu-central-1:111122223333:topic"]},
        "failure_handlers must be functions, topics or handlers, got "
        "'arn:aws:sns:eu-central-1:111122223333:topic'. Pass for example [AlertFunction(self, 'Alert')].",
    ),
    (
        "Stack/Nightly",
        lambda around: {"success_handlers": [3]},
        "success_handlers must be functions, topics or handlers, got 3. "
        "Pass for example [AlertFunction(self, 'Alert')].",
    ),
    (
        "Stack/Nightly",
        lambda around: {"alert_lambda": "alert"},
        "alert_lambda must be functions, topics or handlers, got 'alert'. "
        "Pass for example [AlertFunction(self, 'Alert')].",
    ),
    # The schedule
    (
        "Stack/Nightly",
        lambda around: {"schedule": "rate(5 minutes)"},
        "schedule must be of type Schedule or ScheduleExpression, got 'rate(5 minutes)'. "
        "Pass for example events.Schedule.rate(Duration.hours(1)).",
    ),
    (
        "Stack/Nightly",
        lambda around: {"time_window": scheduler.TimeWindow.flexible(Duration.minutes(5))},
        "time_window needs EventBridge Scheduler, got 'events.Schedule'. "
        "Pass schedule=scheduler.ScheduleExpression.… instead of events.Schedule.…",
    ),
]


@pytest.mark.parametrize(("place", "options", "message"), REJECTIONS, ids=[text[:60] for _, _, text in REJECTIONS])
def test_what_cannot_work_is_refused(place: str, options: Options, message: str, stack: cdk.Stack) -> None:
    around = surroundings(stack)
    given = options(around)
    with pytest.raises(ConfigurationError, match=exactly(f"{place}: {message}")):
        scheduled(around, **given)


MALFORMED = [
    ("rate(1 minutes)", "the unit is singular for 1 and plural otherwise"),
    ("rate(5 minute)", "the unit is singular for 1 and plural otherwise"),
    ("rate(0 minutes)", "a rate is 1 or more"),
    ("rate(-1 minutes)", "neither rate(…), cron(…) nor at(…)"),
    ("rate(1.5 hours)", "neither rate(…), cron(…) nor at(…)"),
    ("rate(5 weeks)", "neither rate(…), cron(…) nor at(…)"),
    ("rate(5minutes)", "neither rate(…), cron(…) nor at(…)"),
    ("0 3 * * *", "neither rate(…), cron(…) nor at(…)"),
    ("", "neither rate(…), cron(…) nor at(…)"),
    ("cron(0 3 * * ?)", "cron takes 6 fields, not 5"),
    ("cron(0 3 * * ? * *)", "cron takes 6 fields, not 7"),
    ("cron(0 3 ? * ? *)", "exactly one of day of month and day of week is ?"),
    ("cron(0 3 * * * *)", "exactly one of day of month and day of week is ?"),
    ("cron(0 3 1 * MON *)", "exactly one of day of month and day of week is ?"),
    ("cron(60 3 * * ? *)", "minutes '60' is not within 0-59"),
    ("cron(,5 3 * * ? *)", "minutes '' is not within 0-59"),
    ("cron(*/0 3 * * ? *)", "minutes '*/0' is not within 0-59"),
    ("cron(1-2-3 3 * * ? *)", "minutes '1-2-3' is not within 0-59"),
    ("cron(0 24 * * ? *)", "hours '24' is not within 0-23"),
    ("cron(0 ? * * ? *)", "hours '?' is not within 0-23"),
    ("cron(0 3 0 * ? *)", "day of month '0' is not within 1-31"),
    ("cron(0 3 32 * ? *)", "day of month '32' is not within 1-31"),
    ("cron(0 3 ?,5 * ? *)", "day of month '?' is not within 1-31"),
    ("cron(0 3 32W * ? *)", "day of month '32W' is not within 1-31"),
    ("cron(0 3 L-31 * ? *)", "day of month 'L-31' is not within 1-31"),
    ("cron(0 3 * 13 ? *)", "month '13' is not within 1-12"),
    ("cron(0 3 * FOO ? *)", "month 'FOO' is not within 1-12"),
    ("cron(0 3 ? * 8 *)", "day of week '8' is not within 1-7"),
    ("cron(0 3 ? * MON#6 *)", "day of week 'MON#6' is not within 1-7"),
    ("cron(0 3 * * ? 1969)", "year '1969' is not within 1970-2199"),
    ("cron(٣ 3 * * ? *)", "minutes '٣' is not within 0-59"),
    ("at(2030-12-31T23:59:59)", "at(…) needs EventBridge Scheduler"),
]


@pytest.mark.parametrize(("expression", "problem"), MALFORMED, ids=[text for text, _ in MALFORMED])
def test_a_malformed_schedule_is_refused(expression: str, problem: str, stack: cdk.Stack) -> None:
    message = (
        f"Stack/Nightly: schedule must be a schedule expression: {problem}, got {expression!r}. "
        "Write for example rate(5 minutes) or cron(0 3 * * ? *)."
    )
    around = surroundings(stack)
    with pytest.raises(ConfigurationError, match=exactly(message)):
        scheduled(around, schedule=events.Schedule.expression(expression))


@pytest.mark.parametrize("moment", ["at(2030-13-01T00:00:00)", "at(tomorrow)", "at(2030-12-31T23:59:59Z)"])
def test_a_moment_that_is_none_is_refused(moment: str, stack: cdk.Stack) -> None:
    around = surroundings(stack)
    with pytest.raises(ConfigurationError, match=r"at takes a time like 2030-12-31T23:59:59, got 'at\("):
        scheduled(around, schedule=scheduler.ScheduleExpression.expression(moment))


@pytest.mark.parametrize(
    "expression",
    [
        "rate(1 minute)",
        "rate(1 hour)",
        "rate(7 days)",
        "cron(0 3 * * ? *)",
        "cron(0/15 8-17 ? * MON-FRI *)",
        "cron(0,30 */2 1,15 JAN-MAR,12 ? 2026-2030)",
        "cron(0 3 L * ? *)",
        "cron(0 3 L-3 * ? *)",
        "cron(0 3 LW * ? *)",
        "cron(0 3 15W * ? *)",
        "cron(0 3 ? * 6L *)",
        "cron(0 3 ? * 2#1 *)",
        "cron(0 3 ? * tue *)",
        "cron(0 3 ? * FRI-MON *)",
    ],
)
def test_what_eventbridge_takes_passes(expression: str, stack: cdk.Stack) -> None:
    construct = scheduled(surroundings(stack), schedule=events.Schedule.expression(expression))
    assert construct.rule is not None


def test_the_longest_rule_name_passes(stack: cdk.Stack) -> None:
    construct = scheduled(surroundings(stack), rule_name="n" * 66)
    assert construct.node.path == "Stack/Nightly"


@pytest.mark.parametrize(
    ("public", "private", "options", "message"),
    [
        (
            True,
            False,
            {},
            "(There are no 'Private' subnet groups in this VPC. Available types: Public), got 'PRIVATE_WITH_EGRESS'. ",
        ),
        (
            False,
            True,
            {"assign_public_ip": True},
            "(There are no 'Public' subnet groups in this VPC. "
            "Available types: Deprecated_Private_NAT,Private,Deprecated_Private), got 'PUBLIC'. ",
        ),
    ],
)
def test_a_vpc_without_subnets_of_the_wanted_type_is_refused(
    *, public: bool, private: bool, options: dict[str, Any], message: str, stack: cdk.Stack
) -> None:
    around = surroundings(stack, vpc=imported_vpc(stack, public=public, private=private))
    expected = f"Stack/Nightly/Workflow: subnets must select subnets of the cluster's VPC {message}{OTHER_SUBNETS}"
    with pytest.raises(ConfigurationError, match=exactly(expected)):
        scheduled(around, **options)


def test_an_id_that_is_taken_is_refused(stack: cdk.Stack) -> None:
    around = surroundings(stack)
    scheduled(around)
    AlertFunction(stack, "Alert")
    for taken in ("Nightly", "Alert"):
        message = f"Stack: id must be unique within its scope, got {taken!r}. Give this construct another id."
        with pytest.raises(ConfigurationError, match=exactly(message)):
            scheduled(around, taken)
    with pytest.raises(ConfigurationError, match="id must be unique"):
        AlertFunction(stack, "Nightly")


def test_a_negative_duration_is_refused_by_the_cdk() -> None:
    """Before it comes to us."""
    with pytest.raises(RuntimeError, match=r"Duration amounts cannot be negative\. Received: -1"):
        Duration.seconds(-1)


def test_a_misspelled_argument_is_refused_by_python(stack: cdk.Stack) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'time_out'"):
        scheduled(surroundings(stack), time_out=Duration.hours(1))


def test_a_configuration_error_is_a_value_error() -> None:
    assert issubclass(ConfigurationError, ValueError)


def test_handlers_may_be_of_all_kinds(stack: cdk.Stack) -> None:
    """The counterpart of the rejections: nothing legal is refused."""
    around = surroundings(stack)
    handlers = [
        AlertFunction(stack, "Alert"),
        sns.Topic(stack, "Topic"),
        sns.Topic.from_topic_arn(stack, "Imported", "arn:aws:sns:eu-central-1:111122223333:topic"),
    ]
    role = iam.Role.from_role_arn(stack, "Role", "arn:aws:iam::111122223333:role/job")
    construct = scheduled(around, failure_handlers=handlers, success_handlers=tuple(handlers), task_role=role)
    assert construct.alert is None

"""What the reprocessor makes of its options."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events

from constructs_lib import ConfigurationError, ErrorSpoolReprocessor
from tests.error_spools import ELSEWHERE, express_machine, full, hold, imported_machine, machine, reprocessor, spool
from tests.parts.test_error_spool import allowed, arn, by_id
from tests.pipelines import pipeline
from tests.rules.nag import findings
from tests.scheduled import make_app, template_of
from tests.templates import only, resources

Options = Callable[[cdk.Stack], dict[str, Any]]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Any]]:
    app = make_app(tmp_path_factory.mktemp("variants"))
    bare, everything = cdk.Stack(app, "Stack"), cdk.Stack(app, "Full")
    reprocessor(bare)
    full(everything)
    return {"bare": template_of(bare), "full": template_of(everything)}


@pytest.fixture(scope="module")
def bare(templates: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return templates["bare"]


def variables(template: dict[str, Any], part: str = "ReprocessorFunction") -> dict[str, Any]:
    found: dict[str, Any] = by_id(template, "AWS::Lambda::Function", part)[1]["Environment"]["Variables"]
    return found


# --- the function -----------------------------------------------------------------------------------------


def test_what_the_function_knows(templates: Mapping[str, dict[str, Any]]) -> None:
    template = templates["bare"]
    [machine_id] = resources(template, "AWS::StepFunctions::StateMachine")
    function = by_id(template, "AWS::Lambda::Function", "ReprocessorFunction")[1]
    assert (function["Handler"], function["Timeout"]) == ("spool.reprocessor.handle", 15 * 60)
    assert variables(template) == {
        "QUEUE_URL": {"Ref": by_id(template, "AWS::SQS::Queue", "SpoolQueue")[0]},
        "QUARANTINE_URL": {"Ref": by_id(template, "AWS::SQS::Queue", "SpoolQuarantine")[0]},
        "TABLE_NAME": {"Ref": by_id(template, "AWS::DynamoDB::Table", "Spool")[0]},
        "BUCKET": {"Ref": by_id(template, "AWS::S3::Bucket", "Spool")[0]},
        "TARGETS": {"Fn::Join": ["", ['["', {"Ref": machine_id}, '"]']]},
        "MODE": "restart",
        "MOST": "10",
        "STARTS_PER_SECOND": "1.0",
        "MOST_ATTEMPTS": "3",
        "RAMP": "2",
        "RAMP_SECONDS": "60",
        "KEY_PATH": "",
        "SPOOL": "Stack/Spool",
    }
    told = variables(templates["full"])
    assert {name: told[name] for name in ("MODE", "MOST", "STARTS_PER_SECOND", "MOST_ATTEMPTS", "RAMP")} == {
        "MODE": "redrive",
        "MOST": "50",
        "STARTS_PER_SECOND": "0.5",
        "MOST_ATTEMPTS": "5",
        "RAMP": "1",
    }
    assert (told["RAMP_SECONDS"], told["KEY_PATH"]) == ("120", "$.order.id")
    assert told["TARGETS"]["Fn::Join"][1][-1] == f'","{ELSEWHERE}"]'


def test_a_message_is_left_to_a_call_until_it_is_over(bare: dict[str, Any]) -> None:
    timeout = by_id(bare, "AWS::Lambda::Function", "ReprocessorFunction")[1]["Timeout"]
    for part in ("SpoolQueue", "SpoolQuarantine"):
        assert by_id(bare, "AWS::SQS::Queue", part)[1]["VisibilityTimeout"] > timeout


@pytest.mark.parametrize("variant", ["bare", "full"])
def test_the_function_may_do_what_it_does_and_nothing_else(
    variant: str, templates: Mapping[str, dict[str, Any]]
) -> None:
    template = templates[variant]
    # As CDK sorts them.
    queues = [arn(template, "AWS::SQS::Queue", part) for part in ("SpoolQuarantine", "SpoolQueue")]
    may = allowed(template, "ReprocessorFunctionRole")
    [machine_id] = resources(template, "AWS::StepFunctions::StateMachine")
    targets: list[Any] = [{"Ref": machine_id}]
    ends = [[":execution:", {"Fn::GetAtt": [machine_id, "Name"]}, ":*"]]
    if variant == "full":
        targets.append(ELSEWHERE)
        ends.append([":execution:elsewhere:*"])
    for action in ("states:DescribeExecution", "states:RedriveExecution"):
        executions = may.pop(action)
        assert [one["Fn::Join"][1][-len(end) :] for one, end in zip(executions, ends, strict=True)] == ends
    sqs = {"ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage", "SendMessage"}
    table = arn(template, "AWS::DynamoDB::Table", "SpoolLedger")
    assert may == {
        **{f"sqs:{action}": queues for action in sqs},
        **{f"dynamodb:{action}": [table] for action in ("GetItem", "PutItem", "UpdateItem")},
        "s3:GetObject": [{"Fn::Join": ["", [arn(template, "AWS::S3::Bucket", "Spool"), "/*"]]}],
        "states:StartExecution": targets,
    }


# --- when it acts -----------------------------------------------------------------------------------------


def calls(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rules that call the reprocessor, by what they call it with."""
    function = arn(template, "AWS::Lambda::Function", "ReprocessorFunction")
    return {
        target["Input"]: rule
        for rule in resources(template, "AWS::Events::Rule").values()
        for target in rule["Targets"]
        if target["Arn"] == function
    }


def test_by_itself_it_only_looks(bare: dict[str, Any]) -> None:
    """What it shows, SQS leaves out of its metric for the age: so somebody has to measure it."""
    [(event, rule)] = calls(bare).items()
    assert (event, rule["ScheduleExpression"]) == ('{"action":"list"}', "rate(6 hours)")


def test_it_runs_on_a_schedule_of_a_rule(stack: cdk.Stack) -> None:
    reprocessor(stack, schedule=events.Schedule.cron(minute="0", hour="6"))
    rule = calls(template_of(stack))['{"action":"reprocess"}']
    assert rule["ScheduleExpression"] == "cron(0 6 * * ? *)"


def test_it_runs_on_a_schedule_of_eventbridge_scheduler_and_after_a_window(
    templates: Mapping[str, dict[str, Any]],
) -> None:
    template = templates["full"]
    function = arn(template, "AWS::Lambda::Function", "ReprocessorFunction")
    schedules = [
        (one["ScheduleExpression"], one["Target"]["Input"])
        for one in resources(template, "AWS::Scheduler::Schedule").values()
        if one["Target"]["Arn"] == function
    ]
    assert sorted(schedules) == [
        ("cron(0 4 * * ? *)", '{"action":"reprocess"}'),
        ("rate(1 hour)", '{"action":"reprocess"}'),
    ]


def test_it_runs_when_an_alarm_is_ok_again(templates: Mapping[str, dict[str, Any]]) -> None:
    template = templates["full"]
    rule = calls(template)['{"action":"reprocess"}']
    assert rule["EventPattern"] == {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "resources": [{"Fn::GetAtt": [by_id(template, "AWS::CloudWatch::Alarm", "Neighbour")[0], "Arn"]}],
        "detail": {"state": {"value": ["OK"]}},
    }


def test_a_hold_watches_the_targets_and_has_it_drain_the_spool(templates: Mapping[str, dict[str, Any]]) -> None:
    template = templates["full"]
    function = arn(template, "AWS::Lambda::Function", "ReprocessorFunction")
    assert variables(template, "HoldBreaker")["REPROCESSOR_FUNCTION"] == function
    assert function in allowed(template, "HoldBreakerRole")["lambda:InvokeFunction"]
    breaker = arn(template, "AWS::Lambda::Function", "HoldBreaker")
    watched = [
        rule["EventPattern"]["detail"]["stateMachineArn"]
        for rule in resources(template, "AWS::Events::Rule").values()
        if "EventPattern" in rule and rule["Targets"][0]["Arn"] == breaker
    ]
    assert [ELSEWHERE] in watched
    assert len(watched) == 2


# --- what people see --------------------------------------------------------------------------------------


def test_the_widget_may_call_the_reprocessor_and_nothing_else(bare: dict[str, Any]) -> None:
    function = arn(bare, "AWS::Lambda::Function", "ReprocessorFunction")
    widget = by_id(bare, "AWS::Lambda::Function", "ReprocessorWidget")[1]
    assert widget["Handler"] == "spool.widget.handle"
    assert widget["Environment"]["Variables"] == {"REPROCESSOR_FUNCTION": function, "SPOOL": "Stack/Spool"}
    assert allowed(bare, "ReprocessorWidgetRole") == {"lambda:InvokeFunction": [function]}


def dashboard(template: dict[str, Any]) -> list[dict[str, Any]]:
    """The widgets, references as their logical id in angle brackets."""
    text = "".join(
        part if isinstance(part, str) else f"<{part.get('Ref') or part['Fn::GetAtt'][0]}>"
        for part in only(template, "AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Join"][1]
    )
    found: list[dict[str, Any]] = json.loads(text)["widgets"]
    return found


def test_the_section_of_a_dashboard(templates: Mapping[str, dict[str, Any]]) -> None:
    template = templates["full"]
    buttons, *graphs, text = dashboard(template)
    assert (buttons["type"], text["type"]) == ("custom", "text")
    assert buttons["properties"]["endpoint"] == f"<{by_id(template, 'AWS::Lambda::Function', 'Widget')[0]}>"
    assert set(buttons["properties"]["updateOn"].values()) == {False}
    metrics = [metric[1] for graph in graphs for metric in graph["properties"]["metrics"]]
    assert metrics == [
        "ApproximateNumberOfMessagesVisible",
        "ApproximateNumberOfMessagesVisible",
        "Restarted",
        "Redriven",
        "Quarantined",
        "Spooled",
        "Recovered",
    ]


def test_the_runbook_names_every_alarm_and_function_as_deployed(templates: Mapping[str, dict[str, Any]]) -> None:
    template = templates["full"]
    runbook = dashboard(template)[-1]["properties"]["markdown"]
    ours = {
        name
        for name in resources(template, "AWS::CloudWatch::Alarm")
        if re.match("Spool|Reprocessor|HoldO|HoldB", name)
    }
    # A failing widget is seen by whoever looks at it, and Hold's dead letters are told by their own alarm.
    widget = by_id(template, "AWS::CloudWatch::Alarm", "WidgetFailing")[0]
    for alarm in ours - {widget}:
        assert f"| `<{alarm}>` |" in runbook
    assert len(ours) == 11
    function = by_id(template, "AWS::Lambda::Function", "ReprocessorFunction")[0]
    gate = by_id(template, "AWS::Lambda::Function", "QuotaFunction")[0]
    commands = re.findall(r"--function-name <(\w+)> .* --payload '(.*)' /dev/stdout", runbook)
    assert [name for name, _ in commands] == [function] * (len(commands) - 2) + [gate] * 2
    actions = [json.loads(payload)["action"] for _, payload in commands]
    assert actions == [
        "list",
        "reprocess",
        "reprocess",
        "reprocess",
        "reprocess",
        "park",
        "release",
        "drop",
        "pause",
        "resume",
    ]


def test_without_a_hold_the_runbook_says_nothing_of_one(stack: cdk.Stack) -> None:
    assert "pause" not in str(stack.resolve(reprocessor(stack).runbook))


def test_the_alarms(stack: cdk.Stack) -> None:
    made = reprocessor(stack)
    assert set(made.alarms) == {"Failing", "WidgetFailing", "Expiring"}
    expiring = by_id(template_of(stack), "AWS::CloudWatch::Alarm", "ReprocessorExpiring")[1]
    assert (expiring["MetricName"], expiring["Threshold"]) == ("OldestFailureSeconds", 10 * 86_400)
    # As often as it looks, or there would be no data in between.
    assert expiring["Period"] == 6 * 3600


def test_all_alarms_do_what_they_are_told(templates: Mapping[str, dict[str, Any]]) -> None:
    for name, alarm in resources(templates["full"], "AWS::CloudWatch::Alarm").items():
        assert "AlarmActions" in alarm or name.startswith(("Neighbour", "Quota")), name


def test_the_metrics(stack: cdk.Stack) -> None:
    made = reprocessor(stack)
    for name, metric in {
        "Restarted": made.metric_restarted(),
        "Redriven": made.metric_redriven(),
        "Quarantined": made.metric_quarantined(),
    }.items():
        assert (metric.namespace, metric.metric_name) == ("ConstructsLib/ErrorSpool", name)
        assert dict(metric.dimensions or {}) == {"Spool": "Stack/Spool"}


# --- several stacks ---------------------------------------------------------------------------------------


def three_stacks(app: cdk.App) -> list[cdk.Stack]:
    shared, one, operations = (cdk.Stack(app, name) for name in ("Shared", "One", "Operations"))
    kept = spool(shared)
    watched = machine(one)
    kept.attach(watched)
    handled = pipeline(one, failure_handlers=[kept]).state_machine
    made = reprocessor(operations, spool=kept, targets=[watched, handled], hold=hold(operations, failures_in_a_row=2))
    cloudwatch.Dashboard(operations, "Dashboard").add_widgets(*made.dashboard_widgets())
    return [shared, one, operations]


def test_spool_state_machine_and_reprocessor_may_be_in_three_stacks(app: cdk.App) -> None:
    shared, one, operations = three_stacks(app)
    assert template_of(shared)
    dependencies = {
        stack.stack_name: {one.stack_name for one in stack.dependencies} for stack in (shared, one, operations)
    }
    assert dependencies == {"Shared": set(), "One": {"Shared"}, "Operations": {"Shared", "One"}}


def test_or_in_two(app: cdk.App) -> None:
    shared, one = cdk.Stack(app, "Shared"), cdk.Stack(app, "One")
    kept, watched = spool(shared), machine(one)
    kept.attach(watched)
    reprocessor(one, spool=kept, targets=[watched])
    assert template_of(shared)
    assert [dependency.stack_name for dependency in one.dependencies] == ["Shared"]


def test_what_nag_finds_is_explained_also_over_three_stacks(tmp_path: Path) -> None:
    # The state machine is the test's own, and the bucket's custom resource the CDK's.
    others = ("One/Machine/Resource", "One/BucketNotificationsHandler")
    assert [one for one in findings(three_stacks, tmp_path) if not one[1].startswith(others)] == []


# --- what cannot work -------------------------------------------------------------------------------------

STATE_MACHINES = "Pass the state machines whose failures are in the spool, for example [nightly.state_machine]."


def beside_its_spool(stack: cdk.Stack) -> dict[str, Any]:
    other = machine(cdk.Stack(cdk.App.of(stack), "Other"))
    kept = spool(stack)
    kept.attach(other)
    return {"spool": kept, "targets": [other]}


REJECTIONS: list[tuple[Options, str]] = [
    (
        lambda stack: {"spool": "spool", "targets": [machine(stack)]},
        "spool must be of type ErrorSpool, got 'spool'. Pass for example ErrorSpool(self, 'Spool').",
    ),
    (
        lambda stack: {"targets": []},
        f"targets must be a list of state machines, and not empty, got []. {STATE_MACHINES}",
    ),
    (
        lambda stack: {"spool": spool(stack), "targets": "machine"},
        f"targets must be a list of state machines, and not empty, got 'machine'. {STATE_MACHINES}",
    ),
    (
        lambda stack: {"spool": spool(stack), "targets": [5]},
        "targets must be a state machine, got 5. Pass the sfn.StateMachine itself.",
    ),
    (
        lambda stack: {"spool": spool(stack), "targets": [express_machine(stack)]},
        "targets must be a Standard workflow: nobody is told how an Express one ends, got 'Stack/Fast'. "
        "Leave out state_machine_type.",
    ),
    (
        beside_its_spool,
        "targets must not be in another stack than the spool and its reprocessor, where these are in one: each stack "
        "would need the other first, got 'Other/Machine'. Make the reprocessor in the stack of the state machine, or "
        "in one of its own.",
    ),
    (lambda stack: {"mode": "again"}, "mode must be 'restart' or 'redrive', got 'again'. Leave it out to restart."),
    (
        lambda stack: {"max_reprocess": 0},
        "max_reprocess must be a whole number from 1 to 10000, got 0. Pass for example 1.",
    ),
    (
        lambda stack: {"max_reprocess": "all"},
        "max_reprocess must be a whole number from 1 to 10000, got 'all'. Pass for example 1.",
    ),
    (
        lambda stack: {"starts_per_second": 0},
        "starts_per_second must be finite, and more than 0, got 0. Pass for example 1.",
    ),
    (
        lambda stack: {"starts_per_second": "fast"},
        "starts_per_second must be of type int or float, got 'fast'. Pass for example 1.",
    ),
    (
        lambda stack: {"max_attempts": 0},
        "max_attempts must be a whole number from 1 to 100, got 0. Pass for example 1.",
    ),
    (lambda stack: {"ramp": -1}, "ramp must be a whole number from 0 to 100, got -1. Pass for example 1."),
    (
        lambda stack: {"ramp_wait": Duration.minutes(11)},
        "ramp_wait must be at most 10 minutes, got Duration of 11 minutes. Pass Duration.seconds(600) or less.",
    ),
    (
        lambda stack: {"schedule": events.Schedule.expression("rate(0 minutes)")},
        "schedule must be a schedule expression: a rate is 1 or more, got 'rate(0 minutes)'. "
        "Write for example rate(5 minutes) or cron(0 3 * * ? *).",
    ),
    (
        lambda stack: {"schedule": "rate(5 minutes)"},
        "schedule must be of type Schedule or ScheduleExpression, got 'rate(5 minutes)'. "
        "Pass for example events.Schedule.rate(Duration.hours(1)).",
    ),
    (
        lambda stack: {"when_alarm_ok": "alarm"},
        "when_alarm_ok must be an alarm, got 'alarm'. Pass the cloudwatch.Alarm itself.",
    ),
    (
        lambda stack: {"hold": "hold"},
        "hold must be of type Hold, got 'hold'. Pass for example Hold(self, 'Hold', semaphore=quota).",
    ),
    (
        lambda stack: {"hold": hold(cdk.Stack(cdk.App.of(stack), "Other"))},
        "hold must be in the stack of the reprocessor, as each calls the other, got 'Other/Hold'. "
        "Make the Hold here; its semaphore may be in another stack.",
    ),
]


@pytest.mark.parametrize(("options", "message"), REJECTIONS, ids=[message[:60] for _, message in REJECTIONS])
def test_what_cannot_work_is_refused(options: Options, message: str, stack: cdk.Stack) -> None:
    given = options(stack)
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Reprocessor: {message}')}$"):
        reprocessor(stack, **given)


def test_an_id_that_is_taken_is_refused(stack: cdk.Stack) -> None:
    made = reprocessor(stack)
    message = "Stack: id must be unique within its scope, got 'Reprocessor'. Give this construct another id."
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        ErrorSpoolReprocessor(stack, "Reprocessor", spool=made.spool, targets=[imported_machine(stack)])


ACCEPTED: list[Options] = [
    lambda stack: {"max_reprocess": 10_000, "max_attempts": 100, "ramp": 0, "starts_per_second": 0.01},
    lambda stack: {"spool": spool(stack), "targets": (imported_machine(stack),)},
    lambda stack: {
        "when_alarm_ok": cloudwatch.Alarm.from_alarm_arn(
            stack, "Imported", "arn:aws:cloudwatch:eu-central-1:111122223333:alarm:neighbour"
        )
    },
    lambda stack: {"max_reprocess": cdk.CfnParameter(stack, "Most", type="Number").value_as_number},
]


@pytest.mark.parametrize("number", range(len(ACCEPTED)))
def test_nothing_legal_is_refused(number: int, stack: cdk.Stack) -> None:
    reprocessor(stack, **ACCEPTED[number](stack))
    assert template_of(stack)

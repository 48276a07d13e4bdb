"""The semaphore's resources, who may do what, and the state machines of other stacks that share it."""

import re
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudwatch_actions as cloudwatch_actions
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn

from asl_tools.resolve import state_machines
from constructs_lib import ConfigurationError, Semaphore, SharedSemaphore
from tests.parts.test_guard import work
from tests.rules.nag import findings
from tests.scheduled import make_app, template_of
from tests.templates import as_list, only, resources, statements


def with_machine(stack: cdk.Stack, semaphore: SharedSemaphore, id_: str = "Machine") -> sfn.StateMachine:
    """A state machine with a guard, connected."""
    guard = semaphore.guard(stack, f"{id_}Quota", work(stack, f"{id_} work"))
    machine = sfn.StateMachine(stack, id_, definition_body=sfn.DefinitionBody.from_chainable(guard))
    semaphore.connect(machine)
    return machine


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    stack = cdk.Stack(make_app(tmp_path_factory.mktemp("bare")), "Stack")
    with_machine(stack, Semaphore(stack, "Semaphore", limit=5))
    return template_of(stack)


# --- resources --------------------------------------------------------------------------------------------


def test_the_table_outlives_the_stack(bare: dict[str, Any]) -> None:
    [table] = [one for one in bare["Resources"].values() if one["Type"] == "AWS::DynamoDB::Table"]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert table["Properties"] == {
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in ("key", "item", "execution")
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": True,
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "ByExecution",
                "KeySchema": [{"AttributeName": "execution", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        "KeySchema": [{"AttributeName": "key", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}],
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {"SSEEnabled": True},
    }


def test_a_table_may_go_with_the_stack(stack: cdk.Stack) -> None:
    Semaphore(stack, "Semaphore", limit=5, removal_policy=RemovalPolicy.DESTROY)
    [table] = [one for one in template_of(stack)["Resources"].values() if one["Type"] == "AWS::DynamoDB::Table"]
    assert (table["DeletionPolicy"], table["Properties"]["DeletionProtectionEnabled"]) == ("Delete", False)


def test_what_the_function_knows(bare: dict[str, Any], stack: cdk.Stack) -> None:
    function = only(bare, "AWS::Lambda::Function")
    [table] = resources(bare, "AWS::DynamoDB::Table")
    assert function["Handler"] == "semaphore.handler.handle"
    assert function["Environment"]["Variables"] == {
        "TABLE_NAME": {"Ref": table},
        "LIMIT": "5",
        "STARTS_PER_SECOND": "",
        "GRACE_SECONDS": "120",
        "PATIENCE_SECONDS": "30",
        "SEMAPHORE": "Stack/Semaphore",
    }
    Semaphore(stack, "Semaphore", limit=1, max_starts_per_second=0.5, grace=Duration.seconds(0))
    variables = only(template_of(stack), "AWS::Lambda::Function")["Environment"]["Variables"]
    assert (variables["STARTS_PER_SECOND"], variables["GRACE_SECONDS"]) == ("0.5", "0")


def test_it_is_named_for_people_after_the_stack_as_deployed(app: cdk.App) -> None:
    stack = cdk.Stack(app, "Stack", stack_name="production")
    assert Semaphore(stack, "Semaphore", limit=1).name == "production/Semaphore"


def test_it_sweeps_every_minute(bare: dict[str, Any]) -> None:
    [rule] = [one for one in resources(bare, "AWS::Events::Rule").values() if "ScheduleExpression" in one]
    assert rule["ScheduleExpression"] == "rate(1 minute)"
    assert [one["Input"] for one in rule["Targets"]] == ['{"action":"sweep"}']


def test_the_alarms(stack: cdk.Stack) -> None:
    topic = sns.Topic(stack, "OnCall")
    semaphore = Semaphore(
        stack,
        "Semaphore",
        limit=5,
        oldest_waiter_alarm=Duration.minutes(10),
        alarm_actions=[cloudwatch_actions.SnsAction(topic)],
    )
    assert set(semaphore.alarms) == {"Failing", "Recovered", "OldestWaiter"}
    found = resources(template_of(stack), "AWS::CloudWatch::Alarm").values()
    assert {(one["MetricName"], one["Threshold"]) for one in found} == {
        ("Errors", 1),
        ("Recovered", 1),
        ("OldestWaiterSeconds", 600),
        ("ApproximateNumberOfMessagesVisible", 1),
    }
    assert all(one["AlarmActions"] for one in found)


def test_nobody_need_be_alarmed_of_who_waits(stack: cdk.Stack) -> None:
    assert "OldestWaiter" not in Semaphore(stack, "Semaphore", limit=5, oldest_waiter_alarm=None).alarms


def test_the_metrics(stack: cdk.Stack) -> None:
    semaphore = Semaphore(stack, "Semaphore", limit=5)
    metrics = {
        "InUse": semaphore.metric_in_use(),
        "Waiting": semaphore.metric_waiting(),
        "OldestWaiterSeconds": semaphore.metric_oldest_waiter_seconds(),
        "WaitSeconds": semaphore.metric_wait_seconds(statistic="Average"),
        "Granted": semaphore.metric_granted(),
        "Recovered": semaphore.metric_recovered(),
        "Skipped": semaphore.metric_skipped(period=Duration.hours(1)),
    }
    for name, metric in metrics.items():
        assert (metric.namespace, metric.metric_name) == ("ConstructsLib/Semaphore", name)
        assert dict(metric.dimensions or {}) == {"Semaphore": "Stack/Semaphore"}
    assert metrics["WaitSeconds"].statistic == "Average"
    assert metrics["Skipped"].period.to_minutes() == 60


# --- permissions ------------------------------------------------------------------------------------------


def test_the_function_may_do_what_it_does(bare: dict[str, Any]) -> None:
    [machine] = resources(bare, "AWS::StepFunctions::StateMachine")
    [table] = resources(bare, "AWS::DynamoDB::Table")
    may = {action: one["Resource"] for one in statements(bare) for action in as_list(one["Action"])}
    for answer in ("Success", "Failure", "Heartbeat"):
        assert may[f"states:SendTask{answer}"] == {"Ref": machine}
    executions = may["states:DescribeExecution"]["Fn::Join"][1]
    assert executions[-3:] == [":execution:", {"Fn::GetAtt": [machine, "Name"]}, ":*"]
    assert may["states:GetExecutionHistory"] == may["states:DescribeExecution"]
    assert may["dynamodb:UpdateItem"] == {"Fn::GetAtt": [table, "Arn"]}


def test_no_action_is_a_wildcard_and_hardly_a_resource(bare: dict[str, Any]) -> None:
    for statement in statements(bare):
        assert not [action for action in as_list(statement["Action"]) if "*" in action]
        assert statement["Resource"] != "*"


def test_the_state_machine_may_ask(bare: dict[str, Any]) -> None:
    [function] = resources(bare, "AWS::Lambda::Function")
    [asking] = [one for one in statements(bare) if one["Action"] == "lambda:InvokeFunction"]
    assert asking["Resource"] == {"Fn::GetAtt": [function, "Arn"]}


def test_endings_that_gave_nothing_back_are_told_to_the_function(bare: dict[str, Any]) -> None:
    [machine] = resources(bare, "AWS::StepFunctions::StateMachine")
    [rule] = [one for one in resources(bare, "AWS::Events::Rule").values() if "EventPattern" in one]
    assert rule["EventPattern"] == {
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {"stateMachineArn": [{"Ref": machine}], "status": ["FAILED", "TIMED_OUT", "ABORTED"]},
    }
    [target] = rule["Targets"]
    assert target["InputTransformer"]["InputTemplate"] == (
        '{"action":"ended","execution":<detail-executionArn>,"status":<detail-status>}'
    )


@pytest.mark.parametrize("environment", [None, cdk.Environment(account="111122223333", region="cn-north-1")])
def test_what_nag_finds_is_explained(environment: cdk.Environment | None, tmp_path: Path) -> None:
    def build(app: cdk.App) -> None:
        stack = cdk.Stack(app, "Stack", env=environment)
        with_machine(stack, Semaphore(stack, "Semaphore", limit=5))

    # The state machine is the test's own, and bare.
    ours = ("Stack/Semaphore", "Stack/Machine/PermitsOf")
    assert [one for one in findings(build, tmp_path) if one[1].startswith(ours)] == []


# --- sharing ----------------------------------------------------------------------------------------------


def test_state_machines_of_two_stacks_share_one_semaphore_without_a_cycle(app: cdk.App) -> None:
    shared = cdk.Stack(app, "Shared")
    semaphore = Semaphore(shared, "Semaphore", limit=5)
    stacks = [cdk.Stack(app, name) for name in ("One", "Two")]
    for stack in stacks:
        with_machine(stack, semaphore)
    assert not resources(template_of(shared), "AWS::StepFunctions::StateMachine")
    for stack in stacks:
        template = template_of(stack)
        assert [one.stack_name for one in stack.dependencies] == ["Shared"]
        # All that connects the two lies beside the state machine.
        assert len(resources(template, "AWS::Events::Rule")) == 1
        assert len(resources(template, "AWS::Lambda::Permission")) == 1
        answering = [one for one in statements(template) if "states:SendTaskSuccess" in one["Action"]]
        assert len(answering) == 1
    assert not shared.dependencies


def test_one_state_machine_with_two_guards_is_connected_once(stack: cdk.Stack) -> None:
    semaphore = Semaphore(stack, "Semaphore", limit=5)
    chain = semaphore.guard(stack, "First", work(stack, "One")).next(semaphore.guard(stack, "Second", work(stack)))
    machine = sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(chain))
    semaphore.connect(machine)
    semaphore.connect(machine)
    template = template_of(stack)
    assert len([one for one in resources(template, "AWS::Events::Rule").values() if "EventPattern" in one]) == 1


def test_one_state_machine_may_be_connected_to_several(stack: cdk.Stack) -> None:
    machine = with_machine(stack, Semaphore(stack, "Semaphore", limit=5))
    other = cdk.Stack(stack, "Inner")
    Semaphore(other, "Semaphore", limit=1).connect(machine)
    template = template_of(stack)
    assert len([one for one in statements(template) if "states:SendTaskSuccess" in one["Action"]]) == 2


FUNCTION = "arn:aws:lambda:eu-central-1:111122223333:function:semaphore"
ROLE = "arn:aws:iam::111122223333:role/semaphore"


def test_a_semaphore_of_another_app_is_used_alike(stack: cdk.Stack) -> None:
    semaphore = Semaphore.from_attributes(
        stack, "Semaphore", function_arn=FUNCTION, role_arn=ROLE, name="Elsewhere/Semaphore", paced=True
    )
    assert dict(semaphore.metric_in_use().dimensions or {}) == {"Semaphore": "Elsewhere/Semaphore"}
    with_machine(stack, semaphore)
    template = template_of(stack)
    [definition] = state_machines(template).values()
    assert definition["States"]["Acquire MachineQuota"]["Parameters"]["FunctionName"] == FUNCTION
    assert "Start MachineQuota on time" in definition["States"]
    assert only(template, "AWS::Lambda::Permission")["FunctionName"] == FUNCTION
    attached = [one["Roles"] for one in resources(template, "AWS::IAM::Policy").values()]
    assert ["semaphore"] in attached


# --- what cannot work -------------------------------------------------------------------------------------

WHOLE = "must be a whole number from 1 to 1000000, got"

REJECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"limit": 0}, f"limit {WHOLE} 0. Pass for example 1."),
    ({"limit": -1}, f"limit {WHOLE} -1. Pass for example 1."),
    ({"limit": 2.5}, f"limit {WHOLE} 2.5. Pass for example 1."),
    ({"limit": True}, f"limit {WHOLE} True. Pass for example 1."),
    ({"limit": "5"}, f"limit {WHOLE} '5'. Pass for example 1."),
    (
        {"limit": 1, "max_starts_per_second": 0},
        "max_starts_per_second must be finite, and more than 0, got 0. Pass for example 20.",
    ),
    (
        {"limit": 1, "max_starts_per_second": "20"},
        "max_starts_per_second must be of type int or float, got '20'. Pass for example 20.",
    ),
    (
        {"limit": 1, "grace": Duration.days(2)},
        "grace must be at most 1 day, got Duration of 2 days. Pass Duration.seconds(86400) or less.",
    ),
    (
        {"limit": 1, "oldest_waiter_alarm": Duration.seconds(5)},
        "oldest_waiter_alarm must be at least 1 minute, in whole seconds, got Duration of 5 seconds. "
        "Pass for example Duration.hours(1).",
    ),
]


@pytest.mark.parametrize(("options", "message"), REJECTIONS)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str, stack: cdk.Stack) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Semaphore: {message}')}$"):
        Semaphore(stack, "Semaphore", **options)


def test_a_limit_must_be_known(stack: cdk.Stack) -> None:
    limit = cdk.CfnParameter(stack, "Limit", type="Number").value_as_number
    message = (
        "Stack/Semaphore: limit must be known at synthesis, got a token. Pass a literal such as 1 instead of a token."
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        Semaphore(stack, "Semaphore", limit=limit)  # type: ignore[arg-type] # to Python, tokens are floats


def test_an_express_workflow_cannot_wait(stack: cdk.Stack) -> None:
    machine = sfn.StateMachine(
        stack,
        "Machine",
        state_machine_type=sfn.StateMachineType.EXPRESS,
        definition_body=sfn.DefinitionBody.from_chainable(sfn.Pass(stack, "Pass")),
    )
    message = (
        "Stack/Semaphore: state_machine must be a Standard workflow: an Express one cannot wait for a permit, "
        "got 'Stack/Machine'. Leave out state_machine_type."
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        Semaphore(stack, "Semaphore", limit=1).connect(machine)


def test_the_metrics_of_another_app_need_its_name(stack: cdk.Stack) -> None:
    semaphore = Semaphore.from_attributes(stack, "Semaphore", function_arn=FUNCTION, role_arn=ROLE)
    message = (
        "Stack/Semaphore: name must be known for its metrics, got None. "
        "Pass name= to Semaphore.from_attributes: the name of the semaphore where it was made."
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        semaphore.metric_in_use()


def problems_at_synthesis(app: cdk.App) -> list[str]:
    with pytest.raises(RuntimeError, match="Validation failed") as caught:
        app.synth()
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_a_state_machine_that_is_not_connected_is_found(app: cdk.App) -> None:
    shared, stack = cdk.Stack(app, "Shared"), cdk.Stack(app, "Stack")
    semaphore = Semaphore(shared, "Semaphore", limit=5)
    with_machine(stack, semaphore)
    # A number that only the deployment knows must not hide the guard.
    weight = cdk.CfnParameter(stack, "Weight", type="Number").value_as_number
    guard = semaphore.guard(stack, "Quota", work(stack), weight=weight)  # type: ignore[arg-type] # to Python a float
    loop = sfn.Map(stack, "Each").item_processor(guard)
    sfn.StateMachine(stack, "Forgotten", definition_body=sfn.DefinitionBody.from_chainable(loop))
    assert problems_at_synthesis(app) == [
        "[Shared/Semaphore] Stack/Forgotten: the state machine with the guard Stack/Quota must be connected to the "
        "semaphore Shared/Semaphore, or it gets no permits and gives none back when it is aborted. "
        "Call semaphore.connect(state_machine)."
    ]


def guarded_map(stack: cdk.Stack, semaphore: Semaphore, label: str | None) -> sfn.StateMachine:
    """A state machine whose guard is in a distributed Map."""
    loop = sfn.DistributedMap(stack, "Each", label=label)
    # Also deeper in it.
    inner = sfn.Map(stack, "Part").item_processor(semaphore.guard(stack, "Quota", work(stack)))
    body = sfn.DefinitionBody.from_chainable(loop.item_processor(inner))
    return sfn.StateMachine(stack, "Machine", definition_body=body)


def test_a_guard_in_a_distributed_map_without_a_label_is_found(app: cdk.App, stack: cdk.Stack) -> None:
    semaphore = Semaphore(stack, "Semaphore", limit=5)
    semaphore.connect(guarded_map(stack, semaphore, None))
    assert problems_at_synthesis(app) == [
        "[Stack/Semaphore] Stack/Machine: the guard Stack/Quota must not be in a distributed Map without a label, "
        "whose items are executions nobody knows. Give the Map a label and call semaphore.connect(state_machine, "
        "map_label=…), or guard the Map itself, or limit it with max_concurrency."
    ]


@pytest.mark.parametrize("connected", [None, "others"])
def test_a_guard_in_a_distributed_map_that_is_not_connected_is_found(
    connected: str | None, app: cdk.App, stack: cdk.Stack
) -> None:
    semaphore = Semaphore(stack, "Semaphore", limit=5)
    semaphore.connect(guarded_map(stack, semaphore, "items"), map_label=connected)
    assert problems_at_synthesis(app) == [
        "[Stack/Semaphore] Stack/Machine: the state machine with the guard Stack/Quota must be connected to the "
        "semaphore Stack/Semaphore, or it gets no permits and gives none back when it is aborted. "
        "Call semaphore.connect(state_machine, map_label='items')."
    ]


def test_the_children_of_a_distributed_map_are_known_as_aws_names_them(app: cdk.App, stack: cdk.Stack) -> None:
    semaphore = Semaphore(stack, "Semaphore", limit=5)
    machine = guarded_map(stack, semaphore, "items")
    for _ in range(2):
        semaphore.connect(machine, map_label="items")
    app.synth()
    template = template_of(stack)
    [name] = resources(template, "AWS::StepFunctions::StateMachine")
    child = {"Fn::Join": ["", [{"Ref": name}, "/items"]]}
    [ended] = [one for id_, one in resources(template, "AWS::Events::Rule").items() if "Ended" in id_]
    assert ended["EventPattern"]["detail"]["stateMachineArn"] == [child]
    [answers] = [one for one in statements(template) if "states:SendTaskSuccess" in as_list(one["Action"])]
    assert answers["Resource"] == child
    [asks] = [one for one in statements(template) if "states:GetExecutionHistory" in as_list(one["Action"])]
    assert asks["Resource"]["Fn::Join"][1][-3:] == [":execution:", {"Fn::GetAtt": [name, "Name"]}, "/items:*"]


def test_guards_may_be_beside_a_distributed_map_and_in_it(app: cdk.App, stack: cdk.Stack) -> None:
    semaphore = Semaphore(stack, "Semaphore", limit=5)
    loop = sfn.DistributedMap(stack, "Each", label="items").item_processor(
        semaphore.guard(stack, "Inner", work(stack, "Inner work"))
    )
    body = sfn.DefinitionBody.from_chainable(semaphore.guard(stack, "Outer", work(stack)).next(loop))
    machine = sfn.StateMachine(stack, "Machine", definition_body=body)
    semaphore.connect(machine)
    semaphore.connect(machine, map_label="items")
    app.synth()
    rules = [one for id_, one in resources(template_of(stack), "AWS::Events::Rule").items() if "Ended" in id_]
    assert len(rules) == 2


def test_a_guard_in_jsonata_is_found(app: cdk.App, stack: cdk.Stack) -> None:
    semaphore = Semaphore(stack, "Semaphore", limit=5)
    machine = sfn.StateMachine(
        stack,
        "Machine",
        query_language=sfn.QueryLanguage.JSONATA,
        definition_body=sfn.DefinitionBody.from_chainable(semaphore.guard(stack, "Quota", work(stack))),
    )
    semaphore.connect(machine)
    assert problems_at_synthesis(app) == [
        "[Stack/Semaphore] Stack/Machine: the state machine with the guard Stack/Quota must be in JSONPath, as the "
        "guard is. Leave out query_language, and set it for single states."
    ]


def test_a_definition_that_lies_elsewhere_is_left_alone(app: cdk.App, stack: cdk.Stack) -> None:
    with_machine(stack, Semaphore(stack, "Semaphore", limit=5))
    sfn.StateMachine(stack, "Text", definition_body=sfn.DefinitionBody.from_string("{not JSON"))
    sfn.CfnStateMachine(stack, "Low", role_arn=ROLE, definition={"StartAt": "End", "States": {}})
    app.synth()

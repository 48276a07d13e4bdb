"""An error spool on the embedded AWS: a neighbour that can be switched off, state machines that need it, what is kept.

The neighbour is a function that notes what it has done in a table. Nothing happens by the clock here: each test calls
the reconciler, the reprocessor, the breaker's probe and what a window's schedule calls, where it needs them.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from constructs_lib import AlertFunction, ErrorSpool, ErrorSpoolReprocessor, Hold, Semaphore
from constructs_lib.parts.dead_letters import DeadLetters
from constructs_lib.parts.handlers import as_handlers
from constructs_lib.parts.lambda_job import LambdaJob
from constructs_lib.parts.workflow import Workflow
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy
from tests.end_to_end.test_definition_on_embedded_aws import eventually
from tests.error_spools import NIGHT
from tests.scheduled import make_app

NEIGHBOUR = """
import os, time, uuid, boto3
table, name = boto3.client("dynamodb"), os.environ["NOTES"]
class NeighbourDown(Exception): pass
class Poison(Exception): pass
def handle(event, context):
    step, given = event.get("step", "deliver"), event.get("input", event)
    group, order = given["group"], given["order"]
    def is_on(switch):
        key = {"about": {"S": "switches"}, "item": {"S": f"{switch} {group}"}}
        return "Item" in table.get_item(TableName=name, Key=key, ConsistentRead=True)
    def note(what):
        item = {"about": f"{step} {group}", "item": f"{time.time():017.6f} {uuid.uuid4()}", "what": what}
        table.put_item(TableName=name, Item={attribute: {"S": text} for attribute, text in item.items()})
    if step != "prepare" and is_on("down"):
        raise NeighbourDown("in maintenance: " + order)
    if given.get("poison") and step == "deliver" and not is_on("mended"):
        raise Poison("cannot read " + order)
    if step == "work":
        run = event["execution"].split("-")[0]
        note(f"{order}: {run} begins")
        while is_on("busy"):
            time.sleep(0.1)
        note(f"{order}: {run} ends")
    else:
        note(order)
"""
"""It prepares always, and delivers unless it is switched to be down for the group, or the order is poison. Its work
takes for as long as it is switched to be busy."""

LONG = 60_000
"""Seconds of a Wait state, of which the emulator takes a hundredth: longer than any test."""

LONG_AGO = 200.0
"""Seconds: whoever began to spool a failure then is thought to be dead."""

FAILURES = 3
"""In a row, and the breaker opens."""

Message = Mapping[str, Any]


# --- the stack -----------------------------------------------------------------------------------------------


class Neighbour:
    """The neighbour and its table, for all state machines of a stack."""

    def __init__(self, stack: cdk.Stack) -> None:
        text = dynamodb.AttributeType.STRING
        notes = dynamodb.Table(
            stack,
            "Notes",
            partition_key=dynamodb.Attribute(name="about", type=text),
            sort_key=dynamodb.Attribute(name="item", type=text),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        )
        self.function = lambda_.Function(
            stack,
            "Neighbour",
            runtime=lambda_.Runtime.PYTHON_3_14,
            handler="index.handle",
            code=lambda_.Code.from_inline(NEIGHBOUR),
            timeout=Duration.minutes(1),
            environment={"NOTES": notes.table_name},
        )
        notes.grant_read_write_data(self.function)
        cdk.CfnOutput(stack, "NotesOutput", value=notes.table_name)

    def call(self, stack: cdk.Stack, id_: str) -> tasks.LambdaInvoke:
        """A state for one of the steps, "Prepare", "Deliver" or "Work"."""
        step = id_.split()[-1]
        event = {"step": step.lower(), "execution": sfn.JsonPath.execution_name, "input": sfn.JsonPath.entire_payload}
        return tasks.LambdaInvoke(
            stack,
            id_,
            state_name=step,
            lambda_function=self.function,
            payload=sfn.TaskInput.from_object(event),
            result_path=sfn.JsonPath.DISCARD,
            retry_on_service_exceptions=False,
        )


def make_stack(app: cdk.App) -> cdk.Stack:
    """One spool, state machines that fail into it, and reprocessors of different kinds."""
    stack = cdk.Stack(app, "Spooling")
    neighbour = Neighbour(stack)
    spool = make_spool(stack)
    own = make_own_machine(stack, neighbour, spool)
    plain = make_machine(
        stack, "Plain", neighbour.call(stack, "Plain Prepare").next(neighbour.call(stack, "Plain Deliver"))
    )
    telling = make_machine(
        stack, "Telling", sfn.Fail(stack, "Telling Fail", error_path="$.error", cause_path="$.cause")
    )
    waiting = sfn.Wait(stack, "Delicate Work", time=sfn.WaitTime.seconds_path("$.seconds"))
    delicate = make_machine(stack, "Delicate", waiting, timeout=Duration.seconds(3))

    gate, turns = make_semaphore(stack, "Gate", limit=3), make_semaphore(stack, "Turns", limit=1)
    guarded = make_machine(
        stack,
        "Guarded",
        neighbour.call(stack, "Guarded Prepare").next(
            gate.guard(stack, "Neighbours", neighbour.call(stack, "Guarded Deliver"))
        ),
    )
    gate.connect(guarded)
    keyed = make_machine(
        stack, "Keyed", turns.guard(stack, "Orders", neighbour.call(stack, "Keyed Work"), key="$.order")
    )
    turns.connect(keyed)

    for machine in (plain, telling, guarded, keyed):
        spool.attach(machine)
    spool.attach(delicate, aborted=True)

    targets = [plain, own, keyed]
    make_reprocessor(stack, "Quick", spool, targets, max_reprocess=4)
    make_reprocessor(stack, "OneByOne", spool, targets, starts_per_second=2)
    make_reprocessor(stack, "Redriving", spool, [plain, own, guarded], mode="redrive")
    hold = Hold(stack, "Hold", semaphore=gate, failures_in_a_row=FAILURES)
    make_reprocessor(stack, "Drain", spool, [guarded], hold=hold)
    Hold(stack, "Nights", semaphore=gate, windows=[NIGHT], new_work="fail")
    assert hold.breaker is not None
    assert hold.table is not None
    outputs = {"Breaker": hold.breaker.function_name, "Counter": hold.table.table_name}
    for name, value in outputs.items():
        cdk.CfnOutput(stack, f"{name}Output", value=value)
    return stack


def make_machine(stack: cdk.Stack, id_: str, chain: sfn.IChainable, **options: Any) -> sfn.StateMachine:
    """One that knows nothing of the spool."""
    made = sfn.StateMachine(stack, id_, definition_body=sfn.DefinitionBody.from_chainable(chain), **options)
    cdk.CfnOutput(stack, f"{id_}Output", value=made.state_machine_arn)
    return made


def make_own_machine(stack: cdk.Stack, neighbour: Neighbour, spool: ErrorSpool) -> sfn.StateMachine:
    """One of this library, with the spool and then an alert as its failure handlers."""
    alert = AlertFunction(stack, "OwnAlert")
    inbox, dead_letters = sqs.Queue(stack, "OwnInbox"), DeadLetters(stack, "OwnDeadLetters")
    alert.topic.add_subscription(subscriptions.SqsSubscription(inbox))
    made = Workflow(
        stack,
        "Own",
        job=LambdaJob(function=neighbour.function),
        name="Own",
        dead_letters=dead_letters.queue,
        on_failure=as_handlers(stack, "failure_handlers", [spool, alert]),
    )
    outputs = {
        "Own": made.state_machine.state_machine_arn,
        "OwnInboxUrl": inbox.queue_url,
        "OwnDeadLettersUrl": dead_letters.queue.queue_url,
    }
    for name, value in outputs.items():
        cdk.CfnOutput(stack, f"{name}Output", value=value)
    return made.state_machine


def make_semaphore(stack: cdk.Stack, id_: str, *, limit: int) -> Semaphore:
    made = Semaphore(stack, id_, limit=limit, grace=Duration.seconds(0), removal_policy=cdk.RemovalPolicy.DESTROY)
    cdk.CfnOutput(stack, f"{id_}Output", value=made.function_arn)
    return made


def make_spool(stack: cdk.Stack) -> ErrorSpool:
    made = ErrorSpool(stack, "Spool", key="$.order", removal_policy=cdk.RemovalPolicy.DESTROY)
    outputs = {
        "Queue": made.queue.queue_url,
        "Quarantine": made.quarantine.queue_url,
        "Ledger": made.table.table_name,
        "Inlet": made.inlet.function_name,
        "Reconciler": made.reconciler.function_name,
    }
    for name, value in outputs.items():
        cdk.CfnOutput(stack, f"{name}Output", value=value)
    return made


def make_reprocessor(
    stack: cdk.Stack, id_: str, spool: ErrorSpool, targets: Sequence[sfn.IStateMachine], **options: Any
) -> None:
    """A quick one, that watches nobody, unless it is told to."""
    quick = {"starts_per_second": 100, "ramp": 0, "max_attempts": 2}
    made = ErrorSpoolReprocessor(stack, id_, spool=spool, targets=targets, **{**quick, **options})
    cdk.CfnOutput(stack, f"{id_}Output", value=made.function.function_name)
    cdk.CfnOutput(stack, f"{id_}WidgetOutput", value=made.widget.function_arn)


@contextmanager
def deployed(aws: EmbeddedAws, folder: Path) -> Iterator["Account"]:
    """The stack in an account where nothing happens by the clock."""
    app = make_app(folder)
    stack = make_stack(app)
    account = Account(aws, deploy(aws, Path(app.synth().directory), stack.artifact_id))
    for rule in account.rules("rate("):
        aws.client("events").disable_rule(Name=rule)
    yield account


# --- what is in the account ----------------------------------------------------------------------------------


class FunctionKilledError(Exception):
    """The function was killed before it answered."""


@dataclass(frozen=True)
class Account:
    """The embedded AWS with the stack in it."""

    aws: EmbeddedAws
    outputs: Mapping[str, str]
    _groups: dict[str, str] = field(default_factory=dict)
    """The group of each execution that was looked at."""
    _probes: list[float] = field(default_factory=list)
    """When the breaker was called by a test."""

    # --- executions ---

    def start(self, machine: str, input_: Mapping[str, Any], **name: str) -> str:
        """The ARN of a new execution."""
        states = self.aws.client("stepfunctions")
        started = states.start_execution(stateMachineArn=self.outputs[machine], input=json.dumps(input_), **name)
        return str(started["executionArn"])

    def run(self, machine: str, group: str, *orders: str, **more: Any) -> list[str]:
        """Has each order dealt with, one after the other. The ARNs of the executions, which have ended."""
        executions = []
        for order in orders:
            executions.append(self.start(machine, {"group": group, "order": order, **more}))
            self.ended(executions[-1])
        return executions

    def describe(self, execution: str) -> dict[str, Any]:
        found: dict[str, Any] = self.aws.client("stepfunctions").describe_execution(executionArn=execution)
        return found

    def ended(self, execution: str) -> dict[str, Any]:
        """The execution once it has ended."""

        def described() -> dict[str, Any] | None:
            now = self.describe(execution)
            return None if now["status"] == "RUNNING" else now

        found: dict[str, Any] = eventually(described, f"the end of {execution}")
        return found

    def executions(self, machine: str, group: str) -> list[dict[str, Any]]:
        """The executions of a state machine for a group, the first that was started first."""
        pages = self.aws.client("stepfunctions").get_paginator("list_executions")
        arns = [
            one["executionArn"]
            for page in pages.paginate(stateMachineArn=self.outputs[machine])
            for one in page["executions"]
        ]
        for arn in arns:
            if arn not in self._groups:
                self._groups[arn] = json.loads(self.describe(arn)["input"]).get("group", "")
        return sorted(
            (self.describe(arn) for arn in arns if self._groups[arn] == group), key=lambda one: one["startDate"]
        )

    def has_entered(self, execution: str, state: str) -> bool:
        pages = self.aws.client("stepfunctions").get_paginator("get_execution_history")
        events = [event for page in pages.paginate(executionArn=execution) for event in page["events"]]
        return any(event.get("stateEnteredEventDetails", {}).get("name") == state for event in events)

    # --- the neighbour ---

    def switch(self, group: str, switch: str, *, on: bool) -> None:
        """Switches "down", "mended" or "busy" for a group."""
        key = {"about": {"S": "switches"}, "item": {"S": f"{switch} {group}"}}
        notes, table = self.aws.client("dynamodb"), self.outputs["Notes"]
        if on:
            notes.put_item(TableName=table, Item=key)
        else:
            notes.delete_item(TableName=table, Key=key)

    @contextmanager
    def down(self, group: str, switch: str = "down") -> Iterator[None]:
        """While the neighbour is down, or switched otherwise."""
        self.switch(group, switch, on=True)
        try:
            yield
        finally:
            self.switch(group, switch, on=False)

    def done(self, group: str, step: str = "deliver") -> list[str]:
        """The orders for which the neighbour has done a step, the earliest first."""
        found = self.aws.client("dynamodb").query(
            TableName=self.outputs["Notes"],
            ConsistentRead=True,
            KeyConditionExpression="about = :about",
            ExpressionAttributeValues={":about": {"S": f"{step} {group}"}},
        )["Items"]
        return [item["what"]["S"] for item in found]

    def assert_each_delivered_once(self, group: str, orders: Iterable[str]) -> None:
        """Waits until everything has ended."""
        wanted = Counter(orders)
        eventually(lambda: len(self.done(group)) >= wanted.total(), f"{wanted.total()} deliveries for {group!r}")
        for machine in ("Plain", "Own", "Guarded"):
            for execution in self.executions(machine, group):
                self.ended(execution["executionArn"])
        assert Counter(self.done(group)) == wanted

    # --- functions ---

    def call(self, function: str, event: Any) -> Any:
        """What a function answers. Its errors fail the test; raises `FunctionKilledError` if it was killed."""
        answer, failed = self.answer(function, event)
        assert not failed, answer
        return answer

    def answer(self, function: str, event: Any) -> tuple[Any, bool]:
        """What a function answers, and whether that is an error."""
        name = self.outputs.get(function, function)
        reply = self.aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        answer = json.loads(reply["Payload"].read())
        if isinstance(answer, dict) and answer.get("errorMessage") == "Worker process died":
            raise FunctionKilledError
        return answer, "FunctionError" in reply

    def calls(self, function: str) -> int:
        """How many calls of a function have ended."""
        name = self.outputs[function]
        logging = self.aws.client("lambda").get_function_configuration(FunctionName=name).get("LoggingConfig", {})
        group = logging.get("LogGroup", f"/aws/lambda/{name}")
        pages = self.aws.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return sum(event["message"].startswith("END ") for page in pages for event in page["events"])

    @contextmanager
    def until_called(self, function: str, times: int = 1) -> Iterator[None]:
        """Waits until so many calls of a function have ended that were not begun before."""
        before = self.calls(function)
        yield
        eventually(lambda: self.calls(function) >= before + times, f"{times} calls of {function}")

    def reprocess(self, reprocessor: str, **event: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.call(reprocessor, {"action": "reprocess", **event})
        return answer

    # --- rules and schedules ---

    def rules(self, mark: str) -> list[str]:
        """The names of the rules of this stack with a text in their schedule or pattern."""
        pages = self.aws.client("events").get_paginator("list_rules").paginate()
        rules = [rule for page in pages for rule in page["Rules"]]
        return [
            rule["Name"] for rule in rules if mark in rule.get("ScheduleExpression", "") + rule.get("EventPattern", "")
        ]

    @contextmanager
    def no_events(self, machine: str) -> Iterator[None]:
        """While the spool is not told of a state machine's events."""
        events = self.aws.client("events")
        rules = [rule for rule in self.rules(self.outputs[machine]) if "SpoolOf" in rule]
        assert rules
        for rule in rules:
            events.disable_rule(Name=rule)
        try:
            yield
        finally:
            for rule in rules:
                events.enable_rule(Name=rule)

    def time_comes(self, expression: str) -> None:
        """Does what the schedules do that are due then."""
        schedules = self.aws.client("scheduler")
        found = [schedules.get_schedule(Name=one["Name"]) for one in schedules.list_schedules()["Schedules"]]
        due = [one["Target"] for one in found if one["ScheduleExpression"] == expression]
        assert due
        for target in due:
            self.call(target["Arn"], json.loads(target["Input"]))

    # --- semaphores and the breaker ---

    def gate(self, semaphore: str, action: str = "status", *, key: str = "default") -> dict[str, Any]:
        """Asks something of a semaphore. How many are at work under a key, how many wait, and whether they are held."""
        found: dict[str, Any] = self.call(semaphore, {"action": action})["keys"].get(key, {})
        return found

    def wait_for_gate(self, semaphore: str, *, key: str = "default", **expected: object) -> None:
        eventually(
            lambda: expected.items() <= self.gate(semaphore, key=key).items(), f"{expected} of {semaphore}, {key}"
        )

    def breaker(self) -> dict[str, Any]:
        """What the breaker knows."""
        found = self.aws.client("dynamodb").get_item(
            TableName=self.outputs["Counter"], Key={"id": {"S": "breaker"}}, ConsistentRead=True
        )
        known: dict[str, Any] = {"state": "closed", "failures": 0, "seen": [], "applied": True}
        return {**known, **(json.loads(found["Item"]["breaker"]["S"]) if "Item" in found else {})}

    def probe(self) -> None:
        """Calls the breaker, as its rule does."""
        self._probes.append(time.time())
        self.call("Breaker", {"action": "probe"})

    def wait_for_breaker(self, state: str) -> None:
        """Waits until the breaker has dealt with all that has ended, and has come to a state."""
        states = self.aws.client("stepfunctions")

        def has_come() -> bool:
            listed = states.list_executions(stateMachineArn=self.outputs["Guarded"])["executions"]
            endings = sum(one.get("redriveCount", 0) + (one["status"] != "RUNNING") for one in listed)
            has_heard = self.calls("Breaker") >= endings + len(self._probes)
            now = self.breaker()
            return bool(now["state"] == state and now["applied"] and has_heard)

        eventually(has_come, f"the breaker is {state}")

    # --- queues ---

    def count(self, queue: str) -> int:
        """How many messages a queue has, also such that are being looked at."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        reply = self.aws.client("sqs").get_queue_attributes(QueueUrl=self.outputs[queue], AttributeNames=names)
        return sum(int(reply["Attributes"][name]) for name in names)

    def hidden(self, queue: str) -> int:
        name = "ApproximateNumberOfMessagesNotVisible"
        reply = self.aws.client("sqs").get_queue_attributes(QueueUrl=self.outputs[queue], AttributeNames=[name])
        return int(reply["Attributes"][name])

    def messages(self, queue: str) -> list[Message]:
        """All messages of a queue, which stay there."""
        queues, url = self.aws.client("sqs"), self.outputs[queue]
        found: list[Message] = []
        while page := queues.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=30, MessageAttributeNames=["All"]
        ).get("Messages"):
            found += page
        for message in found:
            queues.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
        return found

    def send(self, queue: str, body: str) -> None:
        self.aws.client("sqs").send_message(QueueUrl=self.outputs[queue], MessageBody=body)

    def purge(self, queue: str) -> None:
        self.aws.client("sqs").purge_queue(QueueUrl=self.outputs[queue])


@dataclass(frozen=True)
class Spool:
    """The spool in the account."""

    account: Account

    def empty(self) -> None:
        """Forgets all messages."""
        for queue in ("Queue", "Quarantine"):
            self.account.purge(queue)

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Waits until so many failures are in the spool. What their messages say, in the order of the failures."""
        eventually(lambda: self.account.count("Queue") >= count, f"{count} failures in the spool")
        bodies = [json.loads(message["Body"]) for message in self.account.messages("Queue")]
        assert len(bodies) == count, bodies
        return sorted(bodies, key=lambda body: str(body["failedAt"]))

    def orders(self, count: int) -> list[str]:
        """The orders whose failures are in the spool, the one that failed first is the first."""
        return [failure["input"]["order"] for failure in self.wait_for(count)]

    def parked(self) -> list[tuple[str, dict[str, str]]]:
        """What is in the quarantine: each message's body and its notes."""
        return [
            (message["Body"], {name: one["StringValue"] for name, one in message.get("MessageAttributes", {}).items()})
            for message in self.account.messages("Quarantine")
        ]

    def assert_empty(self) -> None:
        assert self.account.count("Queue") == 0
        assert self.account.count("Quarantine") == 0

    def reconcile(self, machine: str, *statuses: str) -> dict[str, Any]:
        """Calls the reconciler, as its rule does."""
        event = {"stateMachine": self.account.outputs[machine], "statuses": list(statuses or ("FAILED", "TIMED_OUT"))}
        answer: dict[str, Any] = self.account.call("Reconciler", event)
        return answer

    def tell(self, execution: str) -> Any:
        """Calls the inlet, as the rule of the state machine does."""
        return self.account.call("Inlet", {"detail": {"executionArn": execution}})

    def age(self, execution: str) -> None:
        """Has whoever began to spool the failure of an execution have begun long ago."""
        database, table = self.account.aws.client("dynamodb"), self.account.outputs["Ledger"]
        key = {"id": {"S": f"spooled#{execution}#0"}}
        found = database.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]
        assert found["state"] == {"S": "spooling"}
        database.put_item(TableName=table, Item={**found, "at": {"N": repr(float(found["at"]["N"]) - LONG_AGO)}})


def side_by_side(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def some_orders(count: int) -> list[str]:
    return [f"order {number}" for number in range(count)]

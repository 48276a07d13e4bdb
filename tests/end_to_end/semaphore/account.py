"""A stack with semaphores on the embedded AWS: how it is deployed, driven, and looked at.

Most of the work is a Wait state, of whose seconds the emulator takes a hundredth. It does not sweep by the clock here:
each test decides what the sweeper finds.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from constructs_lib import Semaphore
from embedded_aws import EmbeddedAws, RequestFault
from embedded_aws.deployment import deploy
from tests.end_to_end.test_definition_on_embedded_aws import eventually
from tests.scheduled import make_app

LIMIT = 5

# Seconds of a Wait state: 0.4 s, and longer than any test.
SHORT = 40
LONG = 60_000

# Who is older than this is looked at by the sweeper; more than its patience.
LONG_AGO = 90.0

Event = Mapping[str, Any]


# --- the stack -----------------------------------------------------------------------------------------------


def make_semaphore(stack: cdk.Stack, id_: str = "Semaphore", *, limit: int = LIMIT, **options: Any) -> Semaphore:
    """One for work that ends with its execution, as a Wait does."""
    semaphore = Semaphore(stack, id_, **{"limit": limit, "grace": Duration.seconds(0), **options})
    cdk.CfnOutput(stack, f"{id_}FunctionOutput", value=semaphore.function_arn)
    cdk.CfnOutput(stack, f"{id_}TableOutput", value=semaphore.table.table_name)
    return semaphore


def wait(scope: Construct, id_: str = "Work") -> sfn.Wait:
    """Work for ``$.seconds``."""
    return sfn.Wait(scope, id_, time=sfn.WaitTime.seconds_path("$.seconds"))


def make_machine(
    scope: Construct, definition: sfn.IChainable, *semaphores: Semaphore, timeout: Duration | None = None
) -> None:
    """A state machine that is connected. Its name for `Account.start` is that of the scope."""
    body = sfn.DefinitionBody.from_chainable(definition)
    made = sfn.StateMachine(scope, "Machine", definition_body=body, timeout=timeout)
    for semaphore in semaphores:
        semaphore.connect(made)
    cdk.CfnOutput(cdk.Stack.of(scope), f"{scope.node.id}Output", value=made.state_machine_arn)


def make_limited_stack(app: cdk.App) -> cdk.Stack:
    """One semaphore, and state machines that use it in different ways."""
    stack = cdk.Stack(app, "Limited")
    semaphore = make_semaphore(stack)

    def machine(name: str, *, timeout: Duration | None = None, broken: bool = False, **terms: Any) -> None:
        """Works for ``$.seconds`` with a permit of ``$.key``, and then fails if it is broken."""
        scope = Construct(stack, name)
        work = wait(scope)
        job = work.next(sfn.Fail(scope, "Break", error="Broken", cause="on purpose")) if broken else work
        make_machine(scope, semaphore.guard(scope, "Quota", job, key="$.key", **terms), semaphore, timeout=timeout)

    machine("Patient")
    machine("Hasty", timeout=Duration.seconds(2))
    machine("Skipping", on_busy="skip")
    machine("Refused", on_busy="fail")
    machine("Impatient", wait_timeout=Duration.seconds(2))
    machine("Heavy", weight="$.weight")
    machine("Broken", broken=True)
    return stack


class FunctionKilledError(Exception):
    """A process of the function was killed while it answered."""


@dataclass(frozen=True)
class Account:
    """The embedded AWS with the stack in it, and one of its semaphores, by its id."""

    aws: EmbeddedAws
    outputs: Mapping[str, str]
    semaphore: str = "Semaphore"

    @property
    def function(self) -> str:
        return self.outputs[f"{self.semaphore}Function"]

    @property
    def table(self) -> str:
        return self.outputs[f"{self.semaphore}Table"]

    # --- executions ---

    def start(self, machine: str, key: str, *, seconds: int | None = SHORT, **more: Any) -> str:
        """The ARN of a new execution. Without `seconds` its work fails in a way that no Catch sees."""
        input_ = {"key": key, **({} if seconds is None else {"seconds": seconds}), **more}
        states = self.aws.client("stepfunctions")
        started = states.start_execution(stateMachineArn=self.outputs[machine], input=json.dumps(input_))
        return str(started["executionArn"])

    def start_at_once(self, count: int, machine: str, key: str, **options: Any) -> list[str]:
        """The ARNs of executions that are started side by side."""
        with ThreadPoolExecutor(max_workers=16) as pool:
            return list(pool.map(lambda _: self.start(machine, key, **options), range(count)))

    def start_many(self, count: int, machine: str, key: str, **options: Any) -> list[str]:
        return [self.start(machine, key, **options) for _ in range(count)]

    def stop(self, executions: Iterable[str]) -> None:
        for execution in executions:
            self.aws.client("stepfunctions").stop_execution(executionArn=execution)

    def ended(self, execution: str) -> dict[str, Any]:
        """The execution once it has ended."""
        states = self.aws.client("stepfunctions")

        def described() -> dict[str, Any] | None:
            now: dict[str, Any] = states.describe_execution(executionArn=execution)
            return None if now["status"] == "RUNNING" else now

        found: dict[str, Any] = eventually(described, f"the end of {execution}")
        return found

    def all_ended(self, executions: Iterable[str], status: str = "SUCCEEDED") -> None:
        for execution in executions:
            ended = self.ended(execution)
            assert ended["status"] == status, ended

    def history(self, execution: str) -> list[dict[str, Any]]:
        states = self.aws.client("stepfunctions")
        pages = states.get_paginator("get_execution_history").paginate(executionArn=execution)
        return [event for page in pages for event in page["events"]]

    # --- the semaphore ---

    def of(self, semaphore: str) -> "Account":
        """The same, with another semaphore of the stack."""
        return replace(self, semaphore=semaphore)

    def ask(self, action: str, **more: Any) -> dict[str, Any]:
        """What the function answers; its errors fail the test. Raises `FunctionKilledError` if it was killed."""
        reply = self.aws.client("lambda").invoke(
            FunctionName=self.function, Payload=json.dumps({"action": action, **more})
        )
        answer: dict[str, Any] = json.loads(reply["Payload"].read())
        if answer.get("errorMessage") == "Worker process died":
            raise FunctionKilledError
        assert "FunctionError" not in reply, answer
        return answer

    def usage(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("status", key=key)["keys"][key]
        return found

    def wait_for(self, key: str, **expected: Any) -> None:
        """Waits until the status of a key says what is expected."""

        def as_expected() -> bool:
            # A fault that kills the function kills also those of its processes that answer this.
            with suppress(FunctionKilledError):
                return expected.items() <= self.usage(key).items()
            return False

        eventually(as_expected, f"{expected} of {key}")

    def everything_given_back(self, key: str) -> None:
        self.wait_for(key, inUse=0, waiting=0)

    def age(self, key: str) -> None:
        """Makes all that is held and waited for under a key old enough for the sweeper."""
        database = self.aws.client("dynamodb")
        items = database.query(
            TableName=self.table,
            ConsistentRead=True,
            KeyConditionExpression="#key = :key",
            ExpressionAttributeNames={"#key": "key"},
            ExpressionAttributeValues={":key": {"S": key}},
        )["Items"]
        for item in items:
            for attribute in {"askedAt", "grantedAt", "releaseAt"} & item.keys():
                old = {"N": repr(float(item[attribute]["N"]) - LONG_AGO)}
                database.put_item(TableName=self.table, Item=item | {attribute: old})
                item[attribute] = old

    def sweep_old(self, key: str) -> None:
        self.age(key)
        self.ask("sweep")

    # --- requests of the function ---

    def requests(self, name: str) -> int:
        """How often a request such as ``dynamodb:Query`` was made so far."""
        return self.aws.requests()[name]

    def kill_after_next_commit(self) -> None:
        """Has the function die after its next transaction, before it can tell anybody."""
        self.aws.fail_requests("dynamodb:TransactWriteItems", RequestFault.killed(self.function), times=1)

    # --- rules ---

    def rules(self, mark: str) -> list[str]:
        """The names of the rules of this stack with a text in their schedule or pattern."""
        rules = self.aws.client("events").list_rules()["Rules"]
        return [
            rule["Name"] for rule in rules if mark in rule.get("ScheduleExpression", "") + rule.get("EventPattern", "")
        ]


@contextmanager
def deployed(aws: EmbeddedAws, make_stack: Callable[[cdk.App], cdk.Stack], folder: Path) -> Iterator[Account]:
    """The stack in an account that does not sweep by the clock. Afterwards the account is empty again."""
    app = make_app(folder)
    stack = make_stack(app)
    account = Account(aws, deploy(aws, Path(app.synth().directory), stack.artifact_id))
    for schedule in account.rules("rate("):
        aws.client("events").disable_rule(Name=schedule)
    yield account
    aws.reset()


# --- what the histories say ----------------------------------------------------------------------------------


def entered(events: Sequence[Event]) -> list[str]:
    return [event["stateEnteredEventDetails"]["name"] for event in events if event["type"].endswith("StateEntered")]


def moment(events: Sequence[Event], type_: str) -> datetime:
    """When the first event of a type happened."""
    found: datetime = next(event["timestamp"] for event in events if event["type"] == type_)
    return found


def peak(histories: Iterable[Sequence[Event]]) -> int:
    """The most Wait states that were at work at once. One that was stopped ended with its execution, at the latest."""
    changes = []
    for events in histories:
        arrivals = [(event["timestamp"], 1) for event in events if event["type"] == "WaitStateEntered"]
        leaves = [(event["timestamp"], -1) for event in events if event["type"] == "WaitStateExited"]
        stopped = [(events[-1]["timestamp"], -1)] * (len(arrivals) - len(leaves))
        changes += [*arrivals, *leaves, *stopped]
    # Who leaves at the very moment at which another one enters, leaves first.
    inside = most = 0
    for _, change in sorted(changes):
        inside += change
        most = max(most, inside)
    return most


def granted_in_order_of_start(histories: Iterable[Sequence[Event]]) -> list[datetime]:
    """When they were told of their permits, first started first."""
    times = [(moment(events, "ExecutionStarted"), moment(events, "TaskSucceeded")) for events in histories]
    return [granted for _, granted in sorted(times)]


def kendall(histories: Iterable[Sequence[Event]]) -> float:
    """How well the order of grants agrees with that of starts: from -1 (reversed) to 1 (the same)."""
    pairs = list(combinations(granted_in_order_of_start(histories), 2))
    return 2 * sum(one <= other for one, other in pairs) / len(pairs) - 1


def overtaken(histories: Iterable[Sequence[Event]]) -> int:
    """By how many that started later one was overtaken at the most."""
    granted = granted_in_order_of_start(histories)
    return max(sum(later < one for later in granted[place + 1 :]) for place, one in enumerate(granted))

"""The semaphore at work on the embedded AWS: the real template, the real function, real executions.

Every test has a key of its own, so all share one deployment. The work is a Wait state, of whose seconds the emulator
takes a hundredth. It does not sweep by the clock here: each test decides what the sweeper finds.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from constructs_lib import Semaphore
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy
from semaphore import protocol
from semaphore.protocol import Commit, Operation, ReadLine, SetCounter, Settings, Tell
from semaphore.table import Table
from tests.end_to_end.test_definition_on_embedded_aws import eventually
from tests.scheduled import make_app

pytestmark = pytest.mark.xdist_group("embedded_aws")

LIMIT = 5

# Seconds of a Wait state: 0.4 s, and longer than any test.
SHORT = 40
LONG = 60_000

# Who is older than this is looked at by the sweeper; more than its patience.
LONG_AGO = 90.0

Event = Mapping[str, Any]


# --- the stack -----------------------------------------------------------------------------------------------


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Limited")
    semaphore = Semaphore(stack, "Semaphore", limit=LIMIT)
    machine(stack, "Patient", semaphore)
    machine(stack, "Hasty", semaphore, timeout=Duration.seconds(2))
    machine(stack, "Skipping", semaphore, on_busy="skip")
    machine(stack, "Refused", semaphore, on_busy="fail")
    machine(stack, "Impatient", semaphore, wait_timeout=Duration.seconds(1))
    machine(stack, "Heavy", semaphore, weight="$.weight")
    machine(stack, "Broken", semaphore, broken=True)
    cdk.CfnOutput(stack, "FunctionOutput", value=semaphore.function_arn)
    cdk.CfnOutput(stack, "TableOutput", value=semaphore.table.table_name)
    return stack


def machine(
    stack: cdk.Stack,
    name: str,
    semaphore: Semaphore,
    *,
    timeout: Duration | None = None,
    broken: bool = False,
    **terms: Any,
) -> None:
    """A state machine that works for ``$.seconds`` with a permit of ``$.key``, and then fails if it is broken."""
    scope = Construct(stack, name)
    work = sfn.Wait(scope, "Work", time=sfn.WaitTime.seconds_path("$.seconds"))
    job = work.next(sfn.Fail(scope, "Break", error="Broken", cause="on purpose")) if broken else work
    made = sfn.StateMachine(
        scope,
        "Machine",
        definition_body=sfn.DefinitionBody.from_chainable(
            semaphore.guard(scope, "Quota", job, key="$.key", **terms),
        ),
        timeout=timeout,
    )
    semaphore.connect(made)
    cdk.CfnOutput(stack, f"{name}Output", value=made.state_machine_arn)


@dataclass(frozen=True)
class Account:
    """The embedded AWS with the stack in it."""

    aws: EmbeddedAws
    outputs: Mapping[str, str]

    @cached_property
    def table(self) -> Table:
        return Table(self.aws.client("dynamodb"), self.outputs["Table"])

    # --- executions ---

    def start(self, machine: str, key: str, *, seconds: int | None = SHORT, **more: Any) -> str:
        """The ARN of a new execution. Without `seconds` its work fails in a way that no Catch sees."""
        input_ = {"key": key, **({} if seconds is None else {"seconds": seconds}), **more}
        states = self.aws.client("stepfunctions")
        started = states.start_execution(stateMachineArn=self.outputs[machine], input=json.dumps(input_))
        return str(started["executionArn"])

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

    def ask(self, action: str, **more: Any) -> dict[str, Any]:
        """What the function answers; its errors fail the test."""
        reply = self.aws.client("lambda").invoke(
            FunctionName=self.outputs["Function"], Payload=json.dumps({"action": action, **more})
        )
        answer: dict[str, Any] = json.loads(reply["Payload"].read())
        assert "FunctionError" not in reply, answer
        return answer

    def usage(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("status", key=key)["keys"][key]
        return found

    def wait_for(self, key: str, **expected: Any) -> None:
        """Waits until the status of a key says what is expected."""
        eventually(lambda: expected.items() <= self.usage(key).items(), f"{expected} of {key}")

    def everything_given_back(self, key: str) -> None:
        self.wait_for(key, inUse=0, waiting=0)

    def age(self, key: str) -> None:
        """Makes all that is held and waited for under a key old enough for the sweeper."""
        database = self.aws.client("dynamodb")
        items = database.query(
            TableName=self.outputs["Table"],
            ConsistentRead=True,
            KeyConditionExpression="#key = :key",
            ExpressionAttributeNames={"#key": "key"},
            ExpressionAttributeValues={":key": {"S": key}},
        )["Items"]
        for item in items:
            for attribute in {"askedAt", "grantedAt", "releaseAt"} & item.keys():
                old = {"N": repr(float(item[attribute]["N"]) - LONG_AGO)}
                database.put_item(TableName=self.outputs["Table"], Item=item | {attribute: old})
                item[attribute] = old

    def sweep_old(self, key: str) -> None:
        self.age(key)
        self.ask("sweep")

    def dies_before_telling(self, operation: Operation) -> None:
        """Runs an operation of the protocol up to where it tells its holders, as a function that is killed there."""
        effect = next(operation)
        while not isinstance(effect, Tell):
            outcome: object
            match effect:
                case ReadLine(key):
                    outcome = self.table.read_line(key)
                case SetCounter():
                    outcome = self.table.set_counter(effect)
                case Commit():
                    outcome = self.table.commit(effect)
                case _:
                    pytest.fail(f"unexpected: {effect}")
            effect = operation.send(outcome)
        operation.close()

    # --- rules ---

    def rules(self, mark: str) -> list[str]:
        """The names of the rules of this stack with a text in their schedule or pattern."""
        rules = self.aws.client("events").list_rules()["Rules"]
        return [
            rule["Name"] for rule in rules if mark in rule.get("ScheduleExpression", "") + rule.get("EventPattern", "")
        ]


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    app = make_app(tmp_path_factory.mktemp("semaphore"))
    stack = make_stack(app)
    outputs = deploy(embedded_aws, Path(app.synth().directory), stack.artifact_id)
    account = Account(embedded_aws, outputs)
    [schedule] = account.rules("rate(")
    embedded_aws.client("events").disable_rule(Name=schedule)
    yield account
    embedded_aws.reset()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test has."""
    name: str = request.node.name
    return name


# --- what the histories say ----------------------------------------------------------------------------------


def entered(events: Sequence[Event]) -> list[str]:
    return [event["stateEnteredEventDetails"]["name"] for event in events if event["type"].endswith("StateEntered")]


def moment(events: Sequence[Event], type_: str) -> datetime:
    """When the first event of a type happened."""
    found: datetime = next(event["timestamp"] for event in events if event["type"] == type_)
    return found


def peak(histories: Iterable[Sequence[Event]]) -> int:
    """The most that were at work at once."""
    changes = []
    for events in histories:
        changes.append((moment(events, "WaitStateEntered"), 1))
        changes.append((moment(events, "WaitStateExited"), -1))
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


# --- runs ----------------------------------------------------------------------------------------------------


def test_twenty_take_turns_at_five_permits(account: Account, key: str) -> None:
    executions = account.start_many(20, "Patient", key, seconds=100)
    account.all_ended(executions)
    histories = [account.history(execution) for execution in executions]
    assert {len(events) for events in histories} == {15}
    assert {tuple(entered(events)) for events in histories} == {("Acquire Quota", "Work", "Release Quota")}
    assert peak(histories) == LIMIT
    account.everything_given_back(key)


def test_the_input_is_kept_beside_the_permit(account: Account, key: str) -> None:
    output = json.loads(account.ended(account.start("Patient", key, day="monday"))["output"])
    assert (output["day"], output["key"], output["permits"]["Quota"]["granted"]) == ("monday", key, True)


def test_keys_do_not_wait_for_each_other(account: Account, key: str) -> None:
    busy = account.start_many(LIMIT + 1, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT, waiting=1)
    account.all_ended(account.start_many(LIMIT, "Patient", f"{key}, another"))
    account.wait_for(key, inUse=LIMIT, waiting=1)
    account.stop(busy)
    account.everything_given_back(key)


def test_a_heavy_one_takes_as_many_permits_as_it_weighs(account: Account, key: str) -> None:
    heavy = account.start("Heavy", key, weight=4, seconds=LONG)
    account.wait_for(key, inUse=4)
    following = [account.start("Heavy", key, weight=2), account.start("Heavy", key, weight=1)]
    account.wait_for(key, inUse=4, waiting=2)
    account.stop([heavy])
    account.all_ended(following)
    account.everything_given_back(key)


def test_more_weight_than_there_are_permits_is_refused(account: Account, key: str) -> None:
    ended = account.ended(account.start("Heavy", key, weight=LIMIT + 1))
    assert (ended["status"], ended["error"]) == ("FAILED", "Semaphore.WeightAboveLimit")
    account.everything_given_back(key)


# --- what goes wrong -----------------------------------------------------------------------------------------


def test_a_job_that_fails_gives_its_permit_back_and_keeps_its_error(account: Account, key: str) -> None:
    broken = account.start_many(LIMIT, "Broken", key)
    following = account.start_many(LIMIT, "Patient", key)
    account.all_ended(broken, "FAILED")
    assert {(account.ended(one)["error"], account.ended(one)["cause"]) for one in broken} == {("Broken", "on purpose")}
    account.all_ended(following)
    account.everything_given_back(key)


def test_a_failure_that_no_catch_sees_gives_the_permit_back(account: Account, key: str) -> None:
    broken = account.start_many(LIMIT, "Patient", key, seconds=None)
    following = account.start_many(LIMIT, "Patient", key)
    account.all_ended(broken, "FAILED")
    assert {account.ended(one)["error"] for one in broken} == {"States.Runtime"}
    account.all_ended(following)
    account.everything_given_back(key)


def test_aborted_holders_give_their_permits_back(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    following = account.start_many(LIMIT, "Patient", key)
    account.wait_for(key, waiting=LIMIT)
    account.stop(holders)
    account.all_ended(holders, "ABORTED")
    account.all_ended(following)
    account.everything_given_back(key)


def test_aborted_waiters_leave_the_line(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    waiters = account.start_many(LIMIT, "Patient", key)
    account.wait_for(key, waiting=LIMIT)
    account.stop(waiters)
    account.wait_for(key, inUse=LIMIT, waiting=0)
    following = account.start("Patient", key)
    account.stop(holders)
    account.all_ended([following])
    assert all("Work" not in entered(account.history(waiter)) for waiter in waiters)
    account.everything_given_back(key)


def test_an_execution_that_times_out_while_it_holds_gives_its_permit_back(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Hasty", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    following = account.start_many(LIMIT, "Patient", key)
    account.all_ended(holders, "TIMED_OUT")
    account.all_ended(following)
    account.everything_given_back(key)


def test_an_execution_that_times_out_while_it_waits_never_gets_a_permit(account: Account, key: str) -> None:
    account.ask("pause", key=key)
    waiter = account.start("Hasty", key)
    account.wait_for(key, waiting=1)
    account.all_ended([waiter], "TIMED_OUT")
    account.wait_for(key, inUse=0, waiting=0)


# --- what is lost --------------------------------------------------------------------------------------------


def test_holders_that_were_never_told_are_told_by_the_sweeper(account: Account, key: str) -> None:
    account.ask("pause", key=key)
    executions = account.start_many(LIMIT + 2, "Patient", key)
    account.wait_for(key, waiting=LIMIT + 2)
    account.dies_before_telling(protocol.configure(key, Settings(limit=LIMIT), paused=False))
    account.wait_for(key, inUse=LIMIT, waiting=2)
    # Younger than its patience: whoever let them in may be about to tell them.
    account.ask("sweep")
    account.wait_for(key, inUse=LIMIT, waiting=2)
    account.sweep_old(key)
    account.all_ended(executions)
    account.everything_given_back(key)


def test_a_holder_that_gave_up_before_it_was_told_loses_its_permit(account: Account, key: str) -> None:
    account.ask("pause", key=key)
    impatient = account.start("Impatient", key)
    account.wait_for(key, waiting=1)
    account.dies_before_telling(protocol.configure(key, Settings(limit=LIMIT), paused=False))
    account.all_ended([impatient], "FAILED")
    account.sweep_old(key)
    account.everything_given_back(key)


def test_the_sweeper_alone_recovers_what_events_did_not_tell(account: Account, key: str) -> None:
    events = account.aws.client("events")
    [rule] = account.rules(account.outputs["Patient"])
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    waiters = account.start_many(LIMIT, "Patient", key)
    following = account.start_many(LIMIT, "Patient", key)
    account.wait_for(key, waiting=2 * LIMIT)
    events.disable_rule(Name=rule)
    try:
        account.stop([*holders, *waiters])
        account.all_ended([*holders, *waiters], "ABORTED")
        account.wait_for(key, inUse=LIMIT, waiting=2 * LIMIT)
        account.sweep_old(key)
        account.all_ended(following)
    finally:
        events.enable_rule(Name=rule)
    account.everything_given_back(key)


def test_the_sweeper_leaves_those_who_work_and_those_who_wait(account: Account, key: str) -> None:
    executions = account.start_many(LIMIT + 2, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT, waiting=2)
    account.sweep_old(key)
    account.sweep_old(key)
    account.wait_for(key, inUse=LIMIT, waiting=2)
    account.stop(executions)
    account.everything_given_back(key)


def test_giving_back_twice_gives_back_once(account: Account, key: str) -> None:
    finished = account.ended(account.start("Patient", key))
    permit = json.loads(finished["output"])["permits"]["Quota"]["permit"]
    executions = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    execution, *others = executions
    for _ in range(2):
        assert account.ask("release", permit=permit) == {"released": False}
        assert account.usage(key)["inUse"] == LIMIT
    account.stop([execution])
    account.wait_for(key, inUse=LIMIT - 1)
    assert account.ask("ended", execution=execution, status="ABORTED") == {"released": False}
    assert account.usage(key)["inUse"] == LIMIT - 1
    account.stop(others)
    account.everything_given_back(key)


# --- what operators do ---------------------------------------------------------------------------------------


def test_a_limit_lowered_below_what_is_held_lets_nobody_in_until_there_is_room(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    following = account.start_many(6, "Patient", key, seconds=SHORT)
    account.wait_for(key, waiting=6)
    assert account.ask("set-limit", key=key, limit=2)["keys"][key]["limit"] == 2
    account.stop(holders[:3])
    account.wait_for(key, inUse=2, waiting=6)
    account.stop(holders[3:])
    account.all_ended(following)
    assert peak([account.history(execution) for execution in following]) == 2
    account.everything_given_back(key)


def test_a_higher_limit_lets_in_who_waits(account: Account, key: str) -> None:
    executions = account.start_many(LIMIT + 3, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT, waiting=3)
    account.ask("set-limit", key=key, limit=LIMIT + 2)
    account.wait_for(key, inUse=LIMIT + 2, waiting=1)
    account.stop(executions)
    account.everything_given_back(key)


def test_a_burst_during_a_pause_waits_and_is_then_served_in_the_order_of_its_starts(account: Account, key: str) -> None:
    account.ask("pause", key=key)
    executions = account.start_many(30, "Patient", key)
    account.wait_for(key, inUse=0, waiting=30, paused=True)
    account.ask("resume", key=key)
    account.all_ended(executions)
    histories = [account.history(execution) for execution in executions]
    assert peak(histories) == LIMIT
    # Those who are let in together are told side by side: nobody overtakes more than them.
    assert overtaken(histories) < LIMIT
    assert kendall(histories) >= 0.9
    account.everything_given_back(key)


# --- who does not wait ---------------------------------------------------------------------------------------


def test_who_skips_leaves_its_work_out_when_all_are_busy(account: Account, key: str) -> None:
    free = account.ended(account.start("Skipping", key))
    assert json.loads(free["output"])["permits"]["Quota"]["granted"] is True
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    skipped = account.start("Skipping", key, day="monday")
    ended = account.ended(skipped)
    output = json.loads(ended["output"])
    assert ended["status"] == "SUCCEEDED"
    assert (output["day"], output["permits"]["Quota"]) == ("monday", {"granted": False})
    assert "Work" not in entered(account.history(skipped))
    account.stop(holders)
    account.everything_given_back(key)


def test_who_must_not_wait_fails_when_all_are_busy(account: Account, key: str) -> None:
    account.all_ended([account.start("Refused", key)])
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    ended = account.ended(account.start("Refused", key))
    assert (ended["status"], ended["error"]) == ("FAILED", "Semaphore.Busy")
    account.stop(holders)
    account.everything_given_back(key)


def test_who_waited_too_long_fails_by_name_and_leaves_the_line(account: Account, key: str) -> None:
    holders = account.start_many(LIMIT, "Patient", key, seconds=LONG)
    account.wait_for(key, inUse=LIMIT)
    ended = account.ended(account.start("Impatient", key))
    assert (ended["status"], ended["error"]) == ("FAILED", "Semaphore.WaitTimeout")
    account.wait_for(key, inUse=LIMIT, waiting=0)
    account.stop(holders)
    account.everything_given_back(key)

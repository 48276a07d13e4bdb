"""What the synthesized state machine does about every failure that AWS is known to report.

The definition of the template runs in an interpreter that other people wrote. The table of failures is the one
that the alert function is tested with, so the state machine and the alert cannot come to read AWS differently.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns

from alert.failure import classify
from alert.message import alert_from
from asl_tools.second_interpreter import EnteredState, Error, Outcome, Result, Run, run_all
from constructs_lib import NO_RETRY, RETRY_LIKE_THE_ORIGINAL, Capacity, LaunchRetry, RetryPolicy
from tests.lambda_src.alert_cases import CASES, Case, container, never_started, not_placed, refused, stopped_task
from tests.scheduled import definition_of, make_app, scheduled, surroundings

BUDGETS = {"throttled": 2, "noCapacity": 3, "neverStarted": 1}
RETRY = LaunchRetry(
    throttled=RetryPolicy(max_attempts=2),
    no_capacity=RetryPolicy(max_attempts=3),
    never_started=RetryPolicy(max_attempts=1),
)

# A Lambda function's failures stand in the table for the alert's sake; a Fargate task cannot fail with them.
OF_A_TASK = [case for case in CASES if case.error.startswith(("ECS.", "AmazonECS.", "States."))]
# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
NEVER_CAUGHT = ("States.Runtime", "States.DataLimitExceeded")

RUN, ON_DEMAND, WHY, WAIT = "Run task", "Run task on demand", "Why did it fail?", "Wait before relaunch"
TELL, KEEP = "Tell of the failure", "Keep what was not told of the failure"

INPUT = {"day": "2026-03-01", "customers": [1, 2], "nested": {"result": "mine"}}
CONTEXT = {
    "Execution": {"Id": "arn:aws:states:eu-central-1:111122223333:execution:Nightly:1", "Name": "1"},
    "State": {"Name": TELL, "EnteredTime": "2026-03-01T02:07:30Z"},
    "StateMachine": {"Id": "arn:aws:states:eu-central-1:111122223333:stateMachine:Nightly", "Name": "Nightly"},
}

STOPPED_WELL = json.loads(stopped_task(container(exit_code=0)))
DONE = Result(STOPPED_WELL)
THROTTLED = Error("ECS.AmazonECSException", refused("Rate exceeded", "ThrottlingException"))
NO_CAPACITY = Error("AmazonECS.Unknown", not_placed("Capacity is unavailable at this time."))
NEVER_STARTED = Error("States.TaskFailed", never_started("CannotPullContainerError: not found"))
EXITED = Error("States.TaskFailed", stopped_task(container(exit_code=3)))
INTERRUPTED = Error(
    "States.TaskFailed",
    stopped_task(container(exit_code=143), stop_code="SpotInterruption", reason="Your Spot Task was interrupted."),
)
# Step Functions cuts a cause anywhere: here behind the stop code, and before it.
CUT_BEHIND_STOP_CODE = Error(
    "States.TaskFailed",
    stopped_task(container(exit_code=0), container("proxy", exit_code=1), cut_before=',"StoppedAt"'),
)
CUT_BEFORE_STOP_CODE = Error(
    "States.TaskFailed",
    stopped_task(container(exit_code=3, reason="CannotPull is what the application said"), cut_before='"Group"'),
)
ONE_OF_TWO_FAILED = Error(
    "States.TaskFailed",
    stopped_task(container(exit_code=0), container("proxy", exit_code=1), container("worker", exit_code=2)),
)
TIMED_OUT = Error("States.Timeout")
WRONG = Error("ECS.ClusterNotFoundException", "Cluster not found.")
UNREACHABLE = Error("Lambda.ServiceException", "Service exception")

HANDLED = Result({"StatusCode": 200})
TELLS_A_FAILING_HANDLER = [UNREACHABLE] * 5


@dataclass(frozen=True)
class Scenario:
    """One execution: the machine, and what its tasks answer, call by call."""

    machine: str
    run: Sequence[Result | Error]
    on_demand: Sequence[Result | Error] = ()
    others: Mapping[str, Sequence[Result | Error]] = field(default_factory=lambda: {TELL: [HANDLED]})


def containers_of(case: Case) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The essential containers and the sidecars of the task definition that the case happened to."""
    named = dict.fromkeys(re.findall(r'"Name":"(app|proxy|worker)"', case.cause))
    return tuple(case.essential), tuple(name for name in named if name not in case.essential)


def machine_of(case: Case, capacity: Capacity) -> str:
    essential, sidecars = containers_of(case)
    return f"{capacity.name} {essential} beside {sidecars}"


SCENARIOS = {
    "at once": Scenario("plain", [DONE]),
    "two refusals of each kind": Scenario("plain", [THROTTLED, NO_CAPACITY, THROTTLED, NO_CAPACITY, DONE]),
    "all budgets used up, and then well": Scenario(
        "plain",
        [NO_CAPACITY, THROTTLED, NEVER_STARTED, NO_CAPACITY, THROTTLED, NO_CAPACITY, DONE],
    ),
    "one refusal too many after others": Scenario(
        "plain",
        [NO_CAPACITY, THROTTLED, THROTTLED, NO_CAPACITY, THROTTLED, DONE],
    ),
    "refused, then an exit code": Scenario("plain", [THROTTLED, EXITED, DONE]),
    "an exit code in a text that was cut": Scenario("plain", [CUT_BEFORE_STOP_CODE, DONE]),
    "cut behind the stop code": Scenario("with a sidecar", [CUT_BEHIND_STOP_CODE]),
    "an essential container beside a sidecar": Scenario("two and a sidecar", [ONE_OF_TWO_FAILED]),
    "no cause at all": Scenario("plain", [TIMED_OUT]),
    "a Spot interruption": Scenario("spot", [INTERRUPTED], [DONE]),
    "no Spot capacity": Scenario("spot", [NO_CAPACITY], [DONE]),
    "throttled on Spot, then no Spot capacity": Scenario("spot", [THROTTLED, NO_CAPACITY], [THROTTLED, DONE]),
    "throttled on Spot and on demand": Scenario("spot", [THROTTLED, NO_CAPACITY], [THROTTLED, THROTTLED, DONE]),
    "interrupted, then an exit code": Scenario("spot", [INTERRUPTED], [EXITED]),
    "the application again": Scenario("all kinds", [EXITED, EXITED, DONE]),
    "the application too often": Scenario("all kinds", [EXITED, EXITED, EXITED, DONE]),
    "the time-out again": Scenario("all kinds", [TIMED_OUT, TIMED_OUT, DONE]),
    "the wrong configuration again": Scenario("all kinds", [WRONG, WRONG, DONE]),
    "like the original, well after three": Scenario("like the original", [EXITED, THROTTLED, TIMED_OUT, DONE]),
    "like the original, never well": Scenario("like the original", [EXITED] * 4),
    "no retry": Scenario("no retry", [THROTTLED, DONE]),
    "nobody to tell": Scenario("nobody", [EXITED], others={}),
    "two to tell": Scenario(
        "two handlers", [EXITED], others={"Tell 1 of the failure": [HANDLED], "Tell 2 of the failure": [HANDLED]}
    ),
    "the first of two fails": Scenario(
        "two handlers",
        [EXITED],
        others={
            "Tell 1 of the failure": TELLS_A_FAILING_HANDLER,
            "Keep what 1 was not told of the failure": [HANDLED],
            "Tell 2 of the failure": [HANDLED],
        },
    ),
    "a handler that comes back": Scenario("plain", [EXITED], others={TELL: [UNREACHABLE, UNREACHABLE, HANDLED]}),
    "neither handler nor queue": Scenario(
        "plain", [EXITED], others={TELL: TELLS_A_FAILING_HANDLER, KEEP: TELLS_A_FAILING_HANDLER}
    ),
    "success told": Scenario("tells of success", [DONE], others={"Tell of the success": [HANDLED]}),
    "success told after a relaunch": Scenario(
        "tells of success", [THROTTLED, DONE], others={"Tell of the success": [HANDLED]}
    ),
    "success that cannot be told": Scenario(
        "tells of success",
        [DONE],
        others={"Tell of the success": TELLS_A_FAILING_HANDLER, "Keep what was not told of the success": [HANDLED]},
    ),
}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The definitions of one app, a stack for each way to set the construct up."""
    app = make_app(tmp_path_factory.mktemp("machines"))
    stacks: dict[str, cdk.Stack] = {}

    def add(name: str, *, essential: Sequence[str] = ("app",), sidecars: Sequence[str] = (), **options: Any) -> None:
        stack = stacks[name] = cdk.Stack(app, f"Stack{len(stacks)}")
        if "tell" in options:
            options["failure_handlers"] = [
                lambda_.Function.from_function_arn(
                    stack, "Own", "arn:aws:lambda:eu-central-1:111122223333:function:own"
                ),
                sns.Topic(stack, "Topic"),
            ][: options.pop("tell")]
        if options.pop("tell_of_success", False):
            options["success_handlers"] = [sns.Topic(stack, "Good")]
        scheduled(surroundings(stack, essential=essential, sidecars=sidecars), **{"retry": RETRY, **options})

    for case in OF_A_TASK:
        for capacity in Capacity:
            if machine_of(case, capacity) not in stacks:
                essential, sidecars = containers_of(case)
                add(machine_of(case, capacity), essential=essential, sidecars=sidecars, capacity=capacity)
    twice = RetryPolicy(max_attempts=2, jitter=False)
    add("plain")
    add("with a sidecar", sidecars=["proxy"])
    add("two and a sidecar", essential=["app", "worker"], sidecars=["proxy"])
    add("spot", capacity=Capacity.SPOT_THEN_ON_DEMAND)
    add("all kinds", retry=LaunchRetry(application=twice, timed_out=twice, configuration=twice))
    add("like the original", retry=RETRY_LIKE_THE_ORIGINAL, fail_execution=False)
    add("no retry", retry=NO_RETRY)
    add("nobody", tell=0)
    add("two handlers", tell=2)
    add("tells of success", tell_of_success=True)
    return {name: definition_of(stack) for name, stack in stacks.items()}


@pytest.fixture(scope="module")
def outcomes(machines: Mapping[str, Mapping[str, Any]]) -> dict[str, Outcome]:
    """How every execution of this module ended; one Node process runs them all."""
    # Longer than any budget: every error of the table repeats for ever.
    table = {
        f"{capacity.name}: {case.name}": Scenario(
            machine_of(case, capacity),
            [Error(case.error, case.cause)] * 9,
            [Error(case.error, case.cause)] * 9 if capacity is Capacity.SPOT_THEN_ON_DEMAND else (),
        )
        for case in OF_A_TASK
        for capacity in Capacity
    }
    scenarios = {**SCENARIOS, **table}
    runs = [
        Run(
            definition=machines[scenario.machine],
            input=INPUT,
            context=CONTEXT,
            tasks={
                RUN: scenario.run,
                **({ON_DEMAND: scenario.on_demand} if scenario.on_demand else {}),
                **scenario.others,
            },
        )
        for scenario in scenarios.values()
    ]
    return dict(zip(scenarios, run_all(runs), strict=True))


def told(outcome: Outcome, state: str = TELL) -> list[dict[str, Any]]:
    """What a handler was called with, call by call."""
    return [payload["Payload"] for payload in outcome.inputs.get(state, [])]


def pauses(outcome: Outcome) -> list[int]:
    return [state.input["launch"]["pause"] for state in outcome.states if state.name.startswith(WAIT)]


# --- the table -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", OF_A_TASK, ids=lambda case: case.name)
class TestEveryKnownFailure:
    """It repeats for ever: the task is launched as often as the budget of its kind says, and no more."""

    def launches(self, case: Case) -> int:
        return BUDGETS.get(case.retried or "", 0) + 1

    def test_is_launched_again_within_its_budget_only(self, case: Case, outcomes: Mapping[str, Outcome]) -> None:
        outcome = outcomes[f"ON_DEMAND: {case.name}"]
        assert outcome.calls[RUN] == self.launches(case)
        assert len(pauses(outcome)) == self.launches(case) - 1

    def test_ends_as_aws_reported_it(self, case: Case, outcomes: Mapping[str, Outcome]) -> None:
        outcome = outcomes[f"ON_DEMAND: {case.name}"]
        if case.succeeds:
            assert outcome.status == "SUCCEEDED"
            assert outcome.output["result"] == json.loads(case.cause)
            assert INPUT.items() <= outcome.output.items()
        else:
            assert (outcome.status, outcome.error or "", outcome.cause or "") == ("FAILED", case.error, case.cause)

    def test_is_told_once_with_the_original_error(self, case: Case, outcomes: Mapping[str, Outcome]) -> None:
        events = told(outcomes[f"ON_DEMAND: {case.name}"])
        if case.succeeds or case.error in NEVER_CAUGHT:
            assert events == []
            return
        [event] = events
        assert event["Response"]["error"] == {"Error": case.error, "Cause": case.cause}
        assert INPUT.items() <= event["Response"].items()

    def test_is_called_by_the_alert_what_the_state_machine_took_it_for(
        self, case: Case, outcomes: Mapping[str, Outcome]
    ) -> None:
        assert classify(case.error, case.cause, case.essential).kind is case.kind
        for event in told(outcomes[f"ON_DEMAND: {case.name}"]):
            alert = alert_from(event)
            assert alert.kind is case.kind
            assert alert.launches == self.launches(case)

    def test_on_spot_goes_on_demand_for_capacity_only(self, case: Case, outcomes: Mapping[str, Outcome]) -> None:
        expected = {
            "spot": (1, 1),
            "noCapacity": (1, BUDGETS["noCapacity"] + 1),
        }.get(case.retried or "", (self.launches(case), 0))
        outcome = outcomes[f"SPOT_THEN_ON_DEMAND: {case.name}"]
        assert (outcome.calls[RUN], outcome.calls[ON_DEMAND]) == expected
        assert outcome.status == ("SUCCEEDED" if case.succeeds else "FAILED")


def test_the_table_covers_every_budget_and_sidecars() -> None:
    assert {case.retried for case in OF_A_TASK} == {None, "throttled", "noCapacity", "neverStarted", "spot"}
    assert sum(case.succeeds for case in OF_A_TASK) >= 4
    assert len(OF_A_TASK) >= 60


# --- success, at once and later ------------------------------------------------------------------------------


def test_a_run_that_succeeds_at_once_passes_through_one_state(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["at once"]
    assert outcome.states == [EnteredState(RUN, INPUT)]
    assert (outcome.status, outcome.output) == ("SUCCEEDED", {**INPUT, "result": STOPPED_WELL})


@pytest.mark.parametrize(
    ("scenario", "launches"),
    [("two refusals of each kind", 5), ("all budgets used up, and then well", 7)],
)
def test_refusals_within_the_budgets_end_well_and_nobody_is_told(
    scenario: str, launches: int, outcomes: Mapping[str, Outcome]
) -> None:
    outcome = outcomes[scenario]
    assert (outcome.status, outcome.calls[RUN], outcome.calls[TELL]) == ("SUCCEEDED", launches, 0)


def test_the_input_is_never_overwritten(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["all budgets used up, and then well"]
    assert {key: outcome.output[key] for key in INPUT} == INPUT
    assert outcome.output["result"] == STOPPED_WELL
    assert set(outcome.output) == {*INPUT, "result", "error", "launch"}


def test_budgets_are_counted_apart(outcomes: Mapping[str, Outcome]) -> None:
    counted = outcomes["all budgets used up, and then well"].output["launch"]
    assert {kind: counted[kind] for kind in BUDGETS} == BUDGETS
    outcome = outcomes["one refusal too many after others"]
    assert (outcome.status, outcome.error, outcome.calls[RUN]) == ("FAILED", THROTTLED.name, 5)


def test_a_failure_after_refusals_is_decided_by_its_own_kind(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["refused, then an exit code"]
    assert (outcome.status, outcome.calls[RUN]) == ("FAILED", 2)
    [event] = told(outcome)
    assert event["Response"]["error"]["Cause"] == EXITED.cause
    assert alert_from(event).refusals == ("1 throttled",)


def test_each_pause_is_drawn_between_zero_and_its_ceiling(outcomes: Mapping[str, Outcome]) -> None:
    drawn = pauses(outcomes["all budgets used up, and then well"])
    # In the order of the failures: capacity, throttling, start, capacity, throttling, capacity. This interpreter
    # may draw the end of the range too, which is one more than AWS draws.
    assert all(0 <= pause <= ceiling + 1 for pause, ceiling in zip(drawn, (2, 2, 2, 4, 4, 8), strict=True))


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("an exit code in a text that was cut", CUT_BEFORE_STOP_CODE),
        ("cut behind the stop code", CUT_BEHIND_STOP_CODE),
        ("an essential container beside a sidecar", ONE_OF_TWO_FAILED),
    ],
)
def test_what_is_not_proven_is_a_failure_as_aws_reported_it(
    scenario: str, error: Error, outcomes: Mapping[str, Outcome]
) -> None:
    outcome = outcomes[scenario]
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", error.name, error.cause)
    assert (outcome.calls[RUN], outcome.calls[TELL]) == (1, 1)


def test_a_failure_that_comes_without_a_cause_is_still_told(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["no cause at all"]
    assert (outcome.status, outcome.error, outcome.calls[TELL]) == ("FAILED", "States.Timeout", 1)


# --- Spot ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", ["a Spot interruption", "no Spot capacity"])
def test_spot_gives_way_to_on_demand_without_a_pause(scenario: str, outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes[scenario]
    assert (outcome.status, outcome.calls[RUN], outcome.calls[ON_DEMAND]) == ("SUCCEEDED", 1, 1)
    assert outcome.visited == [RUN, WHY, "Start counting", WHY, ON_DEMAND]
    assert INPUT.items() <= outcome.output.items()


def test_spot_and_on_demand_share_their_budgets(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["throttled on Spot, then no Spot capacity"]
    assert (outcome.status, outcome.calls[RUN], outcome.calls[ON_DEMAND]) == ("SUCCEEDED", 2, 2)
    outcome = outcomes["throttled on Spot and on demand"]
    assert (outcome.status, outcome.error, outcome.calls[ON_DEMAND]) == ("FAILED", THROTTLED.name, 2)


def test_an_application_that_fails_on_demand_is_not_run_again(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["interrupted, then an exit code"]
    assert (outcome.status, outcome.cause, outcome.calls[ON_DEMAND]) == ("FAILED", EXITED.cause, 1)


# --- what is retried on request ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "counter"),
    [
        ("the application again", "application"),
        ("the time-out again", "timedOut"),
        ("the wrong configuration again", "configuration"),
    ],
)
def test_other_kinds_are_launched_again_on_request(
    scenario: str, counter: str, outcomes: Mapping[str, Outcome]
) -> None:
    outcome = outcomes[scenario]
    assert (outcome.status, outcome.calls[RUN], outcome.output["launch"][counter]) == ("SUCCEEDED", 3, 2)
    assert pauses(outcome) == [2, 4]


def test_a_budget_on_request_also_ends(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["the application too often"]
    assert (outcome.status, outcome.cause, outcome.calls[RUN]) == ("FAILED", EXITED.cause, 3)


def test_like_the_original_everything_is_retried_three_times(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["like the original, well after three"]
    assert (outcome.status, outcome.calls[RUN], outcome.visited) == ("SUCCEEDED", 4, [RUN])


def test_like_the_original_a_failure_ends_succeeded_after_the_alert(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["like the original, never well"]
    assert (outcome.status, outcome.calls[RUN], outcome.calls[TELL]) == ("SUCCEEDED", 4, 1)
    assert outcome.visited == [RUN, TELL, "Failed, and told"]
    assert outcome.output["error"] == {"Error": EXITED.name, "Cause": EXITED.cause}


def test_without_retry_the_first_failure_decides(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["no retry"]
    assert outcome.visited == [RUN, TELL, "Failed"]
    assert (outcome.error, outcome.cause) == (THROTTLED.name, THROTTLED.cause)


# --- who is told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", ["nobody to tell", "two to tell", "the first of two fails"])
def test_the_execution_fails_with_the_jobs_own_error_whoever_is_told(
    scenario: str, outcomes: Mapping[str, Outcome]
) -> None:
    outcome = outcomes[scenario]
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", EXITED.name, EXITED.cause)


def test_handlers_are_told_in_order(outcomes: Mapping[str, Outcome]) -> None:
    assert outcomes["two to tell"].visited[-3:] == ["Tell 1 of the failure", "Tell 2 of the failure", "Failed"]
    assert outcomes["nobody to tell"].visited[-2:] == [WHY, "Failed"]


def test_a_handler_that_fails_does_not_keep_the_next_from_being_told(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["the first of two fails"]
    assert outcome.visited[-4:] == [
        "Tell 1 of the failure",
        "Keep what 1 was not told of the failure",
        "Tell 2 of the failure",
        "Failed",
    ]
    [function_call] = {json.dumps(call["Payload"]) for call in outcome.inputs["Tell 1 of the failure"]}
    [kept] = outcome.inputs["Keep what 1 was not told of the failure"]
    [topic_call] = outcome.inputs["Tell 2 of the failure"]
    assert kept["MessageBody"] == topic_call["Message"] == json.loads(function_call)
    assert kept["MessageBody"]["Response"] == {
        **INPUT,
        "error": {"Error": EXITED.name, "Cause": EXITED.cause},
        "launch": {"throttled": 0, "noCapacity": 0, "neverStarted": 0, "pause": 0},
    }


def test_a_handler_is_called_again_when_it_fails(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["a handler that comes back"]
    assert (outcome.calls[TELL], outcome.calls[KEEP], outcome.error) == (3, 0, EXITED.name)


def test_when_even_the_queue_is_gone_the_execution_still_fails_with_the_jobs_own_error(
    outcomes: Mapping[str, Outcome],
) -> None:
    outcome = outcomes["neither handler nor queue"]
    assert (outcome.calls[TELL], outcome.calls[KEEP]) == (5, 5)
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", EXITED.name, EXITED.cause)


def test_the_message_has_the_context_object_beside_the_response(outcomes: Mapping[str, Outcome]) -> None:
    [event] = told(outcomes["refused, then an exit code"])
    assert set(event) == {"Response", "Execution", "Job"}
    assert event["Execution"]["Execution"].items() >= CONTEXT["Execution"].items()
    assert event["Execution"]["Execution"]["Input"] == INPUT
    assert event["Execution"]["StateMachine"] == CONTEXT["StateMachine"]
    [app] = event["Job"]["containers"]
    assert (app["name"], app["essential"], app["logStreamPrefix"]) == ("app", True, "job")


def test_a_success_is_told_with_its_result(outcomes: Mapping[str, Outcome]) -> None:
    for scenario in ("success told", "success told after a relaunch"):
        outcome = outcomes[scenario]
        [call] = outcome.inputs["Tell of the success"]
        assert call["Message"]["Response"]["result"] == STOPPED_WELL
        assert outcome.status == "SUCCEEDED"
        assert alert_from(call["Message"]).kind == "succeeded"


def test_a_success_that_cannot_be_told_is_kept_and_stays_a_success(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["success that cannot be told"]
    assert (outcome.status, outcome.calls["Keep what was not told of the success"]) == ("SUCCEEDED", 1)


# --- what no interpreter can judge ---------------------------------------------------------------------------


def retriers(definition: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in definition["States"].items():
        for retrier in state.get("Retry", []):
            yield name, retrier


def test_jitter_and_ceilings_are_in_the_definition(machines: Mapping[str, Mapping[str, Any]]) -> None:
    """Interpreters skip pauses, and one of them draws the end of a range that AWS leaves out."""
    states = machines["plain"]["States"]
    drawn = "States.MathRandom(0, States.MathAdd(States.ArrayGetItem(States.Array({}), $.launch.{}), 1))"
    assert states["No capacity"]["Parameters"] == {
        "throttled.$": "$.launch.throttled",
        "noCapacity.$": "States.MathAdd($.launch.noCapacity, 1)",
        "neverStarted.$": "$.launch.neverStarted",
        "pause.$": drawn.format("2, 4, 8", "noCapacity"),
    }
    assert states["Throttled"]["Parameters"]["pause.$"] == drawn.format("2, 4", "throttled")
    exact = machines["all kinds"]["States"]["Timed out"]["Parameters"]["pause.$"]
    assert exact == "States.ArrayGetItem(States.Array(2, 4), $.launch.timedOut)"
    assert states[WAIT]["SecondsPath"] == "$.launch.pause"

    assert dict(retriers(machines["plain"])) == {
        name: {
            "ErrorEquals": ["States.ALL"],
            "IntervalSeconds": 2,
            "MaxAttempts": 4,
            "BackoffRate": 2,
            "MaxDelaySeconds": 60,
            "JitterStrategy": "FULL",
        }
        for name in (TELL, KEEP)
    }
    assert dict(retriers(machines["like the original"]))[RUN] == {
        "ErrorEquals": ["States.ALL"],
        "IntervalSeconds": 1,
        "MaxAttempts": 3,
        "BackoffRate": 2,
        "MaxDelaySeconds": 60,
        "JitterStrategy": "NONE",
    }


def test_time_limits_are_in_the_definition(machines: Mapping[str, Mapping[str, Any]]) -> None:
    """The second interpreter runs no timers. The default timeout is an hour, the handlers have 15 minutes."""
    pauses_at_most = (2 + 4) + (2 + 4 + 8) + 2
    assert machines["plain"]["States"][RUN]["TimeoutSeconds"] == 3600
    # One run, and one more after a start that failed late.
    assert machines["plain"]["TimeoutSeconds"] == 2 * 3600 + pauses_at_most + 15 * 60
    assert machines["spot"]["TimeoutSeconds"] == 3 * 3600 + pauses_at_most + 15 * 60
    assert machines["like the original"]["TimeoutSeconds"] == 4 * 3600 + (1 + 2 + 4) + 15 * 60

"""What operators ask for."""

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_map import account, plan
from distributed_map.operate import handle
from tests.lambda_src.distributed_map.world import (
    MACHINE,
    NOW,
    RESULTS,
    KilledError,
    World,
    child,
    execution_arn,
    raised,
)

THRESHOLD = {"error": "States.ExceedToleratedFailureThreshold", "redriveStatus": "REDRIVABLE"}
SOURCE = {"kind": "input", "path": "$.items", "timeZone": "Etc/UTC", "daysBack": 0, "results": {"bucket": RESULTS}}


def failed_run(world: World, name: str = "a", *, results: Any = None, with_account: bool = True, **fields: Any) -> None:
    """A run that has planned three items and has ended."""
    facts = {"id": execution_arn(name), "name": name, "startTime": "2026-11-22T06:00:00Z"}
    given = {"items": [1, 2, 3]}
    plan.handle({"input": given, "execution": facts, "source": SOURCE}, world)
    found = world.add_execution(name, **{"given": given, **THRESHOLD, **fields})
    failure = child(2, "FAILED", error="E", cause=raised("E", "no"))
    world.add_map_run(name, results or {"SUCCEEDED": [child(1)], "FAILED": [failure], "PENDING": [child(3, "PENDING")]})
    if with_account:
        change = {
            "executionArn": found["executionArn"],
            "name": name,
            "status": found["status"],
            "startDate": 0,
            "error": found.get("error"),
        }
        settings = {"results": {"bucket": RESULTS}, "source": SOURCE, "name": "n"}
        account.handle({"statusChange": change, "settings": settings}, world)
    world.requests.clear()


WITH_CHILDREN_ANEW = "1 items failed or were stopped in children that have to begin anew"


def changed(world: World) -> list[str]:
    """The requests that change something."""
    return [each for each in world.requests if each in ("StartExecution", "RedriveExecution", "UpdateMapRun")]


# --- rerun ------------------------------------------------------------------------------------------------------------


def test_a_run_that_ended_at_its_map_is_redriven(world: World) -> None:
    failed_run(world)

    told = handle({"action": "rerun"}, world)

    assert told == {
        "action": "rerun",
        "execution": execution_arn("a"),
        "mode": "redrive",
        "why": "only what was not done is resumed, in the same run",
        "failed": 1,
        "notRun": 1,
        "started": execution_arn("a"),
    }
    assert world.executions[execution_arn("a")]["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("fields", "results", "with_account", "why"),
    [
        ({"redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": "too old"}, None, True, "too old"),
        ({"redriveStatus": None}, None, True, "AWS does not redrive it any more"),
        ({"error": "ItemsFailed"}, None, True, "the run has dealt with its failure itself (ItemsFailed)"),
        ({"error": None}, None, True, "the run has dealt with its failure itself (no error name)"),
        ({"status": "SUCCEEDED", "error": None}, None, True, "the run has SUCCEEDED"),
        ({}, None, False, "it has no account yet, so the new run makes it first"),
        (
            {},
            {"SUCCEEDED": [child(1), child(2, output={"error": "Bad"})], "FAILED": [child(3, "FAILED")]},
            True,
            "1 items failed in children that succeeded, which a redrive leaves as they are",
        ),
    ],
)
def test_where_a_redrive_would_not_do_a_new_run_is_started(
    fields: Any, results: Any, with_account: bool, why: str, world: World
) -> None:
    failed_run(world, results=results, with_account=with_account, **fields)

    told = handle({"action": "rerun", "execution": execution_arn("a")}, world)

    assert (told["mode"], told["why"]) == ("restart", why)
    started = world.executions[told["started"]]
    assert json.loads(started["input"]) == {"rerun": {"execution": execution_arn("a")}}
    assert started["name"].startswith("rerun-a-")


@pytest.mark.parametrize(
    ("results", "way", "why"),
    [
        ({"FAILED": [child(2, "FAILED", error="E")]}, "restart", WITH_CHILDREN_ANEW),
        ({"FAILED": [child(2, "ABORTED")]}, "restart", WITH_CHILDREN_ANEW),
        ({"SUCCEEDED": [child(1), child(2)]}, "redrive", "only what was not done is resumed, in the same run"),
    ],
)
def test_children_that_have_to_begin_anew_are_not_redriven(
    results: Any, way: str, why: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHILDREN_BEGIN_ANEW", "yes")
    failed_run(world, results={"SUCCEEDED": [child(1)], **results, "PENDING": [child(3, "PENDING")]})

    told = handle({"action": "rerun", "dryRun": True}, world)
    asked = handle({"action": "rerun", "mode": "redrive", "dryRun": True}, world)

    assert (told["mode"], told["why"]) == (way, why)
    assert asked["mode"] == "redrive"
    assert ("that it does not begin anew" in asked["why"]) == (way == "restart")


@pytest.mark.parametrize("status", ["TIMED_OUT", "ABORTED"])
def test_a_run_that_was_stopped_is_redriven(status: str, world: World) -> None:
    failed_run(world, status=status, error=None)

    assert handle({"action": "rerun"}, world)["mode"] == "redrive"


def test_the_new_run_plans_what_was_not_done(world: World) -> None:
    failed_run(world)
    told = handle({"action": "rerun", "mode": "restart"}, world)
    started = world.executions[told["started"]]

    facts = {"id": started["executionArn"], "name": started["name"], "startTime": "2026-11-23T06:00:00Z"}
    planned = plan.handle({"input": json.loads(started["input"]), "execution": facts, "source": SOURCE}, world)

    assert (planned["next"], planned["count"]) == ("map", 2)


def test_the_newest_run_that_failed_is_taken(world: World) -> None:
    failed_run(world, "old", status="TIMED_OUT")
    world.now = NOW + timedelta(hours=1)
    failed_run(world, "new")
    world.now = NOW - timedelta(hours=1)
    failed_run(world, "oldest", status="ABORTED")
    world.add_execution("later", status="SUCCEEDED", startDate=NOW + timedelta(hours=2))
    world.add_execution("now", status="RUNNING", startDate=NOW + timedelta(hours=3))

    assert handle({"action": "rerun"}, world)["execution"] == execution_arn("new")


@pytest.mark.parametrize("mode", ["redrive", "restart"])
def test_called_twice_it_starts_one(mode: str, world: World) -> None:
    failed_run(world, "older")
    world.now = NOW + timedelta(hours=1)
    failed_run(world, "a")

    first = handle({"action": "rerun", "mode": mode}, world)
    second = handle({"action": "rerun", "mode": mode}, world)

    assert first["execution"] == second["execution"] == execution_arn("a")
    assert len([each for each in world.executions.values() if each["status"] == "RUNNING"]) == 1
    if mode == "redrive":
        assert (second["started"], second["why"]) == (None, "it was redriven, and is under way")
    else:
        assert first["started"] == second["started"]
        world.executions[first["started"]]["status"] = "SUCCEEDED"
        third = handle({"action": "rerun", "mode": mode, "execution": execution_arn("a")}, world)
        assert (third["started"], third["startedBefore"]) == (None, first["started"])


def test_after_a_redrive_that_failed_it_can_be_done_again(world: World) -> None:
    failed_run(world)
    first = handle({"action": "rerun", "mode": "restart"}, world)["started"]
    world.executions[first]["status"] = "SUCCEEDED"
    world.executions[execution_arn("a")]["redriveCount"] = 1

    second = handle({"action": "rerun", "execution": execution_arn("a"), "mode": "restart"}, world)["started"]

    assert second not in (None, first)


@pytest.mark.parametrize("mode", ["redrive", "restart"])
@pytest.mark.parametrize("after", [False, True])
def test_wherever_it_dies_one_is_started(mode: str, after: bool, world: World) -> None:
    failed_run(world)
    world.dies_after = after
    for dies_at in range(1, 50):
        world.dies_at = dies_at
        world.requests.clear()
        try:
            handle({"action": "rerun", "mode": mode, "execution": execution_arn("a")}, world)
        except KilledError:
            continue
        break

    assert 2 < dies_at < 50
    assert len([each for each in world.executions.values() if each["status"] == "RUNNING"]) == 1
    assert world.executions[execution_arn("a")].get("redriveCount", 0) == (mode == "redrive")


def test_a_dry_run_starts_nothing(world: World) -> None:
    failed_run(world)

    told = handle({"action": "rerun", "dryRun": True}, world)

    assert (told["mode"], told["started"], told["dryRun"]) == ("redrive", None, True)
    assert changed(world) == []


def test_a_redrive_that_was_asked_for_says_what_it_leaves(world: World) -> None:
    failed_run(world, results={"SUCCEEDED": [child(1, output={"error": "E"})], "FAILED": [child(2, "FAILED")]})

    told = handle({"action": "rerun", "mode": "redrive"}, world)

    assert told["why"] == "as was asked for; 1 items that failed in children that succeeded stay as they are"


@pytest.mark.parametrize(
    ("fields", "change", "error"),
    [
        (
            {"error": "ItemsFailed"},
            {"source": "parquet"},
            "a file of Parquet cannot be made of them; the run has dealt with its failure itself (ItemsFailed)",
        ),
        (
            {},
            {"source": "parquet", "answeredFailures": 1},
            "a file of Parquet cannot be made of them; ask for mode redrive",
        ),
        ({}, {"incomplete": "one is lost", "answeredFailures": 1}, "one is lost; ask for mode redrive"),
    ],
)
def test_what_no_new_run_can_do_is_told(fields: Any, change: Any, error: str, world: World) -> None:
    failed_run(world, **fields)
    world.put(RESULTS, "runs/a/summary.json", json.dumps({**world.json("runs/a/summary.json"), **change}))

    told = handle({"action": "rerun"}, world)

    assert told == {"error": f"{execution_arn('a')} cannot be run again as a new run: {error}"}
    assert changed(world) == []


def test_what_never_began_is_run_again_whatever_it_reads(world: World) -> None:
    failed_run(world, error="ItemsFailed")
    summary = {**world.json("runs/a/summary.json"), "source": "parquet", "begun": False}
    world.put(RESULTS, "runs/a/summary.json", json.dumps(summary))

    assert handle({"action": "rerun"}, world)["mode"] == "restart"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"error": "ItemsFailed"}, "the run has dealt with its failure itself (ItemsFailed)"),
        ({"redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": "too old"}, "too old"),
    ],
)
def test_a_redrive_that_is_not_possible_is_not_done(fields: Any, why: str, world: World) -> None:
    failed_run(world, **fields)

    told = handle({"action": "rerun", "mode": "redrive"}, world)

    assert told == {"error": f"{execution_arn('a')} cannot be redriven: {why}"}
    assert changed(world) == []


def test_a_redrive_that_aws_refuses_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failed_run(world)

    def refuse(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "ExecutionNotRedrivable", "Message": "just now"}}, "RedriveExecution")

    monkeypatch.setattr(world, "redrive_execution", refuse)

    assert "just now" in handle({"action": "rerun"}, world)["error"]


def test_what_is_done_is_not_done_again(world: World) -> None:
    failed_run(world, status="SUCCEEDED", error=None, results={"SUCCEEDED": [child(1), child(2), child(3)]})

    told = handle({"action": "rerun", "execution": execution_arn("a")}, world)

    assert (told["started"], told["why"]) == (None, "all of its items were done")
    assert changed(world) == []


def test_what_is_under_way_is_left_alone(world: World) -> None:
    world.add_execution("a", status="RUNNING")

    told = handle({"action": "rerun", "execution": execution_arn("a")}, world)

    assert (told["started"], told["why"]) == (None, "it is still under way")


def test_a_long_or_odd_name_makes_a_good_one(world: World) -> None:
    for name in ("n" * 80, "ünïcode.name"):
        world.add_execution(name, **THRESHOLD)

        started = handle({"action": "rerun", "execution": execution_arn(name)}, world)["started"]

        assert len(started.rpartition(":")[2]) <= 80
        assert started.rpartition(":")[2].isascii()


# --- runs under way ---------------------------------------------------------------------------------------------------


def running(world: World, name: str) -> str:
    world.add_execution(name, status="RUNNING")
    ended = world.add_map_run(name, None, status="FAILED")
    arn = world.add_map_run(name, None, status="RUNNING")
    world.map_runs[arn]["itemCounts"].update(total=9, succeeded=4, running=5)
    assert ended != arn
    return arn


def test_all_runs_under_way_are_changed(world: World) -> None:
    world.page = 1
    first, second = running(world, "a"), running(world, "b")
    world.add_execution("c")

    told = handle({"action": "update", "maxConcurrency": 5, "toleratedFailurePercentage": 2.5}, world)

    assert told == {
        "action": "update",
        "maxConcurrency": 5,
        "toleratedFailurePercentage": 2.5,
        "updated": [
            {"execution": execution_arn("a"), "mapRun": first},
            {"execution": execution_arn("b"), "mapRun": second},
        ],
    }
    assert world.requests.count("UpdateMapRun") == 2
    assert world.map_runs[first]["maxConcurrency"] == 5
    assert world.map_runs[first]["toleratedFailurePercentage"] == 2.5
    assert world.map_runs[first]["toleratedFailureCount"] == 0


def test_one_run_is_changed(world: World) -> None:
    first, second = running(world, "a"), running(world, "b")

    handle({"action": "update", "execution": execution_arn("b"), "toleratedFailureCount": 3}, world)

    assert [world.map_runs[arn]["toleratedFailureCount"] for arn in (first, second)] == [0, 3]


def test_where_nothing_is_under_way_nothing_is_changed(world: World) -> None:
    world.add_execution("a")

    assert handle({"action": "update", "maxConcurrency": 5}, world) == {
        "error": "the state machine has no map under way"
    }
    assert handle({"action": "update", "maxConcurrency": 5, "execution": execution_arn("a")}, world) == {
        "error": f"{execution_arn('a')} has no map under way"
    }


def test_runs_under_way_are_told(world: World) -> None:
    arn = running(world, "a")
    world.add_execution("b", status="RUNNING")

    told = handle({"action": "status"}, world)

    assert told == {
        "action": "status",
        "running": [
            {
                "execution": execution_arn("a"),
                "mapRuns": [
                    {
                        "mapRun": arn,
                        "startedAt": "2026-11-22T06:00:00.000Z",
                        "maxConcurrency": 100,
                        "toleratedFailureCount": 0,
                        "toleratedFailurePercentage": 0.0,
                        "items": {**world.map_runs[arn]["itemCounts"]},
                    }
                ],
            },
            {"execution": execution_arn("b"), "mapRuns": []},
        ],
    }
    assert changed(world) == []


# --- what makes no sense ----------------------------------------------------------------------------------------------

PREFIX = f"{MACHINE.replace(':stateMachine:', ':execution:')}:"


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (None, "the event must be an object, got null"),
        ([], "the event must be an object, got []"),
        ({}, "the event needs an action, one of rerun, update, status, got {}"),
        ({"action": 7}, 'the event needs an action, one of rerun, update, status, got {"action": 7}'),
        ({"action": "run"}, 'the event needs an action, one of rerun, update, status, got {"action": "run"}'),
        ({"action": "rerun", "exec": "a"}, 'rerun takes execution, mode, dryRun, got ["exec"]'),
        ({"action": "rerun", "mode": "all"}, 'mode must be one of auto, redrive, restart, got "all"'),
        ({"action": "rerun", "mode": []}, "mode must be one of auto, redrive, restart, got []"),
        ({"action": "rerun", "dryRun": "yes"}, 'dryRun must be true or false, got "yes"'),
        ({"action": "rerun"}, "no run has failed: name the execution that is to run again"),
        ({"action": "rerun", "execution": f"{PREFIX}x"}, f'there is no such execution, got "{PREFIX}x"'),
        (
            {"action": "rerun", "execution": "x"},
            f'execution must be the ARN of a run of this state machine, {PREFIX}..., got "x"',
        ),
        (
            {"action": "update", "execution": 7, "maxConcurrency": 1},
            f"execution must be the ARN of a run of this state machine, {PREFIX}..., got 7",
        ),
        (
            {"action": "update"},
            "update needs at least one of maxConcurrency, toleratedFailureCount, toleratedFailurePercentage, got "
            '{"action": "update"}',
        ),
        (
            {"action": "update", "maxConcurrency": -1},
            "maxConcurrency must be a whole number from 0 to 10000, got -1",
        ),
        (
            {"action": "update", "maxConcurrency": 1.5},
            "maxConcurrency must be a whole number from 0 to 10000, got 1.5",
        ),
        (
            {"action": "update", "maxConcurrency": True},
            "maxConcurrency must be a whole number from 0 to 10000, got true",
        ),
        (
            {"action": "update", "maxConcurrency": 10_001},
            "maxConcurrency must be a whole number from 0 to 10000, got 10001",
        ),
        (
            {"action": "update", "toleratedFailureCount": "1"},
            'toleratedFailureCount must be a whole number of at least 0, got "1"',
        ),
        (
            {"action": "update", "toleratedFailurePercentage": 101},
            "toleratedFailurePercentage must be a number from 0 to 100, got 101",
        ),
        (
            {"action": "update", "maxConcurrency": 1, "execution": f"{PREFIX}x"},
            f'there is no such execution, got "{PREFIX}x"',
        ),
        ({"action": "status", "all": True}, 'status takes nothing else, got ["all"]'),
    ],
)
def test_what_makes_no_sense_is_told_and_changes_nothing(event: Any, error: str, world: World) -> None:
    assert handle(event, world) == {"error": error}
    assert changed(world) == []

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from benchmarks import simulated_pipeline, simulation
from benchmarks.simulated_pipeline import Bucket, Measured, Queue, Scenario, SimulatedPipeline
from benchmarks.simulation import UTILIZATION, report, wrong
from benchmarks.simulation_run import costs, scenarios, simulate
from pipeline.objects import ObjectEvent
from semaphore import protocol
from semaphore.protocol import Line, Permit, ReadLine, Repair, Settings, Waiter

CALM = Scenario(name="limit", objects=2000, limit=50, max_waiting=500)
ROUGH = replace(CALM, deaths=0.003, stops=0.02, stops_in_line=0.02, lost_events=0.5, duplicates=0.02)


# --- the pipeline as it is -------------------------------------------------------------------------------------------


def test_nothing_is_lost_though_functions_die_and_events_get_lost() -> None:
    row = simulate(ROUGH)
    assert wrong(row) == []
    happened = row["happened"]
    for what in ("functions died", "starters died", "events lost", "duplicates recognised", "permits recovered"):
        assert happened[what] > 0, what
    assert sum(row["endings"].values()) == 2000
    assert row["endings"]["stopped"] > 0


def test_permits_are_held_while_somebody_waits() -> None:
    row = simulate(CALM)
    assert wrong(row) == []
    assert row["peak_holders"] == row["peak_at_work"] == 50
    assert row["utilization"] >= UTILIZATION
    assert 1 <= row["makespan_ratio"] < 1.1


def test_the_valve_bounds_what_is_open_at_once() -> None:
    row = simulate(replace(CALM, max_waiting=100, starters=2))
    assert row["happened"]["valve closed"] > 0
    assert row["happened"]["valve opened"] > 0
    assert row["lost"] == 0
    assert row["peak_open_executions"] < simulate(replace(CALM, max_waiting=10_000))["peak_open_executions"]


def test_what_step_functions_throttles_is_started_later() -> None:
    row = simulate(replace(CALM, starters=30, starts_per_second=100, launch=(1, 2), job=1))
    assert row["throttled"]["StartExecution"] > 0
    assert wrong(row) == []


def test_the_same_seed_gives_the_same_figures() -> None:
    ours = replace(ROUGH, objects=300)
    machine = ("wall_s", "memory_mib", "memory_early_mib")
    one, other = ({k: v for k, v in simulate(ours).items() if k not in machine} for _ in range(2))
    assert one == other


def test_one_scenario_is_bound_by_the_limit_and_one_by_the_pace() -> None:
    needed = {name: each.hold * each.starts_per_second / each.limit for name, each in scenarios(1).items()}
    assert needed["limit"] > 1 > needed["pace"]
    assert tuple(needed) == simulation.SCENARIOS


# --- a broken one is noticed -----------------------------------------------------------------------------------------


def test_a_release_that_hands_nothing_on_leaves_permits_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_to_itself(permit: Permit, settings: Settings) -> Repair:
        line = yield ReadLine(permit.key)
        yield protocol._commit(permit.key, line, settings, [], released=permit)
        return True

    monkeypatch.setattr(protocol, "release", keep_to_itself)
    assert simulate(CALM)["utilization"] < UTILIZATION


def test_a_protocol_that_does_not_count_lets_in_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def everybody(line: Line, _settings: Settings, *, freed: int = 0) -> list[Waiter]:
        return list(line.waiting[: freed + 1])

    monkeypatch.setattr(protocol, "_next", everybody)
    found = wrong(simulate(CALM))
    assert [each for each in found if "too many" in each], found


def test_names_that_differ_at_each_delivery_process_objects_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries = count(1)

    def name(_event: ObjectEvent) -> str:
        return f"object-{next(deliveries):016x}{'0' * 24}"

    monkeypatch.setattr(simulated_pipeline, "execution_name", name)
    assert any("twice" in each for each in wrong(simulate(ROUGH)))


def test_without_a_sweeper_objects_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(pipeline: SimulatedPipeline) -> simulated_pipeline.Steps:
        yield pipeline.env.timeout(0)

    monkeypatch.setattr(SimulatedPipeline, "_sweep_every_minute", never)
    row = simulate(ROUGH)
    assert row["makespan_s"] is None
    assert any("lost" in each for each in wrong(row))


# --- parts -----------------------------------------------------------------------------------------------------------


def test_the_queue_gives_each_message_once_and_those_that_came_back_first() -> None:
    queue = Queue()
    queue.send(0, 3, 10)
    queue.send(3, 3, 20)
    assert queue.receive(2) == [0, 1]
    queue.send_again([0])
    assert len(queue) == 5
    assert queue.oldest(30) == 20
    assert queue.receive(3) == [0, 2, 3]
    assert queue.oldest(30) == 10
    assert queue.receive(10) == [4, 5]
    assert (len(queue), queue.receive(10), queue.oldest(30)) == (0, [], 0)


def test_a_quota_is_spent_at_once_and_comes_back_with_time() -> None:
    bucket = Bucket(2, 10)
    assert [bucket.takes(0) for _ in range(3)] == [True, True, False]
    assert [bucket.takes(0.1), bucket.takes(0.1)] == [True, False]
    assert [bucket.takes(100) for _ in range(3)] == [True, True, False]


def test_costs_are_counts_times_prices() -> None:
    measured = Measured(transitions=4_000_000, write_units=1_000_000, read_units=8_000_000, lambda_seconds=4_000_000)
    measured.calls.update({"Invoke": 1_000_000, "ReceiveMessage": 500_000, "DeleteMessageBatch": 500_000})
    assert costs(1_000_000, measured) == {"Step Functions": 100, "Lambda": 16.87, "DynamoDB": 1.62, "SQS": 0.8}


# --- what is told ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def row() -> Mapping[str, Any]:
    return simulate(replace(CALM, objects=200))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lost": 2}, "2 objects were lost"),
        ({"processed_twice": 1}, "1 objects were processed twice"),
        ({"peak_holders": 53}, "3 permits too many were held"),
        ({"peak_at_work": 51}, "1 jobs too many were at work"),
        ({"still_held": 4}, "4 permits were never given back"),
    ],
)
def test_what_is_wrong_is_told_and_fails_the_run(
    row: Mapping[str, Any],
    changes: Mapping[str, int],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(simulation, "ROOT", tmp_path)
    monkeypatch.setattr(simulation, "RESULTS", tmp_path / "build" / "simulation.json")
    monkeypatch.setattr(simulation, "_simulate", lambda _objects: [row])
    assert simulation.run(200)
    assert told not in capsys.readouterr().out
    monkeypatch.setattr(simulation, "_simulate", lambda _objects: [row, {**row, **changes}])
    assert not simulation.run(200)
    assert told in capsys.readouterr().out


def test_permits_that_lie_idle_miss_the_goal_and_fail_nothing(row: Mapping[str, Any]) -> None:
    idle = {**row, "utilization": UTILIZATION - 0.001}
    assert wrong(idle) == []
    assert "goal 98% held: missed" in "\n".join(report(idle))
    assert "goal 98% held: met" in "\n".join(report({**row, "utilization": UTILIZATION}))


def test_the_command_simulates_both_scenarios_in_processes_of_their_own() -> None:
    rows = simulation._simulate(20)
    assert [each["scenario"] for each in rows] == list(simulation.SCENARIOS)
    assert [wrong(each) for each in rows] == [[], []]
    assert [each["endings"] for each in rows] == [simulate(each)["endings"] for each in scenarios(20).values()]


def test_a_burst_of_nothing_is_refused() -> None:
    with pytest.raises(SystemExit, match="at least 1"):
        simulation.run(0)

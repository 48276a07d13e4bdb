"""Simulates one scenario and prints its figures in JSON: ``python -m benchmarks.simulation_run limit 1000000``.

A process of its own, so that its memory is what the simulation needs. lambda_src has to be on the path.
"""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.prices import LAMBDA_GB, priced
from benchmarks.simulated_pipeline import Measured, Scenario, SimulatedPipeline, memory

Row = dict[str, Any]


def scenarios(objects: int) -> dict[str, Scenario]:
    """By Little's law, 20 starts per second times the hold is how many are at work, if the limit allows it.

    A hold of 60 seconds would take 1,200 permits: the limit is what binds. A hold of 15 seconds takes 300 of the 500:
    the pace is what binds, and the other permits wait for their start. More starters than need be make Step Functions
    throttle them.
    """
    both = [
        Scenario(name="limit", objects=objects, launch=(30, 60), job=15),
        Scenario(name="pace", objects=objects, launch=(8, 12), job=5, starters=20),
    ]
    return {scenario.name: scenario for scenario in both}


def simulate(scenario: Scenario) -> Row:
    """The figures of one scenario."""
    began = time.perf_counter()
    pipeline = SimulatedPipeline(scenario)
    pipeline.run()
    measured = pipeline.measured
    contended = measured.contended_seconds * scenario.limit
    makespan = pipeline.finished_at
    launched = measured.calls["RunTask"] - measured.throttled["RunTask"]
    ideal = max(measured.work_seconds / scenario.limit, launched / scenario.starts_per_second)
    cost = costs(scenario.objects, measured)
    return {
        "scenario": scenario.name,
        "objects": scenario.objects,
        "limit": scenario.limit,
        "starts_per_second": scenario.starts_per_second,
        "hold_s": scenario.hold,
        "lost": pipeline.lost,
        "processed_twice": pipeline.twice,
        "endings": dict(measured.endings),
        "peak_holders": measured.peaks["holders"],
        "peak_at_work": measured.peaks["at work"],
        "still_held": pipeline.still_held,
        "utilization": round(measured.held_seconds / contended, 4),
        "utilization_at_work": round(measured.working_seconds / contended, 4),
        "makespan_s": None if makespan is None else round(makespan),
        "ideal_s": round(ideal),
        "makespan_ratio": None if makespan is None else round(makespan / ideal, 4),
        "oldest_object_s": round(measured.oldest_object),
        "peak_in_the_buffer": measured.peaks["in the buffer"],
        "peak_waiting": measured.peaks["waiting"],
        "peak_open_executions": measured.peaks["open executions"],
        "happened": dict(sorted(measured.happened.items())),
        "longest_sweep_s": round(measured.longest_sweep, 1),
        "throttled": {"StartExecution": 0, **measured.throttled},
        "calls_per_object": {name: round(n / scenario.objects, 3) for name, n in measured.calls.most_common()},
        "transitions_per_object": round(measured.transitions / scenario.objects, 3),
        "usd": {**cost, "all": round(sum(cost.values()), 2)},
        "memory_early_mib": round(measured.memory_early),
        "memory_mib": round(memory()),
        "wall_s": round(time.perf_counter() - began, 1),
    }


def costs(objects: int, measured: Measured) -> dict[str, float]:
    """What AWS would bill for the pipeline itself, in US$: an estimate.

    Not in it: S3, EventBridge, CloudWatch, and the containers, whose work would cost the same without it.
    """
    calls = measured.calls
    used: Mapping[str, Mapping[str, float]] = {
        "Step Functions": {"transition": measured.transitions},
        "Lambda": {"Lambda request": calls["Invoke"], "Lambda GB-second": measured.lambda_seconds * LAMBDA_GB},
        "DynamoDB": {"write unit": measured.write_units, "read unit": measured.read_units},
        "SQS": {"queue request": objects + calls["ReceiveMessage"] + calls["DeleteMessageBatch"]},
    }
    return {service: round(priced(units), 2) for service, units in used.items()}


if __name__ == "__main__":
    print(json.dumps(simulate(scenarios(int(sys.argv[2]))[sys.argv[1]])))

"""A burst of objects through a pipeline, in simulated time: nothing may get lost, and no permit may lie idle.

The library's own cores run against simulated services with the quotas of AWS; see simulated_pipeline.py for what is
real and what is assumed. Functions die, events get lost and executions are stopped on the way. One scenario is bound
by the limit, the other by the pace; they run side by side in processes of their own.

100,000 objects take each scenario half a minute of a processor, a million four minutes: they are simulated by
`make bench ONLY=simulation OBJECTS=1000000`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "build" / "bench" / "pipeline_simulation.json"
SCENARIOS = ("limit", "pace")
OBJECTS = 100_000
UTILIZATION = 0.98
"""The least part of the permits that should be held while somebody waits."""

Row = Mapping[str, Any]


def run(objects: int = OBJECTS) -> bool:
    """Simulates both scenarios, prints the figures, and writes them to build/bench/pipeline_simulation.json.

    Args:
        objects: How many are written at once.

    Returns whether all was right: nothing lost, nothing done twice, never more at once than the limit.
    """
    if objects < 1:
        raise SystemExit(f"objects must be at least 1, got {objects}")
    print(f"simulation: a burst of {objects:,} objects, {' and '.join(SCENARIOS)} side by side", flush=True)
    rows = _simulate(objects)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        print("\n".join(report(row)))
    print(f"  written to {RESULTS.relative_to(ROOT)}")
    return not any(wrong(row) for row in rows)


def _simulate(objects: int) -> list[Row]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "lambda_src")])}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.simulation_run", name, str(objects)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in SCENARIOS
    ]
    printed = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        sys.exit("the simulation failed")
    return [json.loads(text) for text in printed]


def wrong(row: Row) -> list[str]:
    """What must never be, whatever dies or gets lost."""
    found = {
        "objects were lost": row["lost"],
        "objects were processed twice": row["processed_twice"],
        "permits too many were held": max(0, row["peak_holders"] - row["limit"]),
        "jobs too many were at work": max(0, row["peak_at_work"] - row["limit"]),
        "permits were never given back": row["still_held"],
    }
    return [f"{count:,} {what}" for what, count in found.items() if count]


def report(row: Row) -> Sequence[str]:
    """The figures of one scenario, as lines."""
    happened, usd, throttled = row["happened"], row["usd"], row["throttled"]
    needed = row["starts_per_second"] * row["hold_s"]
    met = "met" if row["utilization"] >= UTILIZATION else "missed"
    makespan = "never" if row["makespan_s"] is None else f"{_hours(row['makespan_s'])}, {row['makespan_ratio']} times"
    lines = {
        "bound by": f"the {row['scenario']}: {row['starts_per_second']:g} per second x {row['hold_s']:g} s = "
        f"{needed:,.0f} at work, limit {row['limit']}",
        "lost": f"{row['lost']} of {row['objects']:,}; {_counted(row['endings'])}",
        "at once": f"{row['peak_holders']} held, {row['peak_at_work']} at work",
        "utilization": f"{row['utilization']:.2%} held, {row['utilization_at_work']:.2%} at work; "
        f"goal {UTILIZATION:.0%} held: {met}",
        "makespan": f"{makespan} the ideal {_hours(row['ideal_s'])}; oldest object {_hours(row['oldest_object_s'])}",
        "most": f"{row['peak_in_the_buffer']:,} in the buffer, {row['peak_waiting']:,} waiting, "
        f"{row['peak_open_executions']:,} open executions",
        "happened": _counted(happened),
        "throttled": _counted(throttled),
        "longest sweep": f"{row['longest_sweep_s']} s",
        "calls per object": ", ".join(f"{name} {n}" for name, n in row["calls_per_object"].items() if n >= 0.01),
        "estimated US$": ", ".join(f"{name} {amount:.2f}" for name, amount in usd.items())
        + f"; {row['transitions_per_object']} transitions per object",
        "this machine": f"{row['memory_mib']} MiB at most, {row['memory_early_mib']} after a tenth; {row['wall_s']} s",
    }
    found = wrong(row)
    return [
        f"  {row['scenario']}: {'WRONG: ' + '; '.join(found) if found else 'all right'}",
        *(f"    {name:<18}{text}" for name, text in lines.items()),
    ]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"

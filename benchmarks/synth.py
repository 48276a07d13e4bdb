"""What the library costs at synthesis: a cold process with it, beside one that writes the same in plain CDK.

Both make the same resources with the same properties; the benchmark refuses to run when they drift apart. They
take turns, so that what else the machine does befalls both alike.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.templates import Template, differences
from supported_node import use_supported_node

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "build" / "bench" / "synth.json"
VARIANTS = ("library", "plain")
GOAL = 1.10

Run = Mapping[str, float]
"""Seconds by part, the whole as "wall", and what all processes together computed as "cpu"."""


def run(*, runs: int) -> None:
    """Prints the ratio of the wall times and where ours goes, and writes both to build/bench/synth.json."""
    use_supported_node()
    # Also fills the caches of Python and jsii, so it comes before the measuring.
    _refuse_drift()

    few = max(1, runs // 5)
    results = {
        "goal": GOAL,
        "validation off": _compare(runs, validation=False),
        "validation on": _compare(few, validation=True),
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    _print(results)


def _compare(runs: int, *, validation: bool) -> dict[str, Any]:
    measured: dict[str, list[Run]] = {variant: [] for variant in VARIANTS}
    for turn in range(runs):
        # Each comes first as often as the other.
        for variant in VARIANTS if turn % 2 == 0 else reversed(VARIANTS):
            measured[variant].append(_cold_process(variant, validation=validation)[0])
    ours, plain = (measured[variant] for variant in VARIANTS)
    pairs = [one["wall"] / other["wall"] for one, other in zip(ours, plain, strict=True)]
    medians = {
        variant: {part: round(median(each[part] for each in found), 4) for part in found[0]}
        for variant, found in measured.items()
    }

    def ratio_of_medians(part: str) -> float:
        return round(medians["library"][part] / medians["plain"][part], 4)

    return {
        "runs": runs,
        "ratio": ratio_of_medians("wall"),
        "ratio of pairs": {"min": round(min(pairs), 4), "max": round(max(pairs), 4)},
        # Less honest about what a user waits for, but deaf to what else the machine does.
        "ratio of cpu": ratio_of_medians("cpu"),
        "median seconds": medians,
    }


def _cold_process(variant: str, *, validation: bool) -> tuple[Run, Template]:
    """Runs `variant` in a process of its own. Returns its times and its template."""
    environment = os.environ | {"CDK_VALIDATION": "true" if validation else "false"}
    # Without byte code, every start would parse aws_cdk again.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.perf_counter(), _cpu_of_ended_processes()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.synth_app", variant, folder],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        wall, cpu = time.perf_counter() - start, _cpu_of_ended_processes() - cpu
        template = json.loads((Path(folder) / "Stack.template.json").read_text())
    parts: dict[str, float] = json.loads(done.stdout)
    # What is left: the interpreter's own start, and the end of both processes.
    return {"wall": wall, "cpu": cpu, **parts, "start and exit": wall - sum(parts.values())}, template


def _cpu_of_ended_processes() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _refuse_drift() -> None:
    ours, plain = (_cold_process(variant, validation=False)[1] for variant in VARIANTS)
    found = list(differences(ours, plain))
    if found:
        sys.exit(
            "\n".join(["The library (first) and the plain CDK (second) no longer make the same resources:", *found])
        )


def _print(results: Mapping[str, Any]) -> None:
    off, on = results["validation off"], results["validation on"]
    print(f"synth: cold processes with the library and in plain CDK, in turn, {off['runs']} each")
    print(f"  ratio of wall times   {_ratio(off)}; CDK's own validation off in both")
    print(f"                        {_ratio(on)}; validation on, {on['runs']} each")
    print(f"  goal                  at most {GOAL:.2f}: {'met' if off['ratio'] <= GOAL else 'missed'}")
    print(f"  {'median seconds':<20}{'library':>9}{'plain':>9}{'more':>9}")
    ours, plain = (off["median seconds"][variant] for variant in VARIANTS)
    validated, validated_plain = (on["median seconds"][variant] for variant in VARIANTS)
    rows = [(part, ours[part], plain[part]) for part in ours]
    rows.append(("validation, if on", validated["synth"] - ours["synth"], validated_plain["synth"] - plain["synth"]))
    for part, one, other in rows:
        print(f"  {part:<20}{one:>9.3f}{other:>9.3f}{one - other:>+9.3f}")
    print(f"  written to {RESULTS.relative_to(ROOT)}")


def _ratio(compared: Mapping[str, Any]) -> str:
    pairs = compared["ratio of pairs"]
    return (
        f"{compared['ratio']:.3f} (single pairs {pairs['min']:.3f} to {pairs['max']:.3f}), "
        f"of cpu {compared['ratio of cpu']:.3f}"
    )

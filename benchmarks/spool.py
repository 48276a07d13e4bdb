"""How fast a spool is emptied, and with how many requests: the reprocessor beside a loop, in one run.

The loop receives one message, starts it, deletes it, and takes the next; see spool_designs.py. Both run as a function
does, in a process of their own with the environment of the reprocessor that is deployed to an embedded AWS. Each
measurement has a new AWS, and a state machine that does nothing. The reprocessor's pace and ramp are out of the way:
by default it starts one per second, on purpose.

A request to the embedded AWS takes only the time that it works. So each request waits `LATENCY_MS` before it, on both
sides: AWS takes 5 to 30 ms for one in the same region. At one size it is measured with less, down to nothing.
There the processors of this machine, which both the function and AWS need, are all that is measured. All times are
those of this machine; only the ratio says something, and it grows with what is waited for rather than worked.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_stepfunctions as sfn

from benchmarks.spool_figures import LOOP, OURS, Row, Run, figures, with_ratios
from benchmarks.tables import markdown
from constructs_lib import ErrorSpool, ErrorSpoolReprocessor
from embedded_aws import EmbeddedAws
from embedded_aws.deployment import deploy

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "build" / "bench" / "spool.json"
STACK = "Bench"
SIZES = (100, 300, 1000)
"""How many messages there are, unless it is said otherwise."""
LATENCY_MS = 20
"""What each request takes longer, at every size."""
LESS_MS = (5, 0)
"""The same, at the size in the middle only."""

CORRECT = ("lost", "doubled")
"""What must be 0 in ours. These are bugs, not performance."""
RATIO = 5.0
"""How many times as many messages per second as the loop ours should start, at every size with `LATENCY_MS`."""


def run(sizes: Sequence[int] = ()) -> bool:
    """Measures, prints, and writes a row for each design, size and latency to build/bench/spool.json.

    Args:
        sizes: How many messages there are. Default: `SIZES`.

    Returns whether ours is correct: nothing lost, nothing started twice. How fast it is does not matter here.
    """
    sizes = sorted(sizes or SIZES)
    if sizes[0] < 1:
        raise SystemExit(f"sizes must be at least 1, got {sizes[0]}")
    middle = sizes[len(sizes) // 2]
    print("spool: messages that are run again", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        _synthesize(Path(folder))
        for size, latency_ms in [*((size, LATENCY_MS) for size in sizes), *((middle, less) for less in LESS_MS)]:
            rows += [_measure(Path(folder), design, size, latency_ms) for design in (OURS, LOOP)]
    rows = with_ratios(rows)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    print("\n".join([*table(rows), *bars(rows)]))
    print(f"  written to {RESULTS.relative_to(ROOT)}")
    return not any(row[name] for row in rows if row["design"] == OURS for name in CORRECT)


# --- measuring ------------------------------------------------------------------------------------------------------


def _synthesize(folder: Path) -> None:
    app = cdk.App(outdir=str(folder), analytics_reporting=False)
    stack = cdk.Stack(app, STACK)
    nothing = sfn.DefinitionBody.from_chainable(sfn.Pass(stack, "Job"))
    machine = sfn.StateMachine(stack, "Machine", definition_body=nothing)
    again = ErrorSpoolReprocessor(
        stack,
        "Again",
        spool=ErrorSpool(stack, "Spool"),
        targets=[machine],
        # More than one function can do.
        starts_per_second=10_000,
        ramp=0,
    )
    cdk.CfnOutput(stack, "FunctionOutput", value=again.function.function_name)
    app.synth()


def _measure(folder: Path, design: str, size: int, latency_ms: int) -> Row:
    print(f"  {design}, {size} messages, {latency_ms} ms", flush=True)
    with EmbeddedAws() as aws:
        function = deploy(aws, folder, STACK)["Function"]
        deployed = aws.client("lambda").get_function_configuration(FunctionName=function)
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.spool_run", design, str(size), str(latency_ms)],
            cwd=ROOT,
            env={
                **aws.environment,
                **deployed["Environment"]["Variables"],
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "lambda_src")]),
            },
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if ended.returncode:
        sys.exit(f"{design} failed with {size} messages")
    counted = Run(**json.loads(ended.stdout))
    return {"design": design, "n": size, "latency_ms": latency_ms, **figures(counted)}


# --- telling --------------------------------------------------------------------------------------------------------

_COLUMNS = {
    "design": "design",
    "n": "N",
    "latency_ms": "latency ms",
    "seconds": "s",
    "messages_per_second": "messages/s",
    "calls_per_message": "calls/message",
    "started": "started",
    "lost": "lost",
    "doubled": "doubled",
    "ratio": "x loop",
}


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table in Markdown."""
    return markdown(_COLUMNS.values(), ([str(row[name]) for name in _COLUMNS] for row in rows))


def bars(rows: Sequence[Row]) -> list[str]:
    """Says of each bar whether ours holds it."""
    ours = [row for row in rows if row["design"] == OURS]
    calls = {(row["n"], row["latency_ms"]): row["calls_per_message"] for row in rows if row["design"] == LOOP}
    checks = []
    for name in CORRECT:
        worst = max(row[name] for row in ours)
        checks.append((f"{name} {worst} at every size, at most 0", worst == 0))
    for row in ours:
        at = f"N={row['n']}, {row['latency_ms']} ms"
        needed, looped = row["calls_per_message"], calls[row["n"], row["latency_ms"]]
        checks.append((f"calls_per_message {at}: {needed}, fewer than {looped}", needed < looped))
        if row["latency_ms"] == LATENCY_MS:
            ratio = row["ratio"]
            checks.append((f"ratio {at}: {ratio}, at least {RATIO:g}", ratio is not None and ratio >= RATIO))
    return ["bars of ours", *(f"  {'holds' if holds else 'FAILS'}  {check}" for check, holds in checks)]

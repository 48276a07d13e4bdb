"""Deploys the example to an embedded AWS, drives real work through it, and reports what was seen.

Exit codes: 0 if everything was seen as expected, 1 if not, 2 for arguments that cannot work, 130 after Ctrl-C.
"""

import argparse
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from demo import containers, page, report
from demo.cdk import REPOSITORY, Cdk
from demo.errors import DemoError
from demo.material import Material, prepare, take_inventory
from demo.objects import select
from demo.play import Outcome, Scenario, play_all
from demo.progress import Progress
from demo.scenarios import PARTS
from demo.stage import Stage
from embedded_aws import EmbeddedAws, EmbeddedAwsError

BUILD = REPOSITORY / "build" / "demo"
_REPORT, _PAGE = "report.json", "report.html"

WAIT_SCALE = 0.1
"""Pauses between launches take this part of their time."""

STOP_TIMEOUT = 2.0
"""Seconds from SIGTERM to SIGKILL for a task that is stopped; on Fargate it is 30."""


MOST_OBJECTS = {"process": 1000, "container": 100}
"""How many files are uploaded at the most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.only is not None and options.only not in PARTS:
        parser.error(f"ONLY must be one of {', '.join(PARTS)}, not {options.only!r}")
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        material = prepare(BUILD, options.input)
    except DemoError as error:
        parser.error(str(error))

    # An old report must not pass for one of a run that breaks off.
    for path in (_REPORT, _PAGE):
        (BUILD / path).unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _demo(material, [options.only] if options.only else list(PARTS), options.tasks)
    except KeyboardInterrupt:
        print("\nInterrupted. Everything that was started has been stopped.", file=sys.stderr)
        return 130
    except (DemoError, EmbeddedAwsError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--input", type=Path, metavar="FOLDER", help="what the tasks read (default: some of Python)")
    parser.add_argument("--only", metavar="PART", help=f"play one part only: {', '.join(PARTS)}")
    parser.add_argument(
        "--tasks",
        choices=("auto", "process", "container"),
        default="auto",
        help="where the tasks run (default: in containers where a Docker engine answers, else as processes)",
    )
    return parser


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _demo(material: Material, parts: Sequence[str], tasks: str) -> int:
    started = time.monotonic()
    progress = Progress()
    progress.say(
        f"input: {material.inventory.files} files, {material.inventory.size:,} bytes in {_short(material.folder)}"
    )
    with contextlib.ExitStack() as stack:
        image = stack.enter_context(containers.image(tasks, material, progress))
        running = "Docker containers" if image else "local processes"
        progress.say(f"tasks run as {running}")
        with progress.step("embedded AWS", "starting the embedded AWS"):
            aws = stack.enter_context(
                EmbeddedAws(tasks="container" if image else "process", wait_scale=WAIT_SCALE, stop_timeout=STOP_TIMEOUT)
            )
        objects = select(material.folder, most=MOST_OBJECTS["container" if image else "process"])
        progress.say(f"objects: {objects}")
        stage = Stage(aws, material, objects, material.timeout_seconds(in_containers=image is not None), BUILD)
        _deploy(stage, image, progress)
        scenarios: list[Scenario] = [scenario for part in parts for scenario in PARTS[part](stage)]
        with progress.step("scenarios", f"playing {len(scenarios)} scenarios; the schedule comes round every minute"):
            outcomes = play_all(scenarios, progress)
    progress.durations["in all"] = time.monotonic() - started
    return _report(outcomes, stage, running, progress)


def _deploy(stage: Stage, image: str | None, progress: Progress) -> None:
    aws = stage.aws
    context = {
        "schedule": "rate(1 minute)",
        "timeout_seconds": stage.timeout_seconds,
        "folder": stage.material.folder,
        **({"image": image} if image else {}),
    }
    app = str(BUILD / "cdk.out")
    options = [word for key, value in context.items() for word in ("--context", f"{key}={value}")]
    with Cdk(aws.environment, BUILD) as cdk:
        with progress.step("cdk bootstrap, synth", "cdk bootstrap, and cdk synth with cdk-nag, at the same time"):
            bootstrap = cdk.start("bootstrap", [f"aws://{aws.account}/{aws.region}"])
            synth = cdk.start("synth", ["--quiet", "--output", app, *options])
            bootstrap.finish()
            synth.finish()
        with progress.step("cdk deploy", "cdk deploy"):
            deploy = cdk.start("deploy", ["--app", app, "--all", "--require-approval", "never"])
            deploy.finish()


def _report(outcomes: Sequence[Outcome], stage: Stage, running: str, progress: Progress) -> int:
    material = stage.material
    times = " · ".join(f"{name} {seconds:.0f} s" for name, seconds in progress.durations.items())
    report.write_json(outcomes, BUILD / _REPORT)
    facts = {
        "Input": f"{material.inventory.files} files, {material.inventory.size:,} bytes in {_short(material.folder)}",
        "Objects": str(stage.objects),
        "Tasks": running,
        "Pauses between launches": f"{WAIT_SCALE:g} of their length; everything else takes its real time",
        "Time taken": times,
        "Played": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    (BUILD / _PAGE).write_text(page.render(outcomes, facts), encoding="utf-8")

    width = max(80, min(120, shutil.get_terminal_size((110, 24)).columns))
    print(f"\n{report.table(outcomes, width)}\n")
    print(f"time taken: {times}")
    print(f"report: {_short(BUILD / _PAGE)}, {_short(BUILD / _REPORT)}")
    fine = sum(outcome.ok for outcome in outcomes)
    if fine < len(outcomes) and take_inventory(material.folder) != material.inventory:
        print("INPUT was changed while the demo ran, so what was expected of it no longer holds.")
    print(f"{fine} of {len(outcomes)} scenarios came out as expected")
    return 0 if fine == len(outcomes) else 1


def _short(path: Path) -> str:
    return str(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path)


if __name__ == "__main__":
    sys.exit(main())

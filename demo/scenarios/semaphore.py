"""The semaphore: runs that never overlap, and a quota that two jobs share."""

import json
import threading
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from demo.concurrency import overtakers, peak
from demo.play import Facts, Record, Scenario
from demo.quota import Quota
from demo.runs import Run, StateMachine
from demo.stage import Stage
from demo.waiting import WITHIN, eventually
from embedded_aws import Launch

_STACK = "SemaphoreExample"

_LIMIT, _BURST = 3, 12
_PAUSED_BURST = 6

# Seconds per file of a folder that has three of them. Those that come first read until the others stand in line.
_QUICK, _SLOW = "0.2", "1.5"


def scenarios(stage: Stage) -> Sequence[Scenario]:
    """The scenarios of this part."""
    jobs = _Jobs(stage)
    quota = threading.Lock()
    return [
        Scenario(
            "semaphore/overlap skip",
            {
                "first run": "SUCCEEDED, 1 launch",
                "run while it is at work": "SUCCEEDED, 0 launches",
                "permits of the latter": json.dumps({"turn": {"granted": False}}),
                "run after it": "SUCCEEDED, 1 launch",
                "skipped, as the metric says": 1,
            },
            jobs.overlap_skip,
        ),
        Scenario(
            "semaphore/limit",
            {
                "executions": f"{_BURST} SUCCEEDED",
                "launches": _BURST,
                "at work at once, at the most": _LIMIT,
                # Those who are let in together are told side by side.
                f"overtaken by {_LIMIT} or more that started later": 0,
                "in use at the end": 0,
            },
            jobs.limit,
            turn=quota,
        ),
        Scenario(
            "semaphore/pause and resume",
            {
                "waiting while paused": _PAUSED_BURST,
                "launches while paused": 0,
                "executions after resume": f"{_PAUSED_BURST} SUCCEEDED",
                "launches": _PAUSED_BURST,
                "at work at once, at the most": _LIMIT,
                f"overtaken by {_LIMIT} or more that started later": 0,
                "in use at the end": 0,
            },
            jobs.pause_and_resume,
            turn=quota,
        ),
        Scenario(
            "semaphore/abort of a run that waits",
            {
                "waiting before": 1,
                "execution": "ABORTED",
                "waiting afterwards": 0,
                "launches": 0,
            },
            jobs.abort_of_a_run_that_waits,
            turn=quota,
        ),
    ]


class _Jobs:
    """The deployed example, and what can be seen of it from outside."""

    def __init__(self, stage: Stage) -> None:
        self._stack = stage.stack(_STACK)
        self._aws = stage.aws
        self._folder = str(stage.material.other)
        self._hourly = StateMachine(stage.aws, self._stack.output("HourlyInventoryArn"))
        self._daily = [
            StateMachine(stage.aws, self._stack.output(f"Daily{name}Arn")) for name in ("Orders", "Invoices")
        ]
        self._quota = Quota(stage.aws, self._stack.output("QuotaFunctionName"))
        task_definition = self._stack.physical_id("AWS::ECS::TaskDefinition")
        self._family = task_definition.rsplit("/", 1)[-1].split(":")[0]
        self._states: Any = stage.aws.client("stepfunctions")
        self._logs: Any = stage.aws.client("logs")

    # --- scenarios --------------------------------------------------------------------------------------

    def overlap_skip(self, record: Record) -> Facts:
        record.definition = self._hourly.definition
        first = self._hourly.start("overlap: first", self._input(_SLOW))
        eventually(lambda: self._launches([first]), lambda launches: len(launches) == 1)
        second = self._hourly.start("overlap: second", self._input(_QUICK))
        runs = [
            self._finish(record, self._hourly, second, "while another is at work"),
            self._finish(record, self._hourly, first, "first of its turn"),
        ]
        third = self._hourly.start("overlap: third", self._input(_QUICK))
        runs.append(self._finish(record, self._hourly, third, "after it"))
        skipped, worked, after = runs
        return {
            "first run": self._came_to(worked),
            "run while it is at work": self._came_to(skipped),
            "permits of the latter": json.dumps(skipped.output.get("permits")),
            "run after it": self._came_to(after),
            "skipped, as the metric says": self._skipped(),
        }

    def limit(self, record: Record) -> Facts:
        record.limit, record.definition = _LIMIT, self._daily[0].definition
        started = self._start_burst("limit", _LIMIT, _SLOW)
        self._quota.settles(inUse=_LIMIT, waiting=0)
        started += self._start_burst("limit", _BURST - _LIMIT, _QUICK)
        runs = self._finish_all(record, started)
        return {**self._came_through("executions", runs), "in use at the end": self._quota.settles(inUse=0)["inUse"]}

    def pause_and_resume(self, record: Record) -> Facts:
        record.limit, record.definition = _LIMIT, self._daily[0].definition
        with self._quota.paused():
            started = self._start_burst("pause", _PAUSED_BURST, _QUICK)
            waiting = self._quota.settles(inUse=0, waiting=_PAUSED_BURST)["waiting"]
            launches = len(self._launches([arn for _, arn in started]))
        runs = self._finish_all(record, started)
        return {
            "waiting while paused": waiting,
            "launches while paused": launches,
            **self._came_through("executions after resume", runs),
            "in use at the end": self._quota.settles(inUse=0)["inUse"],
        }

    def abort_of_a_run_that_waits(self, record: Record) -> Facts:
        machine = self._daily[0]
        record.definition = machine.definition
        with self._quota.paused():
            arn = machine.start("abort", self._input(_QUICK))
            before = self._quota.settles(waiting=1)["waiting"]
            self._states.stop_execution(executionArn=arn, error="Demo", cause="aborted by hand")
            run = self._finish(record, machine, arn, "aborted while it waits")
            after = self._quota.settles(waiting=0)["waiting"]
        return {
            "waiting before": before,
            "execution": run.status,
            "waiting afterwards": after,
            "launches": len(self._launches([arn])),
        }

    # --- doing and looking ------------------------------------------------------------------------------

    def _input(self, seconds_per_file: str) -> Mapping[str, Any]:
        return {"commands": [self._folder, seconds_per_file]}

    def _start_burst(self, label: str, count: int, seconds_per_file: str) -> list[tuple[StateMachine, str]]:
        """Starts executions of both jobs in turn."""
        machines = [machine for machine, _ in zip(cycle(self._daily), range(count), strict=False)]
        return [(machine, machine.start(label, self._input(seconds_per_file))) for machine in machines]

    def _finish(self, record: Record, machine: StateMachine, arn: str, label: str) -> Run:
        run = machine.finish(arn, label, within=WITHIN)
        record.runs.append(run)
        return run

    def _finish_all(self, record: Record, started: Sequence[tuple[StateMachine, str]]) -> list[Run]:
        return [self._finish(record, machine, arn, arn.rsplit(":", 1)[-1]) for machine, arn in started]

    def _launches(self, executions: Sequence[str]) -> list[Launch]:
        return [launch for launch in self._aws.launches(self._family) if launch.execution in executions]

    def _came_to(self, run: Run) -> str:
        launches = len(self._launches([run.arn]))
        return f"{run.status}, {launches} launch{'' if launches == 1 else 'es'}"

    def _came_through(self, what: str, runs: Sequence[Run]) -> Facts:
        """What a burst came to."""
        statuses = [run.status for run in runs]
        return {
            what: ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses))),
            "launches": len(self._launches([run.arn for run in runs])),
            "at work at once, at the most": peak(runs),
            f"overtaken by {_LIMIT} or more that started later": sum(count >= _LIMIT for count in overtakers(runs)),
        }

    def _skipped(self) -> int:
        """What CloudWatch takes from the log of the turns' function for the metric Skipped."""
        group = self._stack.physical_id("AWS::Logs::LogGroup", "HourlyInventoryTurns")
        events = self._logs.filter_log_events(logGroupName=group, filterPattern='"Skipped"')["events"]
        return sum(json.loads(event["message"])["Skipped"] for event in events)

"""The map: a thousand files moved into dated folders, and what fails told with its reason and run again."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from demo.dated_files import DatedFile, archive, dated_files, incoming
from demo.mailbox import Mailbox
from demo.map_runs import MapRuns
from demo.play import Facts, Record, Scenario
from demo.runs import Run, StateMachine
from demo.stage import Stage
from demo.waiting import eventually
from embedded_aws import RequestFault

_STACK = "DatedFoldersExample"

# Of the example.
_BATCH = 50
_ZONE = "Asia/Tokyo"

_FILES = 1000
_LEAP_DAY = date(2028, 2, 29)
_IN_THE_WAY, _REFUSED = 4, 6
_LEFT = _IN_THE_WAY + _REFUSED

_NEW_YEARS_EVE = date(2027, 12, 31)
_ONE_BATCH = 30

_BOOKS = "\N{CARD FILE BOX} Bücher.csv"

_AT_ONCE = 8
_WITHIN = 300.0  # seconds
_CHILD = "Call the function"


def scenarios(stage: Stage) -> Sequence[Scenario]:
    """The scenarios of this part."""
    folders = _Folders(stage)
    scenario = partial(Scenario, turn=threading.Lock())
    return [
        scenario(
            f"map/{_FILES:,} files moved, and what failed run again",
            {
                "dry run": f"SUCCEEDED, {_FILES} counted, 0 moved",
                "first run": "FAILED, ItemsFailed",
                "batches": _FILES // _BATCH,
                "failures in its summary": (
                    f"application AccessDenied: {_REFUSED}, application TargetExists: {_IN_THE_WAY}"
                ),
                "files left": _LEFT,
                "files named as failed": f"the {_LEFT} that are left",
                "run again": "SUCCEEDED",
                "files that it got": f"the {_LEFT} that were left",
                "alerts": 1,
                "errors in the alert": "AccessDenied, TargetExists",
                "files in the folder of their day": _FILES,
                "other files there": 0,
                "files left in the end": 0,
                "files copied more than once": 0,
            },
            folders.thousand_files,
        ),
        scenario(
            "map/a function that dies in the middle",
            {
                "first run": "FAILED, ItemsFailed",
                "failures in its summary, by side": f"Lambda: {_ONE_BATCH}",
                "run again": "SUCCEEDED",
                "files that it got": _ONE_BATCH,
                "files in the folder of their day": _ONE_BATCH,
                "other files there": 0,
                "files left in the end": 0,
                "files copied more than once": 0,
            },
            folders.dies,
        ),
        scenario(
            "map/yesterday, where the user is",
            {
                "schedule": "cron(30 0 * * ? *)",
                "day of the run": f"the one before its start in {_ZONE}",
                "run": "FAILED, ItemsFailed",
                "moved": f"empty.csv, {_BOOKS}",
                "notices": "empty.csv is empty",
                "failures in its summary": "application WrongName: 1",
                "alerts": "application, left notices",
                "that day again, when it was renamed": "SUCCEEDED, 1 moved",
                "files of that day left": 0,
                "files of the days around it left": 6,
            },
            folders.yesterday,
        ),
    ]


class _Folders:
    """The deployed example, and what can be seen of it from outside."""

    def __init__(self, stage: Stage) -> None:
        stack = stage.stack(_STACK)
        self._aws = stage.aws
        self._bucket = stack.output("FilesBucketName")
        self._machine = StateMachine(stage.aws, stack.output("StateMachineArn"))
        self._runs = MapRuns(stage.aws, stack.output("ResultsBucketName"), stack.output("OperatorName"))
        self._mailbox = Mailbox(stage.aws, stack.output("AlertTopicArn"))
        self._mover = stack.physical_id("AWS::Lambda::Function", "Mover")
        self._schedule = stack.physical_id("AWS::Scheduler::Schedule")
        self._s3: Any = stage.aws.client("s3")
        self._scheduler: Any = stage.aws.client("scheduler")

    # --- scenarios --------------------------------------------------------------------------------------

    def thousand_files(self, record: Record) -> Facts:
        files = dated_files(_LEAP_DAY, _FILES)
        self._upload({file.key: file.content for file in files})
        counted = self._run(record, "dry run", _LEAP_DAY, dryRun=True)
        moved = len(self._listed(archive(_LEAP_DAY)))

        in_the_way = [file.target for file in files[:: _FILES // _IN_THE_WAY]]
        self._upload(dict.fromkeys(in_the_way, b"something else\n"))
        with self._deletions(RequestFault.error("AccessDenied", "Access Denied", status=403), times=_REFUSED):
            first = self._run(record, f"{_FILES:,} files", _LEAP_DAY)
        left, named = self._listed(incoming(_LEAP_DAY)), self._runs.named_failures(first.arn)
        # As people do who have read the alert. Meanwhile S3 refuses nothing any more.
        for target in in_the_way:
            self._s3.delete_object(Bucket=self._bucket, Key=target)
        second = self._run_again(record, "what had failed", first)
        alerts = self._mailbox.alerts_about(first.arn)
        record.alerts += alerts
        return {
            "dry run": f"{counted.status}, {counted.output['plan']['count']} counted, {moved} moved",
            "first run": f"{first.status}, {first.error}",
            "batches": len(self._runs.children(first.arn)),
            "failures in its summary": self._failures(first),
            "files left": len(left),
            "files named as failed": _compared(named, left, f"the {len(left)} that are left"),
            "run again": second.status,
            "files that it got": _compared(self._items(second), left, f"the {len(left)} that were left"),
            "alerts": len(alerts),
            "errors in the alert": ", ".join(sorted({error for error in named.values() if error in alerts[0].text})),
            **self._all_in_place(files),
        }

    def dies(self, record: Record) -> Facts:
        files = dated_files(_NEW_YEARS_EVE, _ONE_BATCH)
        self._upload({file.key: file.content for file in files})
        # When a file has just been moved, and nobody been told of that.
        with self._deletions(RequestFault.killed(self._mover), times=1):
            first = self._run(record, "the function dies", _NEW_YEARS_EVE)
        second = self._run_again(record, "its batch again", first)
        return {
            "first run": f"{first.status}, {first.error}",
            "failures in its summary, by side": self._failures(first, "side"),
            "run again": second.status,
            "files that it got": len(self._items(second)),
            **self._all_in_place(files),
        }

    def yesterday(self, record: Record) -> Facts:
        # Whichever of them it is when the run begins: it may be midnight.
        today = datetime.now(ZoneInfo(_ZONE)).date()
        days = [today - timedelta(days=number) for number in range(3)]
        contents = {f"_{_BOOKS}": b"Faust\n", "_empty.csv": b"", "-report.csv": b"1,2,3\n"}
        self._upload({f"{incoming(day)}{name}": content for day in days for name, content in contents.items()})
        first = self._run(record, "yesterday")
        summary = self._runs.summary(first.arn)
        day = date.fromisoformat(summary["run"]["date"])
        before = datetime.fromtimestamp(first.started, ZoneInfo(_ZONE)).date() - timedelta(days=1)
        moved = self._listed(archive(day))
        alerts = eventually(lambda: self._mailbox.alerts_about(first.arn), lambda alerts: len(alerts) > 1)
        record.alerts += alerts
        self._rename(f"{incoming(day)}-report.csv", f"{incoming(day)}_report.csv")
        second = self._run(record, "that day again", day)
        schedule = self._scheduler.get_schedule(Name=self._schedule.rpartition("|")[2])
        return {
            "schedule": schedule["ScheduleExpression"],
            "day of the run": f"the one before its start in {_ZONE}" if day == before else f"{day}, not {before}",
            "run": f"{first.status}, {first.error}",
            "moved": ", ".join(key.removeprefix(archive(day)) for key in moved),
            "notices": ", ".join(each["notice"] for each in summary["notices"]["samples"]),
            "failures in its summary": self._failures(first),
            "alerts": ", ".join(sorted(alert.kind for alert in alerts)),
            "that day again, when it was renamed": f"{second.status}, {second.output['counts']['succeeded']} moved",
            "files of that day left": len(self._listed(incoming(day))),
            "files of the days around it left": sum(len(self._listed(incoming(one))) for one in days if one != day),
        }

    # --- doing ------------------------------------------------------------------------------------------

    def _upload(self, contents: Mapping[str, bytes]) -> None:
        def put(key: str) -> None:
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=contents[key])

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(put, contents))

    def _rename(self, key: str, to: str) -> None:
        self._s3.copy_object(Bucket=self._bucket, Key=to, CopySource={"Bucket": self._bucket, "Key": key})
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    @contextmanager
    def _deletions(self, fault: RequestFault, *, times: int) -> Iterator[None]:
        """Makes the next requests fail that delete an object."""
        self._aws.fail_requests("s3:DELETE", fault, times=times)
        try:
            yield
        finally:
            self._aws.heal_requests()

    def _run(self, record: Record, label: str, day: date | None = None, **options: bool) -> Run:
        """Runs the map for a day, or as the schedule does."""
        arn = self._machine.start(label, {**({"runDate": day.isoformat()} if day else {}), **options})
        return self._finish(record, label, arn)

    def _run_again(self, record: Record, label: str, failed: Run) -> Run:
        return self._finish(record, label, self._runs.run_again(failed.arn))

    def _finish(self, record: Record, label: str, arn: str) -> Run:
        run = self._machine.finish(arn, label, within=_WITHIN)
        # What the children did is not in the history of the run.
        run = replace(run, visits={**run.visits, _CHILD: len(self._runs.children(arn))})
        record.runs.append(run)
        record.definition = self._machine.definition
        return run

    # --- looking ----------------------------------------------------------------------------------------

    def _listed(self, prefix: str) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return [str(each["Key"]) for page in pages for each in page.get("Contents", [])]

    def _items(self, run: Run) -> list[str]:
        return [key for child in self._runs.children(run.arn) for key in child]

    def _failures(self, run: Run, *names: str) -> str:
        """How many files failed, by these facts of them. Without any, by side and error."""
        counts = Counter[str]()
        for group in self._runs.summary(run.arn)["groups"]:
            counts[" ".join(group[name] for name in names or ("side", "error"))] += group["count"]
        return ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items()))

    def _all_in_place(self, files: Sequence[DatedFile]) -> Facts:
        """Looks at every file in the folder of a day: whether it is there with its content, and was copied once."""
        day = files[0].day
        wanted = {file.target: file.content for file in files}
        there = self._listed(archive(day))

        def is_right(key: str) -> bool:
            content = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            return bool(content == wanted.get(key))

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            right = sum(pool.map(is_right, there))
        pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=archive(day))
        copies = Counter((each["Key"], each["ETag"]) for page in pages for each in page.get("Versions", []))
        return {
            "files in the folder of their day": right,
            "other files there": len(there) - right,
            "files left in the end": len(self._listed(incoming(day))),
            "files copied more than once": sum(count > 1 for count in copies.values()),
        }


def _compared(seen: Iterable[str], wanted: Iterable[str], good: str) -> str:
    """The words for it where both have the same, or the difference."""
    seen, wanted = sorted(seen), sorted(wanted)
    return good if seen == wanted else f"missing {set(wanted) - set(seen)}, more {set(seen) - set(wanted)}"

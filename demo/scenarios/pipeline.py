"""The pipeline: a job for each object, five at a time, whatever comes twice, is broken, or was there before."""

import gzip
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from demo.concurrency import peak
from demo.mailbox import Mailbox
from demo.objects import Original
from demo.play import Facts, Record, Scenario
from demo.quota import Quota
from demo.runs import Run, StateMachine
from demo.stage import Stage
from demo.waiting import eventually

_STACK = "PipelineExample"

_LIMIT = 5
_ENOUGH_TO_REACH_IT = 20

_UPLOADS_AT_ONCE = 8

_NOTHING_MORE_WITHIN = 120.0
"""Seconds without the end of any execution, after which nobody waits for the others."""

_POLL = 0.5  # seconds

# What its name promises, it is not.
_BROKEN = [Original(f"failures/{name}.json", b'{"cut": [1, 2') for name in ("cut off", "schräg", "zerschnitten+%20#")]
_SOUND = [Original(f"failures/{name}", b'{"whole": [1, 2]}') for name in ("sound.json", "sound too.json", "text.txt")]
_TWICE = Original("deliveries/once.txt", b"to be compressed once\n")
_BEFORE = [Original(f"backfill/{number}.txt", f"number {number}\n".encode()) for number in range(5)]


def scenarios(stage: Stage) -> Sequence[Scenario]:
    """The scenarios of this part."""
    pipeline = _Pipeline(stage)
    scenario = partial(Scenario, turn=threading.Lock())
    originals = stage.objects.originals("files/")
    sound = Counter(original.is_sound for original in originals)
    ended = {"SUCCEEDED": sound[True], "FAILED": sound[False]}
    return [
        scenario(
            f"pipeline/every object once, never more than {_LIMIT}",
            {
                "objects": sound.total(),
                "executions": _counted(ended),
                "launches": sound.total(),
                f"more than {_LIMIT} at work": "never",
                **({"at work at once, at the most": _LIMIT} if sound.total() >= _ENOUGH_TO_REACH_IT else {}),
                "outputs that unpack to their input": sound[True],
                "other outputs": 0,
                **_NOTHING_LEFT,
            },
            pipeline.every_object_once,
        ),
        scenario(
            "pipeline/failures are told",
            {
                "executions": _counted({"SUCCEEDED": len(_SOUND), "FAILED": len(_BROKEN)}),
                "launches": len(_SOUND) + len(_BROKEN),
                "failed": ", ".join(sorted(original.key for original in _BROKEN)),
                "alerts that name their object": len(_BROKEN),
                "kinds of alerts": "application",
                "exit codes in the alerts": ", ".join("4" for _ in _BROKEN),
                "outputs that unpack to their input": len(_SOUND),
                "other outputs": 0,
                **_NOTHING_LEFT,
            },
            pipeline.failures_are_told,
        ),
        scenario(
            "pipeline/a second delivery changes nothing",
            {
                "deliveries of one event": 3,
                "executions": "1 SUCCEEDED",
                "launches": 1,
                "duplicates, as the metric says": 1,
                "outputs that unpack to their input": 1,
                "other outputs": 0,
                **_NOTHING_LEFT,
            },
            pipeline.second_delivery,
        ),
        scenario(
            "pipeline/backfill of what was there before",
            {
                "executions": _counted({"SUCCEEDED": len(_BEFORE)}),
                "because of": "Backfill",
                "duplicates after a second backfill": len(_BEFORE),
                "executions after it": len(_BEFORE),
                "outputs that unpack to their input": len(_BEFORE),
                "other outputs": 0,
                **_NOTHING_LEFT,
            },
            pipeline.backfill,
        ),
    ]


_NOTHING_LEFT: Facts = {"in use at the end": 0, "in the buffer": 0, "in the dead letters": 0}


class _Pipeline:
    """The deployed example, and what can be seen of it from outside."""

    def __init__(self, stage: Stage) -> None:
        stack = stage.stack(_STACK)
        self._aws = stage.aws
        self._objects = stage.objects
        self._incoming, self._compressed = stack.output("IncomingBucketName"), stack.output("CompressedBucketName")
        self._machine = StateMachine(stage.aws, stack.output("StateMachineArn"))
        self._backfill = StateMachine(stage.aws, stack.output("BackfillArn"))
        self._quota = Quota(stage.aws, stack.output("QuotaFunctionName"))
        self._mailbox = Mailbox(stage.aws, stack.output("AlertTopicArn"))
        self._buffer = stack.output("BufferUrl")
        self._dead_letters = stack.physical_id("AWS::SQS::Queue", "CompressionBufferDeadLetters")
        self._rule = stack.physical_id("AWS::Events::Rule", "CompressionBufferRule")
        self._starter_log = stack.physical_id("AWS::Logs::LogGroup", "CompressionStarter")
        task_definition = stack.physical_id("AWS::ECS::TaskDefinition")
        self._family = task_definition.rsplit("/", 1)[-1].split(":")[0]
        self._s3: Any = stage.aws.client("s3")
        self._sqs: Any = stage.aws.client("sqs")
        self._events: Any = stage.aws.client("events")
        self._logs: Any = stage.aws.client("logs")

    # --- scenarios --------------------------------------------------------------------------------------

    def every_object_once(self, record: Record) -> Facts:
        record.limit = _LIMIT
        before = self._machine.executions()
        expected = self._upload(self._objects.originals("files/"))
        runs = self._finish(record, before, len(expected))
        most = peak(runs)
        return {
            "objects": len(expected),
            **self._came_through(runs),
            f"more than {_LIMIT} at work": "never" if most <= _LIMIT else f"{most} of them",
            **({"at work at once, at the most": most} if len(expected) >= _ENOUGH_TO_REACH_IT else {}),
            **self._outputs("files/", expected),
            **self._left(),
        }

    def failures_are_told(self, record: Record) -> Facts:
        before = self._machine.executions()
        expected = self._upload([*_BROKEN, *_SOUND])
        runs = self._finish(record, before, len(expected))
        failed = {run.arn: _key(run) for run in runs if run.status == "FAILED"}
        alerts = [self._mailbox.alert_about(arn) for arn in failed]
        record.alerts += alerts
        return {
            **self._came_through(runs),
            "failed": ", ".join(sorted(failed.values())),
            "alerts that name their object": sum(
                key in alert.text for key, alert in zip(failed.values(), alerts, strict=True)
            ),
            "kinds of alerts": ", ".join(sorted({alert.kind for alert in alerts})),
            "exit codes in the alerts": ", ".join(alert.exit_code for alert in alerts),
            **self._outputs("failures/", expected),
            **self._left(),
        }

    def second_delivery(self, record: Record) -> Facts:
        before, duplicates = self._machine.executions(), self._duplicates()
        events = self._listen()
        with self._quota.paused():
            expected = self._upload([_TWICE])
            event = eventually(lambda: self._event(events, _TWICE.key), bool)
            self._quota.settles(waiting=1)
            # While the execution of the first one waits for its permit, and when it is over.
            self._sqs.send_message(QueueUrl=self._buffer, MessageBody=event)
            eventually(self._waiting, lambda waiting: waiting == 0)
        runs = self._finish(record, before, 1)
        self._sqs.send_message(QueueUrl=self._buffer, MessageBody=event)
        seen = eventually(self._duplicates, lambda count: count > duplicates) - duplicates
        runs += self._finish(record, [*before, *(run.arn for run in runs)], 0)
        return {
            "deliveries of one event": 3,
            **self._came_through(runs),
            "duplicates, as the metric says": seen,
            **self._outputs("deliveries/", expected),
            **self._left(),
        }

    def backfill(self, record: Record) -> Facts:
        before, duplicates = self._machine.executions(), self._duplicates()
        # As if there were no pipeline yet.
        self._events.disable_rule(Name=self._rule)
        try:
            expected = self._upload(_BEFORE)
        finally:
            self._events.enable_rule(Name=self._rule)
        self._fill("backfill")
        runs = self._finish(record, before, len(expected))
        self._fill("backfill again")
        seen = eventually(self._duplicates, lambda count: count >= duplicates + len(expected)) - duplicates
        return {
            "executions": self._came_through(runs)["executions"],
            "because of": ", ".join(sorted({json.loads(run.input)["object"]["reason"] for run in runs})),
            "duplicates after a second backfill": seen,
            "executions after it": len(set(self._machine.executions()) - set(before)),
            **self._outputs("backfill/", expected),
            **self._left(),
        }

    # --- doing ------------------------------------------------------------------------------------------

    def _upload(self, originals: Iterable[Original]) -> Mapping[str, str]:
        """Uploads as fast as it can, and returns the digests of the outputs that must come, by key."""

        def put(original: Original) -> tuple[str, str]:
            self._s3.put_object(Bucket=self._incoming, Key=original.key, Body=original.content)
            return original.key, original.sha256 if original.is_sound else ""

        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            return dict(pool.map(put, originals))

    def _finish(self, record: Record, before: Sequence[str], count: int) -> list[Run]:
        """All executions beside those before, as soon as so many have ended and nothing is left that starts more."""
        record.definition = self._machine.definition
        known, deadline, ended = set(before), 0.0, -1
        while True:
            statuses = self._machine.statuses()
            new = [arn for arn in statuses if arn not in known]
            over = sum(statuses[arn] != "RUNNING" for arn in new)
            if over == len(new) and over >= count and self._waiting() == 0:
                break
            if over > ended:
                deadline, ended = time.monotonic() + _NOTHING_MORE_WITHIN, over
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{over} of {count} objects were done, and then no other for {_NOTHING_MORE_WITHIN:.0f} s"
                )
            time.sleep(_POLL)
        runs = [self._machine.finish(arn, "") for arn in reversed(new)]
        runs = [replace(run, label=_key(run)) for run in runs]
        record.runs += runs
        return runs

    def _fill(self, label: str) -> None:
        until = datetime.now(UTC) + timedelta(minutes=1)
        arn = self._backfill.start(label, {"prefix": "backfill/", "before": until.isoformat()})
        run = self._backfill.finish(arn, label)
        if run.status != "SUCCEEDED":
            raise RuntimeError(f"{label}: {run.status}, {run.error}")

    def _listen(self) -> str:
        """A queue that gets the events of the bucket as the buffer does."""
        name = "demo-beside-the-buffer"
        queue = str(self._sqs.create_queue(QueueName=name)["QueueUrl"])
        arn = self._sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        pattern = self._events.describe_rule(Name=self._rule)["EventPattern"]
        self._events.put_rule(Name=name, EventPattern=pattern)
        self._events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
        return queue

    # --- looking ----------------------------------------------------------------------------------------

    def _event(self, queue: str, key: str) -> str:
        """The event about an object, as EventBridge sent it; empty if it has not come."""
        messages = self._sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        bodies = [str(message["Body"]) for message in messages]
        return next((body for body in bodies if json.loads(body)["detail"]["object"]["key"] == key), "")

    def _came_through(self, runs: Sequence[Run]) -> Facts:
        executions = {run.arn for run in runs}
        return {
            "executions": _counted(Counter(run.status for run in runs)),
            "launches": sum(launch.execution in executions for launch in self._aws.launches(self._family)),
        }

    def _outputs(self, prefix: str, expected: Mapping[str, str]) -> Facts:
        """Looks at every output under a prefix: whether it unpacks to what was uploaded, and says so itself."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._compressed, Prefix=prefix)
        keys = [str(each["Key"]) for page in pages for each in page.get("Contents", [])]

        def is_right(key: str) -> bool:
            output = self._s3.get_object(Bucket=self._compressed, Key=key)
            digest = hashlib.sha256(gzip.decompress(output["Body"].read())).hexdigest()
            return bool(digest == output["Metadata"].get("sha256") == expected.get(key))

        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            right = sum(pool.map(is_right, keys))
        return {"outputs that unpack to their input": right, "other outputs": len(keys) - right}

    def _left(self) -> Facts:
        """What is still there when all is over."""
        return {
            "in use at the end": self._quota.settles(inUse=0)["inUse"],
            "in the buffer": self._waiting(),
            "in the dead letters": self._count(self._dead_letters),
        }

    def _waiting(self) -> int:
        """How many messages the buffer has, those included that are just being read."""
        return self._count(self._buffer)

    def _count(self, queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def _duplicates(self) -> int:
        """What CloudWatch takes from the log of the starter for the metric Duplicates."""
        pages = self._logs.get_paginator("filter_log_events").paginate(
            logGroupName=self._starter_log, filterPattern='"Duplicates"'
        )
        return sum(json.loads(event["message"])["Duplicates"] for page in pages for event in page["events"])


def _key(run: Run) -> str:
    return str(json.loads(run.input)["object"]["key"])


def _counted(ends: Mapping[str, int]) -> str:
    """How often executions ended in which way."""
    return ", ".join(f"{count} {status}" for status, count in sorted(ends.items(), reverse=True) if count)

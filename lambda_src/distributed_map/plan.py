"""Finds out which items a run has, before anything is paid for them."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn

from botocore.exceptions import ClientError

from distributed_map.accounting import Accounting, ResultsNotReady, Settings
from distributed_map.counting import (
    PARQUET_END,
    csv_rows,
    decompressed,
    json_items,
    json_lines,
    parquet_footer_length,
    parquet_rows,
)
from distributed_map.dates import day_of, resolved
from distributed_map.layout import FOLDER, Layout
from distributed_map.request import BadInput, Request, array_at, request_of
from distributed_map.results import UnreadableError
from distributed_map.runs import GOING_ON, Runs, iso, run_of
from distributed_map.store import Store, Upload, code_of
from pipeline.filters import matches
from pipeline.patience import Patience, TimeIsOverError

RESERVE = 30.0
"""Seconds at the end in which nothing more is listed: for keeping what was."""

LONGEST_WRITING = timedelta(minutes=15)
"""How long after the end of a run its results may still be written."""

MOST_RERUNS = 100
"""How many reruns of reruns are followed to where the items came from."""


class NoItems(Exception):  # noqa: N818 - names of errors are what people see of their execution
    """There is nothing to do, and that counts as a failure."""


class ItemsNotFound(Exception):  # noqa: N818
    """The file of the items does not exist."""


class ItemsNotReadable(Exception):  # noqa: N818
    """The items cannot be read."""


class RunNotEnded(Exception):  # noqa: N818
    """The run whose failed items are wanted is still under way."""


class RerunByRedrive(Exception):  # noqa: N818
    """The failed items cannot be handed to a new run."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The execution that asks.

    Args:
        arn: Its ARN.
        name: Its name.
        started_at: With its offset. A redrive does not change it.
    """

    arn: str
    name: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done next.

    Args:
        next: `map`, `counted` (a dry run), `empty`, or `more` (the listing goes on in another call).
        count: Items, None where only the map will know.
        items: Where the reader finds them.
        run: What every item is told of the run.
        progress: What the next call has to know to go on.
    """

    next: str
    count: int | None
    items: Mapping[str, str]
    run: Mapping[str, Any]
    progress: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "next": self.next,
            "count": self.count,
            "items": dict(self.items),
            "run": dict(self.run),
            "progress": self.progress,
        }


def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Makes the plan of an execution. The same event twice makes the same plan.

    The event has `input` (of the execution, see `request`), `execution` (`id`, `name`, `startTime`), `source` (`kind`,
    `bucket`, `prefix` or `key`, `timeZone`, `daysBack`, `results`, `filters`, `path`, `csv`, `emptyFails`) and `state`
    (the state's own input: the answer of the call before, under `plan`).

    Raises:
        BadInput: the execution's input makes no sense.
        NoItems: there are none, and `emptyFails` is set.
        ItemsNotFound: there is no such file, or no such run.
        ItemsNotReadable: the file cannot be read.
        RunNotEnded: the run whose failed items are wanted is still under way.
        RerunByRedrive: its failed items cannot be handed to a new run.
        TimeIsOverError: nothing was got done before the time was over.
    """
    execution = Execution(
        arn=event["execution"]["id"],
        name=event["execution"]["name"],
        started_at=datetime.fromisoformat(event["execution"]["startTime"]),
    )

    def remaining() -> float:
        return float(context.get_remaining_time_in_millis()) / 1000

    planner = Planner(execution, event["source"], event["input"], remaining)
    try:
        plan = planner.plan(_progress(event.get("state"), execution))
    except ClientError as problem:
        # A call that finished the listing was not answered in time: what it wrote is written again.
        if code_of(problem) != "NoSuchUpload":
            raise
        plan = planner.plan(None)
    return planner.settled(plan).to_dict()


def _progress(state: object, execution: Execution) -> Mapping[str, Any] | None:
    """Where the call before has stopped. What else is called progress in somebody's input is none."""
    last = state.get("plan") if isinstance(state, dict) else None
    for holder in (last, state):
        progress = holder.get("progress") if isinstance(holder, dict) else None
        if isinstance(progress, dict) and progress.get("execution") == execution.name:
            return progress
    return None


class Planner:
    """Makes the plan of an execution.

    Args:
        execution: The execution.
        source: Where items come from, as the deployment says.
        given: The execution's input.
        remaining: The seconds that are left to the function.
    """

    def __init__(
        self, execution: Execution, source: Mapping[str, Any], given: Any, remaining: Callable[[], float]
    ) -> None:
        self._execution, self._source, self._given = execution, source, given
        self._patience = patience = Patience(remaining)
        self.listing_patience = Patience(lambda: remaining() - RESERVE)
        self._kind: str = source["kind"]
        self.results = Store(source["results"]["bucket"], patience)
        self.layout = Layout(execution.name)
        self._runs = Runs(patience)

    def plan(self, progress: Mapping[str, Any] | None) -> Plan:
        dry_run = request_of(self._given).dry_run
        return self._plan(self._execution, self._given, progress, dry_run=dry_run, reruns=0)

    def settled(self, plan: Plan) -> Plan:
        """The plan, kept for the account and for reruns. Without items there is no map."""
        if plan.next == "map" and plan.count == 0:
            if self._source.get("emptyFails") and request_of(self._given).rerun is None:
                raise NoItems(f"There are no items: {self._where(plan)}")
            plan = replace(plan, next="empty")
        if plan.next != "more":
            self.results.write_json(self.layout.plan, {"schemaVersion": 1, "source": self._kind, **plan.to_dict()})
        return plan

    def _where(self, plan: Plan) -> str:
        run = plan.run
        if self._kind == "input":
            return f"the array at {self._source['path']} of the input is empty"
        if self._kind == "objects":
            return f"nothing under s3://{run['bucket']}/{run['prefix']} is wanted"
        return f"s3://{run['bucket']}/{run['key']} is empty"

    def _plan(
        self, origin: Execution, given: Any, progress: Mapping[str, Any] | None, *, dry_run: bool, reruns: int
    ) -> Plan:
        """The plan for an input, as the execution that got it first would have made it."""
        request = request_of(given)
        if request.rerun is not None:
            return self._rerun(request.rerun, progress, dry_run=dry_run, reruns=reruns)
        run = self._run(self._day(request, origin))
        match self._kind:
            case "objects":
                return self._list(run, progress, dry_run=dry_run)
            case "input":
                return self._take(run, given, dry_run=dry_run)
            case _:
                return self._look(run, dry_run=dry_run)

    def _day(self, request: Request, origin: Execution) -> date:
        if request.day is not None:
            return request.day
        source = self._source
        return day_of(origin.started_at, time_zone=source["timeZone"], days_back=source["daysBack"])

    def _run(self, day: date) -> dict[str, Any]:
        source = self._source
        template = {"objects": "prefix", "input": None}.get(self._kind, "key")
        facts = {
            "execution": self._execution.name,
            "date": day.isoformat(),
            "bucket": None,
            "prefix": None,
            "key": None,
        }
        if template is not None:
            facts |= {"bucket": source["bucket"], template: resolved(source[template], day)}
        return facts

    # --- a listing --------------------------------------------------------------------------------------------------

    def _list(self, run: Mapping[str, Any], progress: Mapping[str, Any] | None, *, dry_run: bool) -> Plan:
        listing = Listing.resume(self, progress, dry_run=dry_run)
        done = listing.read(run["bucket"], run["prefix"])
        items = {"bucket": self.results.bucket, "key": self.layout.items}
        if not done:
            return Plan(next="more", count=listing.count, items=items, run=run, progress=listing.keep())
        if dry_run:
            return Plan(next="counted", count=listing.count, items=items, run=run)
        listing.upload.close()
        return Plan(next="map", count=listing.count, items=items, run=run)

    def wanted(self, bucket: str) -> Callable[[Mapping[str, Any]], bool]:
        """Whether an object is an item."""
        given = self._source.get("filters") or {}
        filters = {
            "prefixes": [],
            "suffixes": [],
            "wildcards": given.get("patterns") or [],
            "minSize": given.get("minSize"),
            "maxSize": given.get("maxSize"),
        }
        with_markers = bool(given.get("folderMarkers"))
        ours = FOLDER if bucket == self.results.bucket else None

        def is_wanted(found: Mapping[str, Any]) -> bool:
            key = found["Key"]
            if key.endswith("/") and not with_markers:
                return False
            if ours is not None and key.startswith(ours):
                return False
            return matches(filters, key, found["Size"])

        return is_wanted

    @property
    def most(self) -> int | None:
        """How many items at most."""
        most: int | None = (self._source.get("filters") or {}).get("maxItems")
        return most

    def new_upload(self, **progress: Any) -> Upload:
        return Upload(self.results, self.layout.items, self._patience, **progress)

    # --- an array of the input --------------------------------------------------------------------------------------

    def _take(self, run: Mapping[str, Any], given: Any, *, dry_run: bool) -> Plan:
        array = array_at(self._source["path"], given)[: self.most]
        items = {"bucket": self.results.bucket, "key": self.layout.items}
        if dry_run:
            return Plan(next="counted", count=len(array), items=items, run=run)
        lines = "".join(f"{json.dumps(each)}\n" for each in array)
        self.results.write(self.layout.items, lines.encode())
        return Plan(next="map", count=len(array), items=items, run=run)

    # --- a file -----------------------------------------------------------------------------------------------------

    def _look(self, run: Mapping[str, Any], *, dry_run: bool) -> Plan:
        bucket, key = run["bucket"], run["key"]
        store = Store(bucket, self._patience)
        found = self._head(store, key)
        count: int | None = None
        if found["ContentLength"] == 0:
            if self._kind not in ("csv", "jsonl"):
                raise ItemsNotReadable(f"{store.url(key)} is empty, and a file of kind {self._kind} never is.")
            count = 0
        elif dry_run:
            count = self._counted(store, key)
        return Plan(next="counted" if dry_run else "map", count=count, items={"bucket": bucket, "key": key}, run=run)

    def _head(self, store: Store, key: str) -> Mapping[str, Any]:
        try:
            found = store.head(key)
        except ClientError as problem:
            raise ItemsNotReadable(
                f"{store.url(key)} cannot be read ({code_of(problem)}): either it does not exist, or the function may "
                f"not read it. Look for it, and at the permissions of bucket {store.bucket} and of its key."
            ) from problem
        if found is None:
            raise ItemsNotFound(
                f"{store.url(key)} does not exist. Write it and start the run again, or start it with another runDate."
            )
        return found

    def _counted(self, store: Store, key: str) -> int:
        try:
            count = self._count(store, key)
        except (UnreadableError, ValueError, LookupError, TypeError) as problem:
            raise ItemsNotReadable(f"{store.url(key)} cannot be counted: {problem}") from problem
        return count if self.most is None else min(count, self.most)

    def _count(self, store: Store, key: str) -> int:
        match self._kind:
            case "parquet":
                length = parquet_footer_length(store.end(key, PARQUET_END))
                return parquet_rows(store.end(key, length + PARQUET_END)[:length])
            case "manifest":
                manifest = store.read_json(key)
                if manifest["fileFormat"] != "CSV":
                    raise UnreadableError(f"the inventory must be of format CSV, got {manifest['fileFormat']}")
                data = Store(manifest["destinationBucket"].rpartition(":::")[2], self._patience)
                return sum(self._rows(csv_rows, data, each["key"]) for each in manifest["files"])
            case "csv":
                rows = self._rows(csv_rows, store, key)
                has_header = not (self._source.get("csv") or {}).get("headers")
                return max(0, rows - has_header)
            case "json":
                return self._rows(json_items, store, key)
            case _:
                return self._rows(json_lines, store, key)

    def _rows(self, count: Callable[[Iterable[bytes]], int], store: Store, key: str) -> int:
        return count(decompressed(store.chunks(key), key))

    # --- a run again ------------------------------------------------------------------------------------------------

    def _rerun(self, arn: str, progress: Mapping[str, Any] | None, *, dry_run: bool, reruns: int) -> Plan:
        """The plan for what another run has not done."""
        machine = self._execution.arn.rpartition(":")[0]
        if arn.rpartition(":")[0] != machine or arn == self._execution.arn or reruns >= MOST_RERUNS:
            raise BadInput(f"rerun must name another execution of this state machine, {machine}:..., got {arn}")
        found = self._runs.describe(arn)
        if found is None:
            raise ItemsNotFound(f"There is no execution {arn}. Step Functions forgets them after 90 days.")
        if found["status"] in GOING_ON:
            raise RunNotEnded(f"{arn} is still {found['status']}. Wait for its end, or stop it first.")
        layout = Layout(found["name"])
        planned = self.results.read_json(layout.plan)
        if planned is None or planned["next"] not in ("map", "empty"):
            # It never had its items: what it was to do is done now, for its own day.
            origin = Execution(arn=arn, name=found["name"], started_at=found["startDate"])
            return self._plan(origin, self._input(found), progress, dry_run=dry_run, reruns=reruns + 1)
        plan = self._not_done(found, planned)
        return replace(plan, next="counted") if dry_run else plan

    def _input(self, found: Mapping[str, Any]) -> Any:
        try:
            return json.loads(found.get("input") or "{}")
        except ValueError as problem:
            raise BadInput(f"the input of {found['executionArn']} is not readable: {problem}") from problem

    def _not_done(self, found: Mapping[str, Any], planned: Mapping[str, Any]) -> Plan:
        run = {**planned["run"], "execution": self._execution.name}
        everything = Plan(next="map", count=planned["count"], items=planned["items"], run=run)
        if planned["next"] == "empty":
            return everything
        arn, summary = found["executionArn"], self._summary(found, planned)
        if not summary["begun"]:
            return everything
        if summary["incomplete"]:
            _refuse_rerun(arn, summary["incomplete"])
        count = summary["counts"]["failed"] + summary["counts"]["notRun"]
        if count and self._kind == "parquet":
            _refuse_rerun(arn, "a file of Parquet cannot be made of its failed items")
        items = summary["failedItems"] or everything.items
        if count:
            self._head(Store(items["bucket"], self._patience), items["key"])
        return replace(everything, count=count, items=items)

    def _summary(self, found: Mapping[str, Any], planned: Mapping[str, Any]) -> Mapping[str, Any]:
        """The run's account, made now where nobody has made it since it ended."""
        summary: Mapping[str, Any] | None = self.results.read_json(Layout(found["name"]).summary)
        if summary is not None and summary["redriveCount"] == found.get("redriveCount", 0):
            return summary
        accounting = Accounting(Settings.read(self._source), self._patience)
        # What was not written for so long never will be.
        wait = datetime.now(UTC) - found["stopDate"] < LONGEST_WRITING
        try:
            _, summary = accounting.make(run_of(found), plan=planned, wait=wait)
        except ResultsNotReady as problem:
            raise RunNotEnded(f"{found['executionArn']} has ended, but {problem}. Try again in a minute.") from problem
        return summary


def _refuse_rerun(arn: str, why: str) -> NoReturn:
    raise RerunByRedrive(
        f"{arn} cannot be run again as a new run: {why}. Redrive it (within 14 days): aws stepfunctions "
        f"redrive-execution --execution-arn {arn}. Or start a new run of all items."
    )


class Listing:
    """The objects of a prefix, one line each, in a file that grows over several calls.

    Args:
        planner: Whose listing it is.
        number: Which call it is, from 0.
        position: All keys up to this one are dealt with.
        count: How many of them are items.
        upload: Where the lines go.
        dry_run: Whether they go nowhere.
    """

    def __init__(
        self, planner: Planner, *, number: int, position: str, count: int, upload: Upload, dry_run: bool
    ) -> None:
        self._planner, self._number, self._position, self._dry_run = planner, number, position, dry_run
        self.count, self.upload = count, upload

    @classmethod
    def resume(cls, planner: Planner, progress: Mapping[str, Any] | None, *, dry_run: bool) -> "Listing":
        if progress is None:
            return cls(planner, number=0, position="", count=0, upload=planner.new_upload(), dry_run=dry_run)
        number = progress["number"]
        tail = b"" if dry_run else planner.results.read(planner.layout.tail(number))
        if tail is None:
            raise ItemsNotReadable(f"{planner.results.url(planner.layout.tail(number))} is gone. Start the run again.")
        upload = planner.new_upload(upload_id=progress["uploadId"], parts=progress["parts"], tail=tail)
        return cls(
            planner,
            number=number,
            position=progress["startAfter"],
            count=progress["count"],
            upload=upload,
            dry_run=dry_run,
        )

    def read(self, bucket: str, prefix: str) -> bool:
        """Whether all was listed. If not, the time was over."""
        wanted, most = self._planner.wanted(bucket), self._planner.most
        store, begun_at = Store(bucket, self._planner.listing_patience), self._position
        while True:
            try:
                page = store.page(prefix, after=self._position)
            except TimeIsOverError:
                # To go on from the same place would be to go on for ever.
                if self._position == begun_at:
                    raise
                return False
            except ClientError as problem:
                if code_of(problem) in ("AccessDenied", "NoSuchBucket", "PermanentRedirect"):
                    raise ItemsNotReadable(f"s3://{bucket}/{prefix} cannot be listed: {problem}") from problem
                raise
            for found in page.get("Contents", []):
                if most is not None and self.count >= most:
                    return True
                if wanted(found):
                    self._add(found)
                self._position = found["Key"]
            if not page["IsTruncated"]:
                return True

    def keep(self) -> dict[str, Any]:
        """Keeps what was read, and says how to go on. What the call before has kept stays, in case it comes again."""
        number = self._number + 1
        if not self._dry_run:
            self._planner.results.write(self._planner.layout.tail(number), self.upload.tail)
        return {
            "execution": self._planner.layout.name,
            "number": number,
            "uploadId": self.upload.upload_id,
            "parts": self.upload.parts,
            "startAfter": self._position,
            "count": self.count,
        }

    def _add(self, found: Mapping[str, Any]) -> None:
        self.count += 1
        if self._dry_run:
            return
        item = {
            "Key": found["Key"],
            "Size": found["Size"],
            "ETag": found["ETag"].strip('"'),
            "LastModified": iso(found["LastModified"]),
        }
        self.upload.write(f"{json.dumps(item)}\n".encode())

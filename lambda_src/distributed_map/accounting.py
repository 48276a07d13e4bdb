"""Makes the account of a run: reads what became of its children, and writes what people and the next run need."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from distributed_map.formats import CsvFile, InventoryRows, ItemFile, JsonArrayFile, JsonLinesFile
from distributed_map.layout import Layout
from distributed_map.outcome import Outcome, Run, link_to
from distributed_map.reckoning import Counts, Reckoner, Tolerance
from distributed_map.results import Child, UnreadableError, array_elements
from distributed_map.runs import GOING_ON, Runs, iso
from distributed_map.store import Store, Upload, code_of
from pipeline.patience import Patience

SCHEMA_VERSION = 1
MOST_GROUPS_KEPT = 100


NO_TOLERANCE = Tolerance()


class ResultsNotReady(Exception):  # noqa: N818 - the name is what the state machine waits for
    """Children are still being stopped, or results are still being written."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the deployment says.

    Args:
        bucket: The results bucket.
        kind: What the items come from: `objects`, `csv`, `json`, `jsonl`, `parquet`, `manifest` or `input`.
        headers: The columns of a CSV file that has no header.
        delimiter: The word of the reader's configuration, None for a comma.
        tolerance: How many items may fail.
        empty_fails: Whether a run without any item has failed.
        name: How people call the processor.
    """

    bucket: str
    kind: str
    headers: Sequence[str] | None = None
    delimiter: str | None = None
    tolerance: Tolerance = NO_TOLERANCE
    empty_fails: bool = False
    name: str = ""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Settings":
        """Reads the settings of a state, or those of its source: `source` is a kind, or an object with one."""
        source = given.get("source") or given
        source = source if isinstance(source, dict) else {"kind": source}
        csv = given.get("csv") or source.get("csv") or {}
        tolerance = given.get("tolerance") or {}
        return cls(
            bucket=given["results"]["bucket"],
            kind=source["kind"],
            headers=csv.get("headers"),
            delimiter=csv.get("delimiter"),
            tolerance=Tolerance(kind=tolerance.get("kind", "none"), value=tolerance.get("value") or 0),
            empty_fails=bool(given.get("emptyFails")),
            name=given.get("name", ""),
        )


class Accounting:
    """Makes accounts. The same run twice makes the same files again.

    Args:
        settings: What the deployment says.
        patience: How long a request is repeated, and the time there is.
    """

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._settings = settings
        self._patience = patience
        self._store = Store(settings.bucket, patience)
        self._runs = Runs(patience)

    def make(
        self,
        run: Run,
        *,
        plan: Mapping[str, Any] | None,
        map_run: str | None = None,
        manifest: str | None = None,
        wait: bool = False,
    ) -> tuple[Outcome, dict[str, Any]]:
        """The account of a run, which has ended, or whose map has.

        Args:
            run: The execution.
            plan: What it had planned, None where it did not come so far.
            map_run: The ARN of its map run, None to look for it.
            manifest: The key of the results' manifest, None to look for it.
            wait: Whether to raise where more will be known in a moment.

        Returns:
            The outcome, and the summary as it was written.

        Raises:
            ResultsNotReady: see `wait`.
            TimeIsOverError: there is more to read than the function has time for.
        """
        found = self._map_run(run, map_run)
        if found is not None and manifest is None:
            manifest = self._manifest(run, found)
        if wait and found is not None:
            _check_ready(run, found, manifest)
        layout = Layout(run.name)
        with self._files(layout) as files:
            told = self._read(manifest, files) if manifest is not None else []
            counts, incomplete = _balance(files.reckoner, found, told, run, plan, has_results=manifest is not None)
            outcome = Outcome(
                run=run,
                counts=counts,
                groups=files.reckoner.groups.most_first()[:MOST_GROUPS_KEPT],
                notices=files.reckoner.notices,
                tolerance=_tolerance(self._settings.tolerance, found, counts),
                empty_fails=self._settings.empty_fails,
                incomplete="; ".join(incomplete),
                files={name: self._store.url(key) for name, key in _keys(layout).items()},
            )
            files.close(run)
        summary = self._summary(outcome, found, files.reckoner, plan, layout)
        self._store.write_json(layout.summary, summary)
        return outcome, summary

    # --- what there is ----------------------------------------------------------------------------------------------

    def _map_run(self, run: Run, arn: str | None) -> Mapping[str, Any] | None:
        if arn is None:
            arn = next(iter(self._runs.map_runs(run.execution)), None)
        return None if arn is None else self._runs.map_run(arn)

    def _manifest(self, run: Run, map_run: Mapping[str, Any]) -> str | None:
        """The manifest that was written at the end of the last attempt; those of earlier ones say what was then."""
        folder = Layout(run.name).results + map_run["mapRunArn"].rpartition(":")[2] + "/"
        newest = self._store.newest(folder, "/manifest.json")
        began = map_run.get("redriveDate") or map_run["startDate"]
        # S3 knows whole seconds only.
        if newest is None or newest["LastModified"] < began.replace(microsecond=0):
            return None
        key: str = newest["Key"]
        return key

    def _read(self, manifest: str, files: "_Files") -> list[str]:
        """Adds up all children. Returns what could not be read."""
        try:
            results = self._store.read_json(manifest)
            bucket, groups = results["DestinationBucket"], results["ResultFiles"]
            listed = [(group, each["Key"]) for group, entries in groups.items() for each in entries]
        except (LookupError, TypeError, ValueError, AttributeError) as problem:
            return [f"{self._store.url(manifest)} is not readable ({type(problem).__name__}: {problem})"]
        unreadable = []
        store = Store(bucket, self._patience)
        for group, key in listed:
            try:
                for record in array_elements(store.chunks(key)):
                    files.reckoner.add(_child(record, group))
            except UnreadableError as problem:
                unreadable.append(f"{store.url(key)} is not readable: {problem}")
            except ClientError as problem:
                unreadable.append(f"{store.url(key)} cannot be read: {code_of(problem)}")
        return unreadable

    # --- what is written --------------------------------------------------------------------------------------------

    @contextmanager
    def _files(self, layout: Layout) -> Iterator["_Files"]:
        files = _Files(self._store, layout, self._settings, self._patience)
        try:
            yield files
        except BaseException:
            files.abandon()
            raise

    def _summary(
        self,
        outcome: Outcome,
        map_run: Mapping[str, Any] | None,
        reckoner: Reckoner,
        plan: Mapping[str, Any] | None,
        layout: Layout,
    ) -> dict[str, Any]:
        run, counts, settings = outcome.run, outcome.counts, self._settings
        begun = has_begun(map_run)
        missing = counts.failed + counts.not_run
        key = layout.failed(settings.kind)
        told = outcome.to_dict()
        return {
            "schemaVersion": SCHEMA_VERSION,
            "processor": settings.name,
            "execution": run.execution,
            "executionName": run.name,
            "status": run.status,
            "redriveCount": run.redrives,
            "startedAt": run.started_at,
            "endedAt": run.ended_at or (iso(map_run["stopDate"]) if map_run and map_run.get("stopDate") else None),
            "source": settings.kind,
            "run": plan["run"] if plan else None,
            "tolerance": {"kind": outcome.tolerance.kind, "value": outcome.tolerance.value},
            **told,
            "groups": [
                group.to_dict(link=link_to(group.execution)) | {"execution": group.execution}
                for group in outcome.groups
            ],
            "begun": begun,
            "incomplete": outcome.incomplete,
            "answeredFailures": reckoner.answered_failures,
            "failedItems": {"bucket": settings.bucket, "key": key} if begun and missing else None,
            "mapRun": _told_of(map_run),
            "files": dict(outcome.files),
        }


class _Files:
    """The files that grow while children are read."""

    def __init__(self, store: Store, layout: Layout, settings: Settings, patience: Patience) -> None:
        self._store, self._layout, self._settings = store, layout, settings
        rows = settings.kind == "manifest"
        again = layout.failed_rows if rows else layout.failed(settings.kind)
        self._again, self._failures, self._notices = (
            Upload(store, key, patience) for key in (again, layout.failures, layout.notices)
        )
        self._items = self._item_file()
        self.reckoner = Reckoner(again=self._items.add, failure=self._failures.write, notice=self._notices.write)

    def close(self, run: Run) -> None:
        """Also what is empty is written: after a redrive nothing of the attempt before may be left."""
        self._items.end()
        self._again.close()
        if isinstance(self._items, InventoryRows):
            manifest = self._items.manifest(
                partition=run.partition,
                bucket=self._store.bucket,
                key=self._layout.failed_rows,
                created_at=datetime.fromisoformat(run.started_at).timestamp(),
            )
            self._store.write_json(self._layout.failed("manifest"), manifest)
        self._failures.close()
        if self.reckoner.counts.notices:
            self._notices.close()

    def abandon(self) -> None:
        for upload in (self._again, self._failures, self._notices):
            upload.abandon()

    def _item_file(self) -> ItemFile:
        settings, write = self._settings, self._again.write
        match settings.kind:
            case "csv":
                return CsvFile(write, headers=settings.headers, delimiter=settings.delimiter)
            case "json":
                return JsonArrayFile(write)
            case "manifest":
                return InventoryRows(write)
            case _:
                return JsonLinesFile(write)


# --- adding up ------------------------------------------------------------------------------------------------------


def has_begun(map_run: Mapping[str, Any] | None) -> bool:
    """Whether any child was started."""
    if map_run is None:
        return False
    counts = map_run["itemCounts"]
    return any(counts[name] for name in ("running", "succeeded", "failed", "timedOut", "aborted"))


def _tolerance(deployed: Tolerance, map_run: Mapping[str, Any] | None, counts: Counts) -> Tolerance:
    """How many items may fail in this run: an operator may have raised that while it was under way."""
    if map_run is None or deployed.kind == "collect":
        # To collect, the map itself tolerates everything.
        return deployed
    live = (
        Tolerance(kind="percentage", value=map_run.get("toleratedFailurePercentage") or 0),
        Tolerance(kind="count", value=map_run.get("toleratedFailureCount") or 0),
    )
    return next((each for each in (deployed, *live) if each.allows(counts)), deployed)


def _check_ready(run: Run, map_run: Mapping[str, Any], manifest: str | None) -> None:
    if map_run["status"] in GOING_ON:
        raise ResultsNotReady(f"the map run of {run.name} has not ended yet")
    if manifest is None and has_begun(map_run) and run.error != "States.ResultWriterFailed":
        raise ResultsNotReady(f"the results of {run.name} are not written yet")


def _child(record: object, group: str) -> Child:
    """A record; where it does not say so itself, its file says how the child ended."""
    return Child.read({"Status": group, **record} if isinstance(record, dict) else {"Status": group})


def _balance(
    reckoner: Reckoner,
    map_run: Mapping[str, Any] | None,
    unreadable: Sequence[str],
    run: Run,
    plan: Mapping[str, Any] | None,
    *,
    has_results: bool,
) -> tuple[Counts, list[str]]:
    """All items, and why it is not known of each of them whether it has to run again."""
    counts, incomplete = reckoner.counts, list(unreadable)
    described: Mapping[str, int] = map_run["itemCounts"] if map_run is not None else {}
    planned = (plan or {}).get("count") or 0
    if has_begun(map_run) and not has_results:
        counts.succeeded = described["succeeded"]
        counts.failed = described["failed"] + described["timedOut"]
        counts.stopped = described["aborted"]
        counts.not_run = described["aborted"] + described["pending"] + described["running"]
        incomplete.append("the results were not written, so it is not known which items these are")
    told = counts.succeeded + counts.failed + counts.not_run
    read = max(told, described.get("total", 0))
    if has_begun(map_run):
        counts.unknown = read - told
        if counts.unknown:
            incomplete.append(f"no result tells of {counts.unknown:,} items")
        if planned > read or run.error == "States.ItemReaderFailed":
            incomplete.append("not all items were read")
    counts.total = max(read, planned)
    counts.not_run = counts.total - counts.succeeded - counts.failed - counts.unknown
    return counts, incomplete


def _keys(layout: Layout) -> dict[str, str]:
    return {"summary": layout.summary, "failures": layout.failures, "notices": layout.notices}


def _told_of(map_run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if map_run is None:
        return None
    return {
        "arn": map_run["mapRunArn"],
        "status": map_run["status"],
        "redriveCount": map_run.get("redriveCount", 0),
        "itemCounts": dict(map_run["itemCounts"]),
        "executionCounts": dict(map_run["executionCounts"]),
    }

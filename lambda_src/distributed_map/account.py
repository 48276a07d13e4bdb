"""Tells what became of the items of a run."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from distributed_map.accounting import Accounting, Settings
from distributed_map.layout import Layout
from distributed_map.metrics import report
from distributed_map.outcome import Run
from distributed_map.runs import Runs, iso
from distributed_map.store import Store
from pipeline.patience import Patience

MOST_WAITS = 20
"""How often a run is looked at again whose results are still being written."""


def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Makes the account of a run whose map has ended well, or which has ended where nothing catches it.

    The event has `settings` (see `accounting.Settings`), and either `execution`, `plan` and `map` (the result of the
    map) or `statusChange` (the detail of a "Step Functions Execution Status Change") and, where it is called again
    while results are being written, `retryCount`.

    Returns:
        See `outcome.Outcome.to_dict`; below 32 KB.

    Raises:
        ResultsNotReady: the run's results are still being written; only with `retryCount`, and 20 times at most.
        TimeIsOverError: there is more to read than the function has time for.
    """
    settings = Settings.read(event["settings"])
    patience = Patience.of(context)
    accounting = Accounting(settings, patience)
    if "statusChange" in event:
        run = _ended(event["statusChange"], patience)
        plan = Store(settings.bucket, patience).read_json(Layout(run.name).plan)
        retries = event.get("retryCount")
        outcome, _ = accounting.make(run, plan=plan, wait=retries is not None and retries < MOST_WAITS)
    else:
        result = event["map"]
        outcome, _ = accounting.make(
            _going_on(event["execution"], patience),
            plan=event["plan"],
            map_run=result["MapRunArn"],
            manifest=result["ResultWriterDetails"]["Key"],
        )
    report(settings.name, outcome.counts)
    return outcome.to_dict()


def _going_on(execution: Mapping[str, Any], patience: Patience) -> Run:
    """The run that asks."""
    found = Runs(patience).describe(execution["id"]) or {}
    return Run(
        execution=execution["id"],
        name=execution["name"],
        status="RUNNING",
        error="",
        cause="",
        redrives=found.get("redriveCount", 0),
        started_at=execution["startTime"],
        ended_at=None,
    )


def _ended(change: Mapping[str, Any], patience: Patience) -> Run:
    """The run that an event tells of."""
    found = Runs(patience).describe(change["executionArn"]) or {}
    return Run(
        execution=change["executionArn"],
        name=change["name"],
        status=change["status"],
        error=change.get("error") or found.get("error") or "",
        cause=change.get("cause") or found.get("cause") or "",
        redrives=found.get("redriveCount", 0),
        started_at=_time(change["startDate"]),
        ended_at=_time(change["stopDate"]) if change.get("stopDate") else None,
    )


def _time(milliseconds: float) -> str:
    return iso(datetime.fromtimestamp(milliseconds / 1000, UTC))

"""Finds the failures that no event told of: events of Step Functions are sent on a best-effort basis.

https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
"""

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pipeline.patience import Patience, TimeIsOverError
from spool.envelope import STATUSES
from spool.ledger import BeingSpooledError
from spool.metrics import log, report
from spool.requests import refuse
from spool.spooling import Spooling, stepfunctions

LONGEST_RUN = 14 * 24 * 3600
"""Seconds. Executions are listed by their start, so one that ran longer before it failed is left to its event."""


class ReconcileError(Exception):
    """Some failures could not be spooled; the others were."""


def handle(event: object, context: Any) -> dict[str, Any]:
    """Sends what is missing to the spool, and tells how much that was.

    The event: `stateMachine`, an ARN; `statuses`, the endings that count. Environment: see `Spooling`; `BACK_SECONDS`,
    how long ago a failure may be; `SPOOL`, the name in metrics.

    Raises:
        InvalidRequestError: the event makes no sense.
        ReconcileError: some could not be spooled. The next run finds them again.
    """
    request = event if isinstance(event, dict) else refuse("the event must be an object", event)
    machine, statuses = request.get("stateMachine"), request.get("statuses")
    if not isinstance(machine, str) or not machine:
        refuse("stateMachine must be an ARN", machine)
    if not isinstance(statuses, list) or not statuses or not all(status in STATUSES for status in statuses):
        refuse(f"statuses must be some of {', '.join(STATUSES)}", statuses)
    patience = Patience.of(context)
    spooling = Spooling(patience)
    since = time.time() - float(os.environ["BACK_SECONDS"])
    found = [failure for status in statuses for failure in _failures(machine, status, since, patience)]
    missing = spooling.ledger.unknown(found)
    recovered, problems = _spool(spooling, missing)
    report({"Recovered": recovered} if recovered else {})
    if problems:
        raise ReconcileError(f"failed {len(problems)} times, {recovered} were spooled: {'; '.join(problems[:10])}")
    return {"found": len(found), "recovered": recovered}


def _failures(machine: str, status: str, since: float, patience: Patience) -> Iterator[tuple[str, int]]:
    """Executions that ended since then, each with how often it was redriven."""
    page: dict[str, str] = {}
    while True:
        request = {"stateMachineArn": machine, "statusFilter": status, "maxResults": 1000, **page}
        reply = patience.ask(partial(stepfunctions().list_executions, **request))
        executions = reply["executions"]
        for each in executions:
            if each["stopDate"].timestamp() >= since:
                yield each["executionArn"], each.get("redriveCount", 0)
        if "nextToken" not in reply:
            return
        if executions and executions[-1]["startDate"].timestamp() < since - LONGEST_RUN:
            return
        page = {"nextToken": reply["nextToken"]}


def _spool(spooling: Spooling, missing: Sequence[tuple[str, int]]) -> tuple[int, list[str]]:
    """How many were spooled, and what went wrong with others."""
    recovered, problems = 0, []
    for execution, _ in missing:
        try:
            recovered += spooling.spool(execution)
        except BeingSpooledError:
            # An event did arrive, or a call that began has died. The next run sees which.
            log("INFO", "the failure is being spooled", execution=execution)
        except TimeIsOverError as problem:
            problems.append(str(problem))
            break
        except Exception as problem:
            problems.append(f"{execution}: {type(problem).__name__}: {problem}")
    return recovered, problems

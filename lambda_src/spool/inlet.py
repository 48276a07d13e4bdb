"""Keeps a failure that an event tells of."""

from typing import Any

from pipeline.patience import Patience
from spool.ledger import BeingSpooledError
from spool.metrics import report
from spool.requests import refuse
from spool.spooling import Spooling

MOST_LOOKS = 5


def handle(event: object, context: Any) -> dict[str, Any]:
    """Sends the failed execution of a "Step Functions Execution Status Change" to the spool, and tells whether.

    Which endings count is for the rule that calls. Environment: see `Spooling`, and `SPOOL`, the name in metrics. What
    AWS refuses is raised, so that the event comes again; so is `BeingSpooledError`, as the other call may have died.
    """
    detail = event.get("detail") if isinstance(event, dict) else None
    execution = detail.get("executionArn") if isinstance(detail, dict) else None
    if not isinstance(execution, str) or not execution:
        refuse("the event must be a status change of an execution", event)
    spooled = _spool(execution, Patience.of(context))
    report({"Spooled": 1} if spooled else {})
    return {"execution": execution, "spooled": spooled}


def _spool(execution: str, patience: Patience) -> bool:
    """Two rules may tell of the same failure at the same moment, so it looks again for a few seconds."""
    spooling = Spooling(patience)
    for attempt in range(MOST_LOOKS):
        try:
            return spooling.spool(execution)
        except BeingSpooledError:
            patience.pause(attempt)
    return spooling.spool(execution)

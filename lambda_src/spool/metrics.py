"""What the functions of a spool measure."""

import json
import os
import time
from collections.abc import Mapping

from embedded_metrics import Unit, metrics_record

NAMESPACE = "ConstructsLib/ErrorSpool"


def report(counts: Mapping[str, int], *, seconds: Mapping[str, float] | None = None) -> None:
    """Prints what was measured for CloudWatch, if anything was. Environment: `SPOOL`, the dimension."""
    metrics: dict[str, tuple[Unit, float | list[float]]] = {name: ("Count", count) for name, count in counts.items()}
    for name, value in (seconds or {}).items():
        metrics[name] = ("Seconds", round(value, 3))
    record = metrics_record(
        namespace=NAMESPACE, dimensions={"Spool": os.environ["SPOOL"]}, metrics=metrics, now=time.time()
    )
    if record is not None:
        print(json.dumps(record))


def log(level: str, message: str, **fields: object) -> None:
    """Prints a line for people."""
    print(json.dumps({"level": level, "message": message, **fields}, default=str))

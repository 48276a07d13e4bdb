"""What is measured, as CloudWatch takes it from the log."""

from dataclasses import dataclass, field
from typing import Any

from embedded_metrics import Unit, metrics_record
from semaphore.table import Usage

NAMESPACE = "ConstructsLib/Semaphore"


@dataclass(kw_only=True)
class Measurements:
    """What one call did and found.

    Args:
        granted: How long each who was let in has waited, in seconds.
        skipped: How many were told that no permit is free, and go on without one.
        recovered: How many permits were given back, or told of again, by the sweeper.
        usage: What is going on under each key, if it was looked at.
    """

    granted: list[float] = field(default_factory=list)
    skipped: int = 0
    recovered: int = 0
    usage: dict[str, Usage] | None = None

    def record(self, semaphore: str, now: float) -> dict[str, Any] | None:
        """A line of the log for CloudWatch, None where nothing was measured.

        Args:
            semaphore: What its metrics are told apart by.
            now: Seconds since the epoch.
        """
        metrics: dict[str, tuple[Unit, float | list[float]]] = {}
        if self.granted:
            metrics["Granted"] = ("Count", len(self.granted))
            metrics["WaitSeconds"] = ("Seconds", [round(seconds, 3) for seconds in self.granted])
        if self.skipped:
            metrics["Skipped"] = ("Count", self.skipped)
        if self.usage is not None:
            oldest = min((found.oldest for found in self.usage.values() if found.oldest is not None), default=None)
            metrics["InUse"] = ("Count", sum(found.in_use for found in self.usage.values()))
            metrics["Waiting"] = ("Count", sum(found.waiting for found in self.usage.values()))
            metrics["OldestWaiterSeconds"] = ("Seconds", 0 if oldest is None else max(0.0, now - oldest))
            metrics["Recovered"] = ("Count", self.recovered)
        return metrics_record(namespace=NAMESPACE, dimensions={"Semaphore": semaphore}, metrics=metrics, now=now)

"""What is measured, as CloudWatch takes it from the log."""

from dataclasses import dataclass, field
from typing import Any

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
        """A line of the log in the embedded metric format, from which CloudWatch takes metrics without a call:
        https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

        Args:
            semaphore: What its metrics are told apart by.
            now: Seconds since the epoch.
        """
        metrics: dict[str, tuple[str, float | list[float]]] = {}
        if self.granted:
            metrics["Granted"] = ("Count", len(self.granted))
            metrics["WaitSeconds"] = ("Seconds", [round(seconds, 3) for seconds in self.granted[:100]])
        if self.skipped:
            metrics["Skipped"] = ("Count", self.skipped)
        if self.usage is not None:
            oldest = min((found.oldest for found in self.usage.values() if found.oldest is not None), default=None)
            metrics["InUse"] = ("Count", sum(found.in_use for found in self.usage.values()))
            metrics["Waiting"] = ("Count", sum(found.waiting for found in self.usage.values()))
            metrics["OldestWaiterSeconds"] = ("Seconds", 0 if oldest is None else max(0.0, now - oldest))
            metrics["Recovered"] = ("Count", self.recovered)
        if not metrics:
            return None
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [["Semaphore"]],
            "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in metrics.items()],
        }
        return {
            "_aws": {"Timestamp": round(now * 1000), "CloudWatchMetrics": [directive]},
            "Semaphore": semaphore,
            **{name: value for name, (_, value) in metrics.items()},
        }

"""Metrics as CloudWatch takes them from the log, without a call."""

from collections.abc import Mapping
from typing import Any, Literal

Unit = Literal["Count", "Seconds"]

MOST_VALUES = 100
"""How many values of one metric a line may hold."""


def metrics_record(
    *,
    namespace: str,
    dimensions: Mapping[str, str],
    metrics: Mapping[str, tuple[Unit, float | list[float]]],
    now: float,
) -> dict[str, Any] | None:
    """A line of the log in the embedded metric format, None where nothing was measured:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

    Args:
        namespace: The metrics' namespace.
        dimensions: What the metrics are told apart by, all of them together.
        metrics: Unit and value by name. Of a list the first 100 values are kept.
        now: Seconds since the epoch.
    """
    if not metrics:
        return None
    directive = {
        "Namespace": namespace,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in metrics.items()],
    }
    return {
        "_aws": {"Timestamp": round(now * 1000), "CloudWatchMetrics": [directive]},
        **dimensions,
        **{name: value[:MOST_VALUES] if isinstance(value, list) else value for name, (_, value) in metrics.items()},
    }

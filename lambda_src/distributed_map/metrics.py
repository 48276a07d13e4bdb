"""What an account measures."""

import json
import time

from distributed_map.reckoning import Counts
from embedded_metrics import metrics_record

NAMESPACE = "ConstructsLib/DistributedMap"


def report(processor: str, counts: Counts) -> None:
    """Prints the items of a run for CloudWatch, by the name of the processor."""
    record = metrics_record(
        namespace=NAMESPACE,
        dimensions={"Processor": processor},
        metrics={
            "Items": ("Count", counts.total),
            "Succeeded": ("Count", counts.succeeded),
            "Failed": ("Count", counts.failed + counts.unknown),
            "NotRun": ("Count", counts.not_run),
            "Notices": ("Count", counts.notices),
        },
        now=time.time(),
    )
    print(json.dumps(record))

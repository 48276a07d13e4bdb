"""What the functions of a pipeline measure."""

import json
import os
import time
from collections.abc import Mapping

from embedded_metrics import metrics_record

NAMESPACE = "ConstructsLib/Pipeline"


def report(counts: Mapping[str, int]) -> None:
    """Prints the counts by name for CloudWatch, if there are any. Environment: `PIPELINE`, their dimension."""
    record = metrics_record(
        namespace=NAMESPACE,
        dimensions={"Pipeline": os.environ["PIPELINE"]},
        metrics={name: ("Count", count) for name, count in counts.items()},
        now=time.time(),
    )
    if record is not None:
        print(json.dumps(record))

"""What the demo plays, by part. A part is a function that makes its scenarios for what is deployed."""

from collections.abc import Callable, Mapping, Sequence

from demo.play import Scenario
from demo.scenarios import distributed_map, pipeline, scheduled, semaphore, spool
from demo.stage import Stage

PARTS: Mapping[str, Callable[[Stage], Sequence[Scenario]]] = {
    "scheduled": scheduled.scenarios,
    "semaphore": semaphore.scenarios,
    "pipeline": pipeline.scenarios,
    "spool": spool.scenarios,
    "map": distributed_map.scenarios,
}

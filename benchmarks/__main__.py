"""``python -m benchmarks [name]``: runs all benchmarks, or one."""

import argparse
import sys

from supported_node import use_supported_node

use_supported_node()

from benchmarks import map as items_map
from benchmarks import pipeline, semaphore, simulation, spool, synth


def sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "name",
        nargs="?",
        choices=["map", "pipeline", "semaphore", "simulation", "spool", "synth"],
        help="only this one",
    )
    parser.add_argument(
        "--runs", type=int, default=20, help="how often each side of synth is measured (default: %(default)s)"
    )
    parser.add_argument(
        "--sizes",
        type=sizes,
        default=[],
        help="how many executions of semaphore start at once, such as 20,100,300 in every design; by default the "
        "slowest does without 300. Or how many objects of pipeline are put at once, by default 100,300,1000,3000. "
        "Or how many messages of spool are run again, by default 100,300,1000. Or how many items map has, by default "
        "10000",
    )
    parser.add_argument(
        "--objects",
        type=int,
        default=simulation.OBJECTS,
        help="how many objects of simulation are written at once (default: %(default)s)",
    )
    options = parser.parse_args()
    if options.name in (None, "synth"):
        synth.run(runs=options.runs)
    if options.name in (None, "semaphore") and not semaphore.run(options.sizes):
        sys.exit("the semaphore let in too many, or lost somebody")
    if options.name in (None, "pipeline") and not pipeline.run(options.sizes):
        sys.exit("the pipeline lost an object, did one twice, or did too many at once")
    if options.name in (None, "spool") and not spool.run(options.sizes):
        sys.exit("the reprocessor lost a message, or started one twice")
    if options.name in (None, "map") and not items_map.run(options.sizes):
        sys.exit("the map lost an item, did one twice, or accounted for it wrongly")
    if options.name in (None, "simulation") and not simulation.run(options.objects):
        sys.exit("the simulated pipeline lost something, or did too much at once")


if __name__ == "__main__":
    main()

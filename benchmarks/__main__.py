"""``python -m benchmarks [name]``: runs all benchmarks, or one."""

import argparse
import sys

from supported_node import use_supported_node

use_supported_node()

from benchmarks import semaphore, synth


def sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=["semaphore", "synth"], help="only this one")
    parser.add_argument(
        "--runs", type=int, default=20, help="how often each side of synth is measured (default: %(default)s)"
    )
    parser.add_argument(
        "--sizes",
        type=sizes,
        default=[],
        help="how many executions of semaphore start at once, such as 20,100,300 in every design; by default the "
        "slowest does without 300",
    )
    options = parser.parse_args()
    if options.name in (None, "synth"):
        synth.run(runs=options.runs)
    if options.name in (None, "semaphore") and not semaphore.run(options.sizes):
        sys.exit("the semaphore let in too many, or lost somebody")


if __name__ == "__main__":
    main()

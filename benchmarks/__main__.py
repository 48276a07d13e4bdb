"""``python -m benchmarks [name]``: runs all benchmarks, or one."""

import argparse

from supported_node import use_supported_node

use_supported_node()

from benchmarks import semaphore, synth


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=["semaphore", "synth"], help="only this one")
    parser.add_argument(
        "--runs", type=int, default=20, help="how often each side of synth is measured (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.name in (None, "synth"):
        synth.run(runs=options.runs)
    if options.name in (None, "semaphore"):
        semaphore.run()


if __name__ == "__main__":
    main()

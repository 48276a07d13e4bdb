"""``python -m benchmarks [name]``: runs all benchmarks, or one."""

import argparse

from benchmarks import synth

BENCHMARKS = {"synth": synth.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(BENCHMARKS), help="only this one")
    parser.add_argument("--runs", type=int, default=20, help="how often each side is measured (default: %(default)s)")
    options = parser.parse_args()
    for name, run in BENCHMARKS.items():
        if options.name in (None, name):
            run(runs=options.runs)


if __name__ == "__main__":
    main()

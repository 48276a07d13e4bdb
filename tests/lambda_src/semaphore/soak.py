"""Runs the protocol through a million steps of turmoil: `python -m tests.lambda_src.semaphore.soak [steps] [seed]`."""

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[3] / "lambda_src")]

from semaphore import protocol
from tests.lambda_src.semaphore.world import run, run_without_deaths


def soak(steps: int, *, seed: int = 0) -> int:
    """Lives through one world after the other until so many steps are done. Returns how many were done."""
    done = 0
    most = protocol.MOST_GRANTS
    try:
        while done < steps:
            # Lines that are longer than what one transaction serves, and lines that are not.
            protocol.MOST_GRANTS = most if seed % 2 else 2
            done += run(seed, steps=300 if seed % 10 else 2000)
            done += run_without_deaths(seed, steps=200)
            seed += 1
    finally:
        protocol.MOST_GRANTS = most
    return done


def main(steps: int = 1_000_000, seed: int = 0) -> None:
    started = time.monotonic()
    done = soak(steps, seed=seed)
    seconds = time.monotonic() - started
    print(f"{done:,} steps in {seconds:.0f} s ({done / seconds:,.0f} per second): every promise was kept")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))

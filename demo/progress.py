"""Short lines about what is going on, and how long each step took."""

import contextlib
import time
from collections.abc import Iterator


class Progress:
    """Prints lines that begin with the seconds since the start.

    Attributes:
        durations: Seconds by name of step, in the order in which the steps ended.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.durations: dict[str, float] = {}

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)

    @contextlib.contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Says `text`, and notes under `name` how long the block took."""
        self.say(text)
        started = time.monotonic()
        yield
        self.durations[name] = time.monotonic() - started

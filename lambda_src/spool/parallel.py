"""Does things side by side, at a pace."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.patience import MARGIN, TimeIsOverError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Other = TypeVar("Other")


def side_by_side(work: Callable[[Item], Answer], items: Iterable[Item], *, workers: int) -> list[Answer]:
    """The answers, in the order of the items. The first error is raised when all have ended."""
    items = list(items)
    if workers == 1 or len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(workers, len(items))) as pool:
        return list(pool.map(work, items))


def meanwhile(work: Callable[[], Answer], other: Callable[[], Other], *, workers: int) -> tuple[Answer, Other]:
    """The answers of two that are done side by side, or one after the other where there is one worker."""
    if workers == 1:
        return work(), other()
    with ThreadPoolExecutor(max_workers=1) as pool:
        second = pool.submit(other)
        return work(), second.result()


def batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in their order, `size` of them at a time."""
    return [items[first : first + size] for first in range(0, len(items), size)]


class Pace:
    """Lets callers through one after the other, at most so many per second. For several threads.

    Args:
        per_second: 0 is no limit.
        remaining: The seconds that are left to the function.
        clock: Seconds that only grow.
        sleep: Waits for seconds.
    """

    def __init__(
        self,
        per_second: float,
        remaining: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._remaining = remaining
        self._clock, self._sleep = clock, sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Raises `TimeIsOverError` where the turn would come too late."""
        if not self._gap:
            return
        with self._lock:
            now = self._clock()
            turn = max(self._next, now)
            if turn - now > self._remaining() - MARGIN:
                raise TimeIsOverError("the function's time is over: its starts are paced")
            self._next = turn + self._gap
        self._sleep(max(0.0, turn - now))

"""Waiting for what happens elsewhere."""

import time
from collections.abc import Callable
from typing import TypeVar

WITHIN = 60.0
"""Seconds."""

_POLL = 0.1  # seconds
_Seen = TypeVar("_Seen")


def eventually(look: Callable[[], _Seen], is_wanted: Callable[[_Seen], bool], *, within: float = WITHIN) -> _Seen:
    """Looks until it is as wanted, or the time is up; returns what was seen last."""
    deadline = time.monotonic() + within
    while not is_wanted(seen := look()) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return seen

"""How far an execution has come. A redrive goes on from there.

An execution, a branch of a Parallel and an iteration of a Map each are a way through a chain of states. Where a state
is itself a Parallel or a Map, the ways of its branches or iterations are the parts of the way that leads through it.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

_current: contextvars.ContextVar["Progress | None"] = contextvars.ContextVar("progress", default=None)
_group: contextvars.ContextVar["Group"] = contextvars.ContextVar("group")


class Progress:
    """One way through a chain of states.

    Attributes:
        name: The state that is at work; None at the end.
        data: Its input; at the end the output of the chain.
        entered: Whether the history has told of it.
        map_run: The map run of the state at work, where that is a distributed Map which has come so far.
    """

    def __init__(self, name: str, data: Any) -> None:
        self.name: str | None = name
        self.data = data
        self.entered = False
        self.map_run: Any = None
        self._parts: dict[int, Progress] = {}
        self._redriven = False

    def move(self, name: str | None, data: Any) -> None:
        """Goes on to the next state, or to the end."""
        self.name, self.data, self.entered = name, data, False
        self.forget_parts()

    def forget_parts(self) -> None:
        """The branches or iterations of the state at work all run again."""
        self._parts.clear()
        self.map_run = None
        self._redriven = False

    def redrive(self) -> None:
        """The next attempt keeps the branches or iterations that have succeeded."""
        self._redriven = True
        for part in self._parts.values():
            part.redrive()

    def begin_attempt(self) -> None:
        """A new attempt of a Parallel or a Map. A retry runs all its parts, a redrive those that did not succeed."""
        if not self._redriven:
            self.forget_parts()
        self._redriven = False

    def part(self, index: int, name: str, data: Any) -> "Progress":
        """The way of a branch or an iteration: new, or as far as it had come before a redrive."""
        return self._parts.setdefault(index, Progress(name, data))

    @contextlib.contextmanager
    def entering(self) -> Iterator[None]:
        """Makes this the way on which the current thread is."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


class Group:
    """The branches of a Parallel or the iterations of a Map, in one attempt.

    Args:
        index_of: The number of a branch or an iteration, by its states and its context object.

    Attributes:
        progress: The way that leads through the Parallel or the Map.
    """

    def __init__(self, index_of: Callable[[Any, Any], int]) -> None:
        self.progress = _current.get() or Progress("", None)  # TestState runs a state outside of executions.
        self._index_of = index_of
        self.progress.begin_attempt()

    def part(self, states: Any, ctx: Any, start_at: str, data: Any) -> Progress:
        """The way of the branch or the iteration with these states and this context object."""
        return self.progress.part(self._index_of(states, ctx), start_at, data)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Makes this the group of the threads that are started meanwhile."""
        token = _group.set(self)
        try:
            yield
        finally:
            _group.reset(token)


def current_group() -> Group:
    """The group to which the branch or the iteration of this thread belongs."""
    return _group.get()

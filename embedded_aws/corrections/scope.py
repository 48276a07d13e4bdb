"""What can be stopped as a whole: an execution, one attempt of a task, the branches of a Parallel or Map.

AWS stops the work below such a thing together with it. Stock MiniStack lets it run on. Every pause and every wait of
the corrected emulator goes through the scope it runs in, so that it ends as soon as the scope is stopped.
"""

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

_current: contextvars.ContextVar["Scope | None"] = contextvars.ContextVar("scope", default=None)


class StoppedError(SystemExit):
    """The scope was stopped. Not an `Exception`, so that no handler of the emulator takes it for a failure."""


def _silent_when_stopped(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_type is not StoppedError:
        threading.__excepthook__(failure)


threading.excepthook = _silent_when_stopped


class Scope:
    def __init__(self, execution: Any = None, parent: "Scope | None" = None) -> None:
        self.execution = execution
        self._stopped = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        if parent is not None:
            parent._call_when_stopped(self.stop)

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """Ends every wait in this scope and below it. A second call does nothing."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
            self._stopped.set()
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Raises `StoppedError` when the scope was stopped."""
        if self.stopped:
            raise StoppedError

    def sleep(self, seconds: float) -> None:
        """Waits for `seconds`. Raises `StoppedError` as soon as the scope is stopped."""
        if self._stopped.wait(max(seconds, 0)):
            raise StoppedError

    def wait_for(self, event: threading.Event, seconds: float | None) -> bool:
        """Waits for `event`, at most `seconds`; says whether it came. Raises `StoppedError` when stopped."""
        self._call_when_stopped(event.set)
        happened = event.wait(seconds)
        self.check()
        return happened

    @contextlib.contextmanager
    def entered(self) -> Iterator["Scope"]:
        """Makes this the scope of the current thread and of the threads it starts."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def _call_when_stopped(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._stopped.is_set():
                self._callbacks.append(callback)
                return
        callback()


scopes: dict[str, Scope] = {}
"""The scope of each running execution, by ARN."""


def current_scope() -> Scope:
    """The scope of this thread; outside of executions one that nobody stops."""
    return _current.get() or Scope()

"""AWS Lambda: names of errors, and how many functions run at once on this machine."""

import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.settings import STATE

_trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="")


class _Gate:
    """Lets a number of callers in at once, the others in the order in which they came."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = threading.Lock()
        self._queue: deque[threading.Event] = deque()

    @contextlib.contextmanager
    def passed(self) -> Iterator[None]:
        turn = threading.Event()
        with self._lock:
            if self._free:
                self._free -= 1
                turn.set()
            else:
                self._queue.append(turn)
        turn.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._queue:
                    self._queue.popleft().set()
                else:
                    self._free += 1


_gate = _Gate(STATE.lambda_concurrency)


@correction(lambda_svc, "_execute_function_dispatch", "(func, config, event, request_id, started)")
def invocations_queue(stock: AnyFunction, func: Any, config: Any, event: Any, request_id: str, started: float) -> Any:
    """Stock: a process for each simultaneous invocation, or a throttle.

    Here: they take turns, so that a burst does not overwhelm the machine. A function invoked by another one does
    not queue: its caller holds a place already. Document: none, this is not about AWS.
    """
    depth = lambda_svc._invoke_depth.get()
    if depth > 1:
        return stock(func, config, event, request_id, started)
    # What a function invokes has a greater depth. Only its HTTP requests count by themselves.
    token = lambda_svc._invoke_depth.set(1)
    try:
        with _gate.passed():
            return stock(func, config, event, request_id, started)
    finally:
        lambda_svc._invoke_depth.reset(token)


@correction(
    lambda_runtime.Worker, "invoke", "(self, event, request_id, trace_id, depth, durable, invoked_function_arn)"
)
def a_worker_keeps_its_trace(stock: AnyFunction, worker: Any, *arguments: Any, **options: Any) -> Any:
    """Stock: the worker's stack trace only goes to the log.

    AWS: an error has a type. See `errors_have_the_name_of_their_class`.
    Document: Lambda Developer Guide, "Understanding how Lambda handles failures".
    """
    result = stock(worker, *arguments, **options)
    _trace.set(result.get("trace") or "")
    return result


@correction(lambda_svc, "_execute_function_warm", "(func, event, request_id)")
def errors_have_the_name_of_their_class(stock: AnyFunction, func: Any, event: Any, request_id: str) -> Any:
    """Stock: `errorType` is always `Runtime.HandlerError`.

    AWS: the name of the exception's class, with the stack trace; Step Functions matches it in Retry and Catch.
    Document: Lambda Developer Guide, "Lambda function errors in Python"; Step Functions Developer Guide, "Handling
    error conditions in a Step Functions state machine".
    """
    _trace.set("")
    result = stock(func, event, request_id)
    body = result.get("body")
    if result.get("error") and _trace.get() and body.get("errorType") == "Runtime.HandlerError":
        body["errorType"] = _error_type(_trace.get(), body["errorMessage"])
        body["requestId"] = request_id
        body["stackTrace"] = [line for line in _trace.get().splitlines() if line.startswith("  ")]
    return result


def _error_type(trace: str, message: str) -> str:
    """Python ends its trace with `module.Class: message`, Node begins its stack with it."""
    lines = trace.strip().removesuffix(message).splitlines()
    line = lines[-1] if trace.startswith("Traceback") else lines[0]
    return line.split(":")[0].strip().rsplit(".", 1)[-1]

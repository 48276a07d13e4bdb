"""Faults for requests to the emulated services, and the count of what was requested."""

import json
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

_IN_XML = ("s3", "sns", "cloudformation", "iam", "sts")
"""Services that write their errors in XML."""


@dataclass(frozen=True)
class RequestFault:
    """What goes wrong with a request. Made by the methods below."""

    shape: Literal["error", "answer_lost", "killed"]
    code: str = "InternalServerError"
    message: str = "injected"
    status: int = 500
    function: str = ""

    @classmethod
    def error(cls, code: str, message: str = "injected", *, status: int = 400) -> "RequestFault":
        """The request is refused with an error such as `"ThrottlingException"`; nothing is done."""
        return cls("error", code=code, message=message, status=status)

    @classmethod
    def answer_lost(cls) -> "RequestFault":
        """The request is carried out, and whoever made it is told of an internal error."""
        return cls("answer_lost")

    @classmethod
    def killed(cls, function: str) -> "RequestFault":
        """The request is carried out, and then every process of that Lambda function dies. Takes its name or ARN."""
        return cls("killed", function=function.rsplit(":", 1)[-1])


@dataclass
class _Set:
    fault: RequestFault
    share: float
    times: int | None
    met: int = 0

    def strikes(self) -> bool:
        """Evenly, so that a run can be repeated: with a share of 0.3 the 4th, 7th, 10th, 14th, …"""
        if self.times == 0:
            return False
        self.met += 1
        struck = int(self.met * self.share + 1e-9) > int((self.met - 1) * self.share + 1e-9)
        if struck and self.times is not None:
            self.times -= 1
        return struck


class RequestBook:
    """The faults that are set, and the requests so far, by name. Kept by the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[str, _Set] = {}
        self._counts: Counter[str] = Counter()

    def fail(self, name: str, fault: RequestFault, *, share: float = 1.0, times: int | None = None) -> None:
        """Sets the fault of a kind of requests. Replaces what was set before."""
        with self._lock:
            self._faults[name] = _Set(fault, share, times)

    def heal(self) -> None:
        with self._lock:
            self._faults.clear()

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self._counts.clear()

    def note(self, name: str) -> RequestFault | None:
        """Counts a request, and says what is to go wrong with it."""
        with self._lock:
            self._counts[name] += 1
            found = self._faults.get(name)
            return found.fault if found and found.strikes() else None


def observed(app: Asgi, book: RequestBook, kill: Callable[[str], None]) -> Asgi:
    """The application, with every signed request counted, and failed where that is set.

    Args:
        app: The application.
        book: Where it is counted and set.
        kill: Ends the processes of a Lambda function at once.
    """

    async def handled(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        name, receive = await _name(scope, receive)
        fault = book.note(name) if name else None
        if fault is None:
            return await app(scope, receive, send)
        if fault.shape != "error":
            await app(scope, receive, _nowhere)
        if fault.shape == "killed":
            kill(fault.function)
        return await _refuse(send, fault, service=name.partition(":")[0])

    return handled


async def _nowhere(_message: Message) -> None:
    pass


async def _refuse(send: Send, fault: RequestFault, *, service: str) -> None:
    if service in _IN_XML:
        body = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
        if service != "s3":
            body = f"<ErrorResponse>{body}</ErrorResponse>"
        kind = b"text/xml"
    else:
        body = json.dumps({"__type": fault.code, "message": fault.message})
        kind = b"application/x-amz-json-1.0"
    headers = [(b"content-type", kind), (b"x-amzn-errortype", fault.code.encode())]
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


async def _name(scope: Message, receive: Receive) -> tuple[str, Receive]:
    """The request's name as in IAM policies, such as `states:StartExecution`; for S3 with the HTTP method instead.

    Empty for what is not a request to a service. The second value stands in for `receive`.
    """
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    signed = re.search(rb"Credential=[^/]+/\d+/[^/]+/([^/]+)/", headers.get(b"authorization", b""))
    if not signed:
        return "", receive
    service = signed[1].decode()
    if target := headers.get(b"x-amz-target"):
        return f"{service}:{target.decode().rsplit('.', 1)[-1]}", receive
    if service == "lambda" and scope["path"].endswith("/invocations"):
        return "lambda:InvokeFunction", receive
    if headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
        body, receive = await read_body(receive)
        action = parse_qs(body.decode(errors="replace")).get("Action")
        if action:
            return f"{service}:{action[0]}", receive
    return f"{service}:{scope['method']}", receive


async def read_body(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, and a `receive` that gives it once more."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return body, again

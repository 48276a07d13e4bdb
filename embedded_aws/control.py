"""What `EmbeddedAws` tells its server and asks of it, at addresses that no service of AWS has."""

import json
import time
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import sqs

from embedded_aws.addresses import CONTROL, LAUNCHES, MESSAGES, REQUESTS
from embedded_aws.launches import fault_from_json, to_json
from embedded_aws.requests import Asgi, Message, Receive, RequestFault, Send, observed, read_body
from embedded_aws.settings import STATE


def with_control(app: Asgi) -> Asgi:
    """The application, with its requests observed, and with the addresses of this module."""
    served = observed(app, STATE.requests, _kill_function)

    async def routed(scope: Message, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(CONTROL):
            await served(scope, receive, send)
            return
        body, _ = await read_body(receive)
        given = json.loads(body) if body else None
        answer = _answer(scope["method"], path, given)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    return routed


def _answer(method: str, path: str, given: Any) -> Any:
    if path == REQUESTS:
        return _requests(method, given)
    if path == MESSAGES:
        return _show_messages(given)
    return _launches(method, path, given)


def _launches(method: str, path: str, given: Any) -> Any:
    family = path.removeprefix(LAUNCHES)
    if method == "PUT":
        STATE.launches.refuse(family, [fault_from_json(fault) for fault in given])
    return [to_json(launch) for launch in STATE.launches.launches(family)]


def _requests(method: str, given: Any) -> Any:
    if method == "PUT":
        fault = RequestFault(**given["fault"])
        STATE.requests.fail(given["name"], fault, share=given["share"], times=given["times"])
    elif method == "DELETE":
        STATE.requests.heal()
    return STATE.requests.counts()


def _show_messages(queue: str) -> int:
    hidden = [message for message in sqs._get_q(queue)["messages"] if message["visible_at"] > time.time()]
    for message in hidden:
        message["visible_at"] = time.time()
    return len(hidden)


def _kill_function(name: str) -> None:
    for key, workers in list(lambda_runtime._workers.items()):
        for worker in workers if name in key.split(":") else []:
            if worker._proc is not None:
                worker._proc.kill()

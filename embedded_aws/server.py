"""The server process: MiniStack with its corrections, on a free loopback port.

Started by `EmbeddedAws` as `python -m embedded_aws.server`. Writes its port to standard output as soon as it
listens. Ends when its standard input is closed, which the operating system does when the parent dies.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from embedded_aws.sessions import kill_session

Message = MutableMapping[str, Any]
Asgi = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

CONTROL = "/_embedded_aws/launches/"
"""Path below which faults are set (PUT) and launches are read (GET), by task definition family."""


def main() -> None:
    options = _options()
    listener = socket.create_server(("127.0.0.1", 0))
    # MiniStack reads its port from here while it is imported, and hands it to functions and tasks.
    os.environ["GATEWAY_PORT"] = str(listener.getsockname()[1])
    # Functions must not find this repository's packages by way of the path this server needed.
    os.environ.pop("PYTHONPATH", None)
    port_pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Whatever is printed belongs into the log.
    signal.signal(signal.SIGTERM, lambda *_: _end(options.directory))
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from ministack.app import app

    control: Asgi = app
    if options.corrections:
        control = _with_corrections(app, options)
    port_pipe.write(f"{listener.getsockname()[1]}\n")
    port_pipe.close()
    asyncio.run(_serve(control, listener))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded_aws.server")
    parser.add_argument("--directory", help="removed at the end", required=True)
    parser.add_argument("--no-corrections", dest="corrections", action="store_false")
    parser.add_argument("--tasks", choices=("process", "container"), default="process")
    parser.add_argument("--stop-timeout", type=float, default=30.0)
    parser.add_argument("--lambda-concurrency", type=int, default=8)
    return parser.parse_args()


def _with_corrections(app: Asgi, options: argparse.Namespace) -> Asgi:
    from embedded_aws import corrections
    from embedded_aws.containers import DockerContainers
    from embedded_aws.settings import STATE

    STATE.stop_timeout = options.stop_timeout
    STATE.lambda_concurrency = options.lambda_concurrency
    if options.tasks == "container":
        STATE.runtime = DockerContainers(instance=str(os.getpid()))
    corrections.apply()
    return _with_control(app)


def _with_control(app: Asgi) -> Asgi:
    from embedded_aws.launches import fault_from_json, to_json
    from embedded_aws.settings import STATE

    async def routed(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(CONTROL):
            await app(scope, receive, send)
            return
        family = scope["path"].removeprefix(CONTROL)
        if scope["method"] == "PUT":
            faults = json.loads(await _body(receive))
            STATE.launches.refuse(family, [fault_from_json(fault) for fault in faults])
        body = json.dumps([to_json(launch) for launch in STATE.launches.launches(family)]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return routed


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _serve(app: Asgi, listener: socket.socket) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.keep_alive_timeout = 75
    never = asyncio.Event()
    await serve(app, config, shutdown_trigger=never.wait)  # type: ignore[arg-type]  # hypercorn's own ASGI types


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _end(directory: str) -> None:
    """Ends at once. There is nothing to save, and no thread worth waiting for."""
    if "embedded_aws.settings" in sys.modules:
        from embedded_aws.containers import DockerContainers
        from embedded_aws.settings import STATE

        if isinstance(STATE.runtime, DockerContainers):
            STATE.runtime.remove_all()
    kill_session(os.getpid(), but=os.getpid())
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()

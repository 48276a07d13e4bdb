"""The server process: MiniStack with its corrections, on a free loopback port.

Started by `EmbeddedAws` as `python -m embedded_aws.server`. Writes its port to standard output as soon as it
listens. Ends when its standard input is closed, which the operating system does when the parent dies.
"""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import sys
import threading

from embedded_aws.requests import Asgi
from embedded_aws.sessions import kill_session


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
    from embedded_aws.control import with_control
    from embedded_aws.settings import STATE

    STATE.stop_timeout = options.stop_timeout
    STATE.lambda_concurrency = options.lambda_concurrency
    if options.tasks == "container":
        STATE.runtime = DockerContainers(instance=str(os.getpid()))
    corrections.apply()
    return with_control(app)


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

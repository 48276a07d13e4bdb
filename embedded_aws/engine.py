"""A Docker engine for as long as it is needed, where none is running: for continuous integration and this demo."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from embedded_aws.containers import DockerContainers

_READY_WITHIN = 60.0
_END_WITHIN = 20.0


class DockerEngineError(RuntimeError):
    """The engine did not start."""


class DockerEngine:
    """A `dockerd` with its own socket and data, without any network of its own: containers use the host's.

    A context manager. Needs Linux, root and the `dockerd` program (Debian: `docker.io`). Nothing listens on a port
    and no firewall rule is made.

    Attributes:
        host: Value for `DOCKER_HOST`.
    """

    host: str

    @staticmethod
    def can_start() -> bool:
        """Whether this machine has what the engine needs."""
        return _program() is not None and hasattr(os, "geteuid") and os.geteuid() == 0

    def __enter__(self) -> Self:
        # Sockets have a limit of 108 characters, and pytest's folders are long.
        self._directory = Path(tempfile.mkdtemp(prefix="dockerd-"))
        self.host = f"unix://{self._directory / 'docker.sock'}"
        log = self._directory / "dockerd.log"
        with log.open("w") as output:
            self._engine = subprocess.Popen(
                [
                    _program() or "dockerd",
                    "--iptables=false",
                    "--ip6tables=false",
                    "--bridge=none",
                    "--storage-driver=vfs",
                    f"--host={self.host}",
                    f"--data-root={self._directory / 'data'}",
                    f"--exec-root={self._directory / 'exec'}",
                    f"--pidfile={self._directory / 'pid'}",
                ],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(log)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait_until_ready(self, log: Path) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        with docker_host(self.host):
            while not DockerContainers.answers():
                if self._engine.poll() is not None or time.monotonic() > deadline:
                    raise DockerEngineError(f"dockerd did not start:\n{log.read_text()[-4000:]}")
                time.sleep(0.2)

    def _stop(self) -> None:
        self._engine.terminate()
        try:
            self._engine.wait(_END_WITHIN)
        except subprocess.TimeoutExpired:
            self._engine.kill()
            self._engine.wait()
        # The engine leaves its network namespace mounted, which keeps the folder from being removed.
        subprocess.run(
            ["umount", "--lazy", str(self._directory / "exec/netns/default")], capture_output=True, check=False
        )
        shutil.rmtree(self._directory, ignore_errors=True)


def _program() -> str | None:
    # Not every shell has the folder of the system's own programs on its PATH.
    return shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextlib.contextmanager
def docker_host(host: str) -> Iterator[None]:
    """Sets `DOCKER_HOST` for a while."""
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = host
    try:
        yield
    finally:
        if before is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = before

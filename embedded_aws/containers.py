"""Where the containers of a task run: as local processes, or in a Docker engine.

Both do what the container agent of ECS needs and nothing more: start, wait, terminate, kill.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class CannotStartError(Exception):
    """The container could not be started. Its text is what ECS reports as `stoppedReason`."""


@dataclass(frozen=True)
class ContainerSpec:
    """One container of a task, with the overrides of RunTask applied."""

    name: str
    image: str
    entry_point: Sequence[str]
    command: Sequence[str]
    environment: Mapping[str, str]
    working_directory: str | None
    user: str | None


class RunningContainer(Protocol):
    def lines(self) -> Iterator[str]:
        """Standard output and standard error, line by line, until the container has ended."""

    def wait(self) -> int:
        """Waits for the end. Returns the exit code, 128 + n for signal n."""

    def terminate(self) -> None:
        """Sends SIGTERM. Does nothing to a container that has ended."""

    def kill(self) -> None:
        """Sends SIGKILL. Does nothing to a container that has ended."""

    def remove(self) -> None:
        """Gives back what the container leaves behind."""


class ContainerRuntime(Protocol):
    def start(self, spec: ContainerSpec) -> RunningContainer:
        """Starts a container. Raises `CannotStartError`."""


class LocalProcesses:
    """Runs the command of a container as a local process. The image is not looked at.

    The process gets the environment a container would get and nothing of the server's own, an empty working
    directory (unless the container definition names one that exists), and a process group of its own.
    `python` and `python3` are the interpreter of the server.
    """

    def start(self, spec: ContainerSpec) -> RunningContainer:
        command = [*spec.entry_point, *spec.command]
        if not command:
            raise CannotStartError("CannotStartContainerError: no command specified")
        path = spec.environment.get("PATH", _search_path())
        program = shutil.which(command[0], path=path)
        if program is None:
            raise CannotStartError(
                f'CannotStartContainerError: exec: "{command[0]}": executable file not found in $PATH'
            )
        scratch = Path(tempfile.mkdtemp(prefix=f"task-{spec.name}-"))
        environment = {"PATH": path, "HOME": str(scratch), "TMPDIR": str(scratch), **spec.environment}
        wanted = spec.working_directory
        try:
            process = subprocess.Popen(
                [program, *command[1:]],
                env=environment,
                cwd=wanted if wanted and Path(wanted).is_dir() else scratch,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise CannotStartError(f"CannotStartContainerError: {error}") from error
        return _LocalProcess(process, scratch)


def _search_path() -> str:
    # The interpreter's own folder comes first, so that a virtual environment's `python` is found there.
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


class _LocalProcess:
    def __init__(self, process: "subprocess.Popen[bytes]", scratch: Path) -> None:
        self._process = process
        self._scratch = scratch

    def lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            yield from _decoded(output)

    def wait(self) -> int:
        code = self._process.wait()
        # Whatever the command left behind ends with it, as in a container.
        self._signal(signal.SIGKILL)
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._signal(signal.SIGKILL)

    def remove(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return


class DockerContainers:
    """Runs containers in the Docker engine that `DOCKER_HOST` names (or the default one).

    They share the host's network, so that they reach the emulator, which listens on loopback only. That takes an
    engine on the same Linux machine.
    """

    LABEL = "embedded-aws"

    def __init__(self, instance: str) -> None:
        import docker

        self._client = docker.from_env()
        self._instance = instance

    @staticmethod
    def answers() -> bool:
        """Whether a Docker engine can be reached."""
        try:
            import docker

            client = docker.from_env(timeout=5)
            client.ping()
            client.close()
        except Exception:
            return False
        return True

    def start(self, spec: ContainerSpec) -> RunningContainer:
        import docker.errors

        try:
            return self._start(spec)
        except (docker.errors.DockerException, OSError) as error:  # The engine is in trouble, or gone.
            raise CannotStartError(f"ResourceInitializationError: {error}") from error

    def _start(self, spec: ContainerSpec) -> RunningContainer:
        import docker.errors

        try:
            self._client.images.get(spec.image)
        except docker.errors.ImageNotFound:
            self._pull(spec.image)
        try:
            container = self._client.containers.create(
                spec.image,
                command=list(spec.command) or None,
                entrypoint=list(spec.entry_point) or None,
                environment=dict(spec.environment),
                working_dir=spec.working_directory,
                user=spec.user,
                network_mode="host",
                labels={self.LABEL: self._instance},
            )
        except docker.errors.APIError as error:
            raise CannotStartError(f"CannotCreateContainerError: {error.explanation}") from error
        try:
            container.start()
        except docker.errors.APIError as error:
            container.remove(force=True)
            raise CannotStartError(f"CannotStartContainerError: {error.explanation}") from error
        return _DockerContainer(container)

    def _pull(self, image: str) -> None:
        import docker.errors

        try:
            self._client.images.pull(image)
        except docker.errors.APIError as error:
            raise CannotStartError(f"CannotPullContainerError: {error.explanation}") from error

    def remove_all(self) -> None:
        """Removes what this instance started and is still there."""
        for container in self._client.containers.list(all=True, filters={"label": f"{self.LABEL}={self._instance}"}):
            container.remove(force=True)


class _DockerContainer:
    def __init__(self, container: Any) -> None:
        self._container = container

    def lines(self) -> Iterator[str]:
        return _decoded(_split_lines(self._container.logs(stream=True, follow=True)))

    def wait(self) -> int:
        # Without a limit of its own the client gives up after a minute.
        return int(self._container.wait(timeout=None)["StatusCode"])

    def terminate(self) -> None:
        self._signal("SIGTERM")

    def kill(self) -> None:
        self._signal("SIGKILL")

    def remove(self) -> None:
        self._container.remove(force=True, v=True)

    def _signal(self, name: str) -> None:
        import docker.errors

        try:
            self._container.kill(signal=name)
        except docker.errors.APIError:
            return  # The container has ended.


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    for line in lines:
        yield line.decode(errors="replace").rstrip("\r\n")


def _split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest

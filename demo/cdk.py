"""The real `cdk` command, as a user would run it, with its long output in files."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.errors import DemoError
from supported_node import node_binary

REPOSITORY = Path(__file__).parent.parent
_COMMAND = REPOSITORY / "node_modules" / ".bin" / "cdk"
_TAIL = 40  # lines


class Cdk:
    """Runs commands of the CDK CLI. A context manager: what still runs at its end is killed.

    Args:
        environment: Of the commands; it says which AWS they talk to.
        build: Gets a log per command, and whatever else the CLI would keep in the user's home.
    """

    def __init__(self, environment: Mapping[str, str], build: Path) -> None:
        node = node_binary()
        if not _COMMAND.exists() or node is None:
            raise DemoError("The CDK CLI is not installed here. Run `make setup` first.")
        self._build = build
        self._environment = {
            **environment,
            "PATH": os.pathsep.join([str(node.parent), environment["PATH"]]),
            "CDK_HOME": str(build / "cdk-home"),
            "CDK_DISABLE_CLI_TELEMETRY": "true",
            "NO_COLOR": "1",
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def start(self, command: str, arguments: Sequence[str]) -> "CdkCommand":
        """Starts `cdk <command>`; several may run at the same time."""
        log = self._build / f"cdk-{command}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(_COMMAND), command, "--no-notices", *arguments],
                cwd=REPOSITORY,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A group of its own, so that the app that it starts can be ended with it.
                process_group=0,
            )
        self._running.append(process)
        return CdkCommand(command, process, log)


class CdkCommand:
    """A command that was started."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    def finish(self) -> None:
        """Waits for the end.

        Raises:
            DemoError: it failed; with the end of its output.
        """
        if self._process.wait() != 0:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL:])
            raise DemoError(f"`cdk {self._name}` failed. The end of {self._log}:\n\n{tail}")

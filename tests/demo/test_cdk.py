"""Commands of the CDK CLI: their output goes to files, their failure is told, none is left behind."""

import os
import time
from pathlib import Path

import pytest

from demo import cdk
from demo.cdk import Cdk
from demo.errors import DemoError
from demo.processes import count_processes


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the CLI: a shell script, to be written by the test."""
    path = tmp_path / "cdk"
    monkeypatch.setattr(cdk, "_COMMAND", path)
    return path


def write(command: Path, script: str) -> None:
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def test_output_goes_to_a_file(command: Path, tmp_path: Path) -> None:
    write(command, 'echo "$@"; echo $CDK_HOME >&2')
    with Cdk(os.environ, tmp_path) as cli:
        cli.start("deploy", ["--all"]).finish()
    assert (tmp_path / "cdk-deploy.log").read_text() == f"deploy --no-notices --all\n{tmp_path / 'cdk-home'}\n"


def test_a_failure_shows_the_end_of_the_output(command: Path, tmp_path: Path) -> None:
    write(command, "seq 1 1000; exit 1")
    with Cdk(os.environ, tmp_path) as cli, pytest.raises(DemoError, match=r"`cdk synth` failed") as error:
        cli.start("synth", []).finish()
    assert str(error.value).endswith("\n999\n1000")
    assert "\n900\n" not in str(error.value)


def test_commands_and_what_they_started_end_with_the_demo(command: Path, tmp_path: Path) -> None:
    marker = f"1000.{time.time_ns()}"
    write(command, f"sleep {marker} & wait")
    with Cdk(os.environ, tmp_path) as cli:
        cli.start("synth", [])
        deadline = time.monotonic() + 10
        while not count_processes(marker) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert count_processes(marker) == 1
    deadline = time.monotonic() + 10
    while count_processes(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert count_processes(marker) == 0


def test_a_checkout_without_the_cli(command: Path, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="make setup"):
        Cdk(os.environ, tmp_path)

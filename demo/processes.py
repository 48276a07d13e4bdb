"""Which processes of this machine work for the demo, to prove that a stopped task is really gone."""

import subprocess
from pathlib import Path


def count_processes(argument: str) -> int:
    """How many processes have `argument` among the arguments of their command line."""
    proc = Path("/proc")
    if proc.joinpath("self", "cmdline").exists():
        lines = (_arguments(entry) for entry in proc.glob("[0-9]*/cmdline"))
    else:
        listing = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True)
        lines = (line.split() for line in listing.stdout.splitlines())
    return sum(argument in arguments for arguments in lines)


def _arguments(entry: Path) -> list[str]:
    try:
        return entry.read_text(errors="replace").split("\0")
    except OSError:
        return []  # It has ended.

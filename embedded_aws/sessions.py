"""Ends the processes of a server: its Lambda workers and the processes of its tasks."""

import os
import signal
from pathlib import Path


def kill_session(session: int, *, but: int | None = None) -> None:
    """Kills every process of a session with SIGKILL, except `but`.

    Every server leads a session of its own, which its workers and tasks do not leave, so this reaches nobody else's.
    Without `/proc` (macOS) only the server's own process group is reached.
    """
    members = _members(session)
    for process in members:
        if process != but:
            _kill(process)
    if not members and but is None:
        _kill_group(session)


def _members(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything; behind it come state, parent, group and session.
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It has ended.
        if int(fields[3]) == session:
            found.append(int(entry.parent.name))
    return found


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return

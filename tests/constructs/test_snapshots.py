"""Whole templates, for reviewers: the diff of a change shows what it does to a deployment.

Recorded anew by `make snapshots`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from constructs_lib import AlertFunction, ErrorSpool
from constructs_lib.parts import functions
from tests import distributed_maps, error_spools, pipelines
from tests.scheduled import full, guarded, make_app, scheduled, surroundings, template_of
from tests.templates import FLAGS, REPOSITORY, only, readable

Check = Callable[[dict[str, Any]], None]


def test_bare(stack: cdk.Stack, matches_snapshot: Check) -> None:
    scheduled(surroundings(stack))
    matches_snapshot(template_of(stack))


def test_full(stack: cdk.Stack, matches_snapshot: Check) -> None:
    full(stack)
    matches_snapshot(template_of(stack))


def test_guarded(stack: cdk.Stack, matches_snapshot: Check) -> None:
    guarded(stack)
    matches_snapshot(template_of(stack))


def test_pipeline_bare(stack: cdk.Stack, matches_snapshot: Check) -> None:
    pipelines.pipeline(stack)
    matches_snapshot(template_of(stack))


def test_pipeline_full(stack: cdk.Stack, matches_snapshot: Check) -> None:
    pipelines.full(stack)
    matches_snapshot(template_of(stack))


def test_error_spool_bare(stack: cdk.Stack, matches_snapshot: Check) -> None:
    error_spools.reprocessor(stack)
    matches_snapshot(template_of(stack))


def test_error_spool_full(stack: cdk.Stack, matches_snapshot: Check) -> None:
    error_spools.full(stack)
    matches_snapshot(template_of(stack))


def test_error_spool_handler(stack: cdk.Stack, matches_snapshot: Check) -> None:
    handlers = [ErrorSpool(stack, "Spool"), AlertFunction(stack, "Alert")]
    scheduled(surroundings(stack), failure_handlers=handlers)
    matches_snapshot(template_of(stack))


def test_map_bare(stack: cdk.Stack, matches_snapshot: Check) -> None:
    distributed_maps.processor(stack)
    matches_snapshot(template_of(stack))


def test_map_full(stack: cdk.Stack, matches_snapshot: Check) -> None:
    distributed_maps.full(stack)
    matches_snapshot(template_of(stack))


@pytest.mark.parametrize("flag", [True, False])
def test_a_map_is_the_same_whatever_the_app_says_of_result_writers(flag: bool, tmp_path: Path) -> None:
    """So that one snapshot is enough: the flag decides in CDK whether results are written."""
    flags = {**FLAGS, "@aws-cdk/aws-stepfunctions:useDistributedMapResultWriterV2": flag}
    stacks = [cdk.Stack(make_app(tmp_path / str(number), one), "Stack") for number, one in enumerate((FLAGS, flags))]
    for stack in stacks:
        distributed_maps.processor(stack)
    as_here, otherwise = (readable(template_of(stack)) for stack in stacks)
    assert otherwise == as_here


def test_a_change_of_a_handlers_code_changes_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "lambda_src"
    shutil.copytree(REPOSITORY / "lambda_src", changed, ignore=shutil.ignore_patterns("__pycache__"))

    def synthesized(outdir: str) -> dict[str, Any]:
        monkeypatch.setattr(functions, "_HOMES", (changed,))
        stack = cdk.Stack(make_app(tmp_path / outdir), "Stack")
        scheduled(surroundings(stack))
        return template_of(stack)

    before = synthesized("before")
    with (changed / "alert" / "handler.py").open("a") as handler:
        handler.write("\n# changed\n")
    after = synthesized("after")
    # The change arrives, and only the hash tells.
    assert only(before, "AWS::Lambda::Function")["Code"] != only(after, "AWS::Lambda::Function")["Code"]
    assert readable(before) == readable(after)

"""cdk-nag's AwsSolutions rules: nothing is found that was not looked at and explained."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path

import aws_cdk as cdk
import pytest
from aws_cdk import aws_s3 as s3
from constructs import IConstruct

import constructs_lib.parts
from constructs_lib import InventoryItems
from stacks.dated_folders_example import DatedFoldersExample
from stacks.pipeline_example import PipelineExample
from stacks.scheduled_example import ScheduledExample
from stacks.semaphore_example import SemaphoreExample
from stacks.spool_example import SpoolExample
from tests import distributed_maps, error_spools, pipelines
from tests.rules.nag import Finding, findings
from tests.scheduled import full, guarded, scheduled, surroundings


def bare(app: cdk.App) -> None:
    scheduled(surroundings(cdk.Stack(app, "Stack")))


def in_a_known_account(app: cdk.App) -> None:
    """Where ARNs hold the account, and findings with them."""
    account = cdk.Environment(account="111122223333", region="cn-north-1")
    scheduled(surroundings(cdk.Stack(app, "Stack", env=account)))


def map_of_shared_buckets(app: cdk.App) -> None:
    """Where policies name what is in another stack."""
    shared = cdk.Stack(app, "Shared")
    source, results = s3.Bucket(shared, "Incoming"), s3.Bucket(shared, "Results")
    items = InventoryItems(bucket=source, key="inventory/{date:%Y-%m-%d}/manifest.json")
    distributed_maps.processor(cdk.Stack(app, "Stack"), source=items, results_bucket=results)


BUILDS: dict[str, Callable[[cdk.App], object]] = {
    "scheduled example": lambda app: ScheduledExample(app, "Stack"),
    "semaphore example": lambda app: SemaphoreExample(app, "Stack"),
    "pipeline example": lambda app: PipelineExample(app, "Stack"),
    "spool example": lambda app: SpoolExample(app, "Stack"),
    "dated folders example": lambda app: DatedFoldersExample(app, "Stack"),
    "bare": bare,
    "full": lambda app: full(cdk.Stack(app, "Stack")),
    "known account": in_a_known_account,
    "guarded": lambda app: guarded(cdk.Stack(app, "Stack")),
    "pipeline": lambda app: pipelines.pipeline(cdk.Stack(app, "Stack")),
    "full pipeline": lambda app: pipelines.full(cdk.Stack(app, "Stack")),
    "error spool": lambda app: error_spools.reprocessor(cdk.Stack(app, "Stack")),
    "full error spool": lambda app: error_spools.full(cdk.Stack(app, "Stack")),
    "map": lambda app: distributed_maps.processor(cdk.Stack(app, "Stack")),
    "full map": lambda app: distributed_maps.full(cdk.Stack(app, "Stack")),
    "guarded map": lambda app: distributed_maps.guarded(cdk.Stack(app, "Stack")),
    "map of shared buckets": map_of_shared_buckets,
}


# Where each dead-letter queue is one of a queue or a function, nag sees so by itself.
SEEN_BY_NAG = {build: {"AwsSolutions-SQS3"} for build in ("spool example", "error spool", "full error spool")}

# The constructs of the library in these stacks.
OURS = (
    *(f"Stack/{name}" for name in ("Nightly", "Hourly", "Daily", "SharedAlert", "Quota", "Pipeline", "Compression")),
    *(f"Stack/{name}" for name in ("Spool", "Reprocessor", "Hold", "Machine/SpoolOf", "ElsewhereSpoolOf")),
    *(f"Stack/{name}" for name in ("Capacity", "Again", "Orders/PermitsOf", "Orders/SpoolOf", "Reports/SpoolOf")),
    *(f"Stack/{name}" for name in ("Map", "Moving")),
)


def test_findings_are_found(tmp_path: Path) -> None:
    """The control: a clean report looks like that of rules that never ran."""

    def bucket(app: cdk.App) -> None:
        s3.Bucket(cdk.Stack(app, "Stack"), "Bucket")

    expected = [("AwsSolutions-S1", "Stack/Bucket/Resource"), ("AwsSolutions-S10", "Stack/Bucket/Resource")]
    assert findings(bucket, tmp_path) == expected


@pytest.mark.parametrize("example", [build for build in BUILDS if build.endswith(" example")])
def test_the_examples_are_clean(example: str, tmp_path: Path) -> None:
    assert findings(BUILDS[example], tmp_path) == []


@pytest.mark.parametrize("build", BUILDS)
def test_the_constructs_are_clean(build: str, tmp_path: Path) -> None:
    # What surrounds them is bare on purpose, and the caller's.
    assert [finding for finding in findings(BUILDS[build], tmp_path) if finding[1].startswith(OURS)] == []


@pytest.mark.parametrize("build", BUILDS)
def test_every_acknowledgement_is_needed_and_explained(
    build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out: list[Finding] = []

    def leave_out(construct: IConstruct, reasons: Mapping[str, str]) -> None:
        for rule, reason in reasons.items():
            assert len(reason.split()) > 5
            assert reason.endswith(".")
            left_out.append((rule, construct.node.path))

    for module in pkgutil.iter_modules(constructs_lib.parts.__path__, "constructs_lib.parts."):
        part = importlib.import_module(module.name)
        if module.name != "constructs_lib.parts.acknowledgements" and hasattr(part, "acknowledge"):
            monkeypatch.setattr(part, "acknowledge", leave_out)
    found = findings(BUILDS[build], tmp_path)

    ours = [finding for finding in found if finding[1].startswith(OURS)]
    assert {rule for rule, _ in ours} == {rule for rule, _ in left_out} - SEEN_BY_NAG.get(build, set())
    for rule, path in ours:
        assert any(rule == one and path.startswith(place + "/") for one, place in left_out), (rule, path)

"""The templates and the definitions in them, as AWS's own and other people's validators see them."""

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from cfnlint.api import lint_all
from cloudformation_validate import CompositeEngine, Severity

from asl_tools.resolve import state_machines
from asl_tools.validate import problems_of_all
from constructs_lib import NO_RETRY, RETRY_LIKE_THE_ORIGINAL, Capacity, LaunchRetry, RetryPolicy
from stacks.dated_folders_example import DatedFoldersExample
from stacks.pipeline_example import PipelineExample
from stacks.scheduled_example import ScheduledExample
from stacks.semaphore_example import SemaphoreExample
from stacks.spool_example import SpoolExample
from tests import distributed_maps, error_spools, pipelines
from tests.scheduled import full, guarded, make_app, scheduled, surroundings, template_of

# A dependency that CDK states although a reference implies it.
CDK_S_OWN = {"W3005"}

NAMES = [
    "scheduled",
    "semaphore",
    "objects",
    "orders and reports",
    "dated folders",
    "bare",
    "full",
    "guarded",
    "pipeline",
    "full pipeline",
    "pipeline of a chain",
    "error spool",
    "full error spool",
    "spool as a handler",
    "map",
    "full map",
    "guarded map",
    "map of a chain",
]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    app = make_app(tmp_path_factory.mktemp("validators"))
    examples = {
        "scheduled": ScheduledExample(app, "Scheduled"),
        "semaphore": SemaphoreExample(app, "Semaphore"),
        "objects": PipelineExample(app, "Objects"),
        "orders and reports": SpoolExample(app, "OrdersAndReports"),
        "dated folders": DatedFoldersExample(app, "DatedFolders"),
    }
    bare, everything, shared = (cdk.Stack(app, name) for name in ("Bare", "Full", "Guarded"))
    scheduled(surroundings(bare))
    full(everything)
    guarded(shared)
    pipeline, full_pipeline, of_a_chain = (cdk.Stack(app, f"Pipeline{number}") for number in range(3))
    pipelines.pipeline(pipeline)
    pipelines.full(full_pipeline)
    pipelines.pipeline(of_a_chain, job=pipelines.chain(of_a_chain))
    spool, full_spool, handler = (cdk.Stack(app, f"Spool{number}") for number in range(3))
    error_spools.reprocessor(spool)
    error_spools.full(full_spool)
    scheduled(surroundings(handler), failure_handlers=[error_spools.spool(handler)])
    one_map, full_map, guarded_map, map_of_a_chain = (cdk.Stack(app, f"Map{number}") for number in range(4))
    distributed_maps.processor(one_map)
    distributed_maps.full(full_map)
    distributed_maps.guarded(guarded_map)
    distributed_maps.processor(map_of_a_chain, processor=distributed_maps.chain(map_of_a_chain))
    stacks = {
        **examples,
        "bare": bare,
        "full": everything,
        "guarded": shared,
        "pipeline": pipeline,
        "full pipeline": full_pipeline,
        "pipeline of a chain": of_a_chain,
        "error spool": spool,
        "full error spool": full_spool,
        "spool as a handler": handler,
        "map": one_map,
        "full map": full_map,
        "guarded map": guarded_map,
        "map of a chain": map_of_a_chain,
    }
    return {name: template_of(stack) for name, stack in stacks.items()}


@pytest.mark.parametrize("name", NAMES)
def test_cfn_lint(name: str, templates: dict[str, dict[str, Any]]) -> None:
    matches = lint_all(json.dumps(templates[name]))
    # The others are of the kind "I": information.
    found = [str(match) for match in matches if match.rule.id[0] in "EW" and match.rule.id not in CDK_S_OWN]
    assert found == []


def test_cfn_lint_finds_a_mistake(templates: dict[str, dict[str, Any]]) -> None:
    broken = json.loads(json.dumps(templates["bare"]).replace('"TracingConfiguration"', '"Tracing"'))
    assert "E3002" in {match.rule.id for match in lint_all(json.dumps(broken))}


@pytest.mark.parametrize("name", NAMES)
def test_cloudformation_validate(name: str, templates: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    assert grave_diagnostics(templates[name], tmp_path) == []


def test_cloudformation_validate_finds_a_mistake(templates: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    broken = json.loads(json.dumps(templates["bare"]).replace('"TracingConfiguration"', '"Tracing"'))
    assert grave_diagnostics(broken, tmp_path)


def grave_diagnostics(template: dict[str, Any], folder: Path) -> list[str]:
    path = folder / "template.json"
    path.write_text(json.dumps(template))
    diagnostics = CompositeEngine().validate_template(str(path)).diagnostics
    return [f"{one.rule_id}: {one.message}" for one in diagnostics if one.severity in (Severity.FATAL, Severity.ERROR)]


def test_asl_validator(templates: dict[str, dict[str, Any]], app: cdk.App) -> None:
    variants: dict[str, dict[str, Any]] = {
        "Spot": {"capacity": Capacity.SPOT_THEN_ON_DEMAND},
        "Original": {"retry": RETRY_LIKE_THE_ORIGINAL, "fail_execution": False},
        "NoRetry": {"retry": NO_RETRY},
        "SpotForCapacity": {
            "capacity": Capacity.SPOT_THEN_ON_DEMAND,
            "retry": LaunchRetry(throttled=NO_RETRY, never_started=NO_RETRY),
        },
        "SpotOnce": {"capacity": Capacity.SPOT_THEN_ON_DEMAND, "retry": LaunchRetry.never()},
        "Never": {"retry": LaunchRetry.never()},
        "Nobody": {"failure_handlers": []},
        "AllKinds": {
            "retry": LaunchRetry(**dict.fromkeys(("application", "timed_out", "configuration"), RetryPolicy()))
        },
    }
    stacks = []
    for sidecars in ([], ["proxy"]):
        for name, options in variants.items():
            stacks.append(cdk.Stack(app, f"{name}{len(sidecars)}"))
            scheduled(surroundings(stacks[-1], sidecars=sidecars), **options)
    all_templates = [*templates.values(), *map(template_of, stacks)]
    definitions = [definition for template in all_templates for definition in state_machines(template).values()]
    # The example of the semaphore has three of them, that of the spool two, and each of the four pipelines two, as has
    # each of the five maps.
    assert len(definitions) == len(templates) + 2 + 1 + 4 + 5 + 2 * len(variants)
    assert problems_of_all(definitions) == [[]] * len(definitions)

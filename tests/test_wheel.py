"""The library as others get it: built, installed somewhere else, and used by an app that has no checkout."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from constructs_lib import AlertFunction
from tests.templates import REPOSITORY, only, resources

# Building and installing once is enough, however many workers there are.

FUNCTION = "AWS::Lambda::Function"

FOREIGN_APP = """
import json, sys

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2, aws_ecs as ecs, aws_events as events

import constructs_lib


def nightly(stack, *ids):
    cluster = ecs.Cluster(stack, "Cluster", vpc=ec2.Vpc(stack, "Vpc", max_azs=2))
    task_definition = ecs.FargateTaskDefinition(stack, "Task")
    task_definition.add_container("app", image=ecs.ContainerImage.from_registry("example"))
    for id_ in ids:
        constructs_lib.ScheduledStepFunctionsFargateTask(
            stack,
            id_,
            schedule=events.Schedule.cron(minute="0", hour="3"),
            cluster=cluster,
            task_definition=task_definition,
        )


app = cdk.App(outdir=sys.argv[1])
stage = cdk.Stage(app, "Production", env=cdk.Environment(account="111122223333", region="eu-central-1"))
nightly(cdk.Stack(stage, "InAStage"), "Nightly")
nightly(cdk.Stack(app, "OfAnyEnvironment"), "Nightly")
nightly(cdk.Stack(app, "Twice"), "Nightly", "Hourly")
app.synth()
print(json.dumps({"package": constructs_lib.__file__, "modules": sorted(sys.modules)}))
"""


def run(*command: str, cwd: Path, environment: Mapping[str, str] = os.environ) -> str:
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=REPOSITORY)
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip put the wheel into, compiled as pip does it."""
    folder = tmp_path_factory.mktemp("site-packages")
    offline = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    run("-m", "pip", "install", *offline, "--target", str(folder), str(wheel), cwd=folder)
    return folder


class Assembly:
    """What the foreign app synthesized, and what it said of itself."""

    def __init__(self, folder: Path, said: dict[str, Any]) -> None:
        self.folder = folder
        self.package = Path(said["package"])
        self.modules = set(said["modules"])
        self.templates = {
            path.name.split(".")[0]: json.loads(path.read_text()) for path in folder.rglob("*.template.json")
        }

    @property
    def functions(self) -> list[dict[str, Any]]:
        return [each for template in self.templates.values() for each in resources(template, FUNCTION).values()]


@pytest.fixture(scope="module")
def assembly(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "app.py").write_text(FOREIGN_APP)
    elsewhere = os.environ | {"PYTHONPATH": str(installed)}
    said = run("app.py", "cdk.out", cwd=folder, environment=elsewhere)
    return Assembly(folder / "cdk.out", json.loads(said))


def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        [path] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(path).decode())


def asset_of(function: Mapping[str, Any]) -> str:
    return str(function["Code"]["S3Key"]).removesuffix(".zip")


def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()

    assert {name.split("/")[0].split("-")[0] for name in names} == {"constructs_lib"}
    assert {"constructs_lib/py.typed", "constructs_lib/_lambda_src/alert/handler.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_the_wheel_holds_every_source_of_the_checkout(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.endswith(".py")}

    library = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "constructs_lib").rglob("*.py")}
    handlers = {
        f"constructs_lib/_lambda_src/{path.relative_to(REPOSITORY / 'lambda_src').as_posix()}"
        for path in (REPOSITORY / "lambda_src").rglob("*.py")
    }
    assert names == library | handlers


def test_whoever_installs_it_gets_the_cdk_and_nothing_else(wheel: Path) -> None:
    required = metadata(wheel).get_all("Requires-Dist", [])

    at_run_time = [requirement for requirement in required if "extra ==" not in requirement]
    assert sorted(at_run_time) == ["aws-cdk-lib<3,>=2.275", "constructs<11,>=10.5"]


def test_a_foreign_app_uses_what_is_installed_and_no_more(assembly: Assembly, installed: Path) -> None:
    assert assembly.package.is_relative_to(installed)
    assert not assembly.modules & {"boto3", "cdk_nag", "lambda_src", "alert", "embedded_aws", "asl_tools", "demo"}


def test_it_synthesizes_in_a_stage_in_any_environment_and_twice_in_a_stack(assembly: Assembly) -> None:
    functions = {name: len(resources(template, FUNCTION)) for name, template in assembly.templates.items()}

    assert functions == {"ProductionInAStageE4CC751C": 1, "OfAnyEnvironment": 1, "Twice": 2}


def test_every_function_finds_its_handler_in_its_asset(assembly: Assembly) -> None:
    for function in assembly.functions:
        module = Path(*function["Handler"].split(".")[:-1]).with_suffix(".py")
        assert (assembly.folder / f"asset.{asset_of(function)}" / module).is_file()


def test_the_asset_is_that_of_the_checkout_whatever_python_leaves_behind(
    assembly: Assembly, installed: Path, stack: cdk.Stack
) -> None:
    AlertFunction(stack, "Alert")
    ours = only(Template.from_stack(stack).to_json(), FUNCTION)

    assert list((installed / "constructs_lib" / "_lambda_src").rglob("*.pyc")), "pip is expected to compile"
    assert {asset_of(theirs) for theirs in assembly.functions} == {asset_of(ours)}

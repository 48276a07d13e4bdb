"""What is public, and who may import whom."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import constructs_lib
from tests.templates import REPOSITORY

LIBRARY = REPOSITORY / "constructs_lib"
HANDLERS = REPOSITORY / "lambda_src"

# The run-time dependencies of the published package; jsii comes with the CDK, which is made with it.
MAY_BE_NEEDED = {"aws_cdk", "constructs", "jsii"}
PROVIDED_BY_LAMBDA = {"boto3", "botocore"}
IMPURE = {"boto3", "botocore", "logging", "os", "random", "socket", "time"}


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(module: Path) -> Iterator[str]:
    """The modules that a module imports, relative ones with their dots."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def from_elsewhere(module: Path) -> set[str]:
    """The packages that are neither Python's own nor imported relatively."""
    packages = {name.partition(".")[0] for name in imports(module) if not name.startswith(".")}
    return packages - set(sys.stdlib_module_names)


def ids(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_all_is_sorted_and_true() -> None:
    # Constants first, as the formatter has it.
    assert constructs_lib.__all__ == sorted(constructs_lib.__all__, key=lambda name: (not name.isupper(), name))
    public = {
        name
        for name, value in vars(constructs_lib).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(constructs_lib.__all__)


def test_everything_public_is_explained() -> None:
    for name in constructs_lib.__all__:
        value = getattr(constructs_lib, name)
        # A constant is explained by a string below it, which Python forgets.
        assert not isinstance(value, type) or (value.__doc__ or "").strip(), name


def test_the_package_is_typed() -> None:
    assert (LIBRARY / "py.typed").is_file()


@pytest.mark.parametrize("module", modules(LIBRARY), ids=ids)
def test_the_library_needs_the_cdk_only(module: Path) -> None:
    assert from_elsewhere(module) <= MAY_BE_NEEDED


@pytest.mark.parametrize("module", modules(LIBRARY / "parts"), ids=ids)
def test_parts_know_nothing_of_the_constructs_that_use_them(module: Path) -> None:
    assert not [name for name in imports(module) if name.startswith("..")]


@pytest.mark.parametrize(
    "module", [path for path in modules(LIBRARY) if path.parent == LIBRARY and path.name != "__init__.py"], ids=ids
)
def test_constructs_know_parts_and_not_each_other(module: Path) -> None:
    assert all(name.startswith(".parts.") for name in imports(module) if name.startswith("."))


@pytest.mark.parametrize("module", modules(HANDLERS), ids=ids)
def test_handlers_need_nothing_that_lambda_does_not_provide(module: Path) -> None:
    own = {path.stem for path in HANDLERS.iterdir()}
    assert from_elsewhere(module) <= PROVIDED_BY_LAMBDA | own


def test_what_decides_does_not_call_aws_nor_look_at_the_clock() -> None:
    """Modules that say of themselves that they are pure; every package of handlers has one."""
    pure = [module for module in modules(HANDLERS) if re.search(r"\bPure\b", module.read_text())]
    packages = {folder for folder in HANDLERS.iterdir() if folder.is_dir()} - {HANDLERS / "__pycache__"}
    assert {module.parent for module in pure} - {HANDLERS} == packages
    for module in pure:
        assert not {name.partition(".")[0] for name in imports(module)} & IMPURE, module


@pytest.mark.parametrize("module", modules(REPOSITORY / "stacks"), ids=ids)
def test_examples_use_the_public_api_only(module: Path) -> None:
    assert not [name for name in imports(module) if name.startswith("constructs_lib.")]

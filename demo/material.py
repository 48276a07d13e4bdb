"""The files that the demo works on, and the demo's own reckoning of what is in them."""

import asyncio
import encodings
import hashlib
import json
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoError


@dataclass(frozen=True)
class Inventory:
    """What a run of the sample job over a folder must come to."""

    files: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Material:
    """Folders by absolute path, as the tasks see them too.

    Attributes:
        folder: The input of the demo.
        inventory: What is in it.
        other: A second folder, for runs that are told to read something else.
        empty: A folder with nothing in it.
    """

    folder: Path
    inventory: Inventory
    other: Path
    other_inventory: Inventory
    empty: Path

    def timeout_seconds(self, *, in_containers: bool) -> int:
        """How long one run may take: enough for a machine that is busy, and more where there is more to read."""
        start = 40 if in_containers else 30
        return start + self.inventory.size // 5_000_000 + self.inventory.files // 1_000


def prepare(build: Path, folder: Path | None) -> Material:
    """Makes the folders below `build` that are missing, and takes stock of all of them.

    Args:
        build: Where the demo may write.
        folder: The input; None for files that are on every machine, a part of Python's standard library.

    Raises:
        DemoError: `folder` is no folder, has no files, or cannot be read.
    """
    if folder is None:
        folder = _copy_of_standard_library(build / "input")
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise DemoError(f"INPUT is not a folder: {folder}")
    try:
        inventory = take_inventory(folder)
    except OSError as error:
        raise DemoError(f"INPUT cannot be read: {error}") from error
    if inventory.files == 0:
        raise DemoError(f"INPUT has no files in it: {folder}")

    other = _fresh(build / "other-input")
    for name, text in {"a.txt": "first\n", "b.txt": "second\n", "deeper/c.txt": "third\n"}.items():
        path = other / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return Material(folder, inventory, other, take_inventory(other), _fresh(build / "empty-input"))


def take_inventory(folder: Path) -> Inventory:
    """Counts the files below `folder`, symbolic links left out, and digests the digests of their contents."""
    digest = hashlib.sha256()
    files = size = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            digest.update(hashlib.sha256(content).digest())
            files, size = files + 1, size + len(content)
    return Inventory(files, size, digest.hexdigest())


def _copy_of_standard_library(target: Path) -> Path:
    # A copy, because Python may write byte code into the original while the demo runs.
    _fresh(target)
    for package in (asyncio, encodings, json):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, target / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for module in Path(sysconfig.get_path("stdlib")).glob("*.py"):
        shutil.copy(module, target)
    return target


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder.resolve()

"""The objects that the pipeline gets: files of the input, and what has to become of each of them."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LARGEST, MOST_BYTES = 50_000_000, 500_000_000
"""Of one object, and of all together. The job reads an object as a whole; the embedded AWS keeps all in memory."""

_LONGEST_KEY = 1024
"""Bytes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""


@dataclass(frozen=True)
class Original:
    """What is uploaded, and what the job must say of it.

    Attributes:
        key: The object's key.
        content: Its bytes.
    """

    key: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def is_sound(self) -> bool:
        """Whether the job takes it: only JSON that cannot be read is refused."""
        if not self.key.endswith(".json"):
            return True
        try:
            json.loads(self.content)
        except (ValueError, RecursionError):
            return False
        return True


@dataclass(frozen=True)
class Selection:
    """Files of a folder that can be objects.

    Attributes:
        folder: The folder.
        paths: The files, in the order of their paths.
        unfit: How many files before the last of them are too large, or have a name that cannot be a key.
        others: How many files come after them.
    """

    folder: Path
    paths: tuple[Path, ...]
    unfit: int
    others: int

    def originals(self, prefix: str) -> Iterable[Original]:
        """What to upload, one after the other. A key is a file's path in the folder, behind a prefix."""
        for path in self.paths:
            yield Original(prefix + path.relative_to(self.folder).as_posix(), path.read_bytes())

    def __str__(self) -> str:
        count = f"{len(self.paths):,}"
        told = f"the first {count} files, {self.others:,} more are left out" if self.others else f"all {count} files"
        return f"{told}; {self.unfit:,} cannot be objects here" if self.unfit else told


def select(folder: Path, *, most: int, most_bytes: int = MOST_BYTES) -> Selection:
    """Chooses the first files below `folder`, at most so many, and of so many bytes together.

    Symbolic links are left out, and so is what cannot be an object.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    paths: list[Path] = []
    size = unfit = 0
    for number, path in enumerate(files):
        if not _fits(path, folder):
            unfit += 1
            continue
        size += path.stat().st_size
        if len(paths) == most or size > most_bytes:
            return Selection(folder, tuple(paths), unfit=unfit, others=len(files) - number)
        paths.append(path)
    return Selection(folder, tuple(paths), unfit=unfit, others=0)


def _fits(path: Path, folder: Path) -> bool:
    try:
        key = path.relative_to(folder).as_posix().encode()
    except UnicodeEncodeError:
        return False
    # There is room for a prefix.
    return len(key) <= _LONGEST_KEY - 100 and path.stat().st_size <= LARGEST

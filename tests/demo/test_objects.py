"""Which files become objects, and what is expected of each."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from demo import objects
from demo.objects import Original, Selection, select


def write(folder: Path, **sizes: int) -> None:
    for name, size in sizes.items():
        (folder / name).write_bytes(b"x" * size)


def names(selection: Selection) -> list[str]:
    return [path.name for path in selection.paths]


def test_all_files_become_objects_under_their_paths(tmp_path: Path) -> None:
    (tmp_path / "deep er").mkdir()
    (tmp_path / "deep er" / "ä+%.txt").write_text("deep")
    (tmp_path / "a").write_text("top")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    selection = select(tmp_path, most=10)
    assert list(selection.originals("in/")) == [Original("in/a", b"top"), Original("in/deep er/ä+%.txt", b"deep")]
    assert str(selection) == "all 2 files"


def test_the_first_files_are_taken_and_the_others_counted(tmp_path: Path) -> None:
    write(tmp_path, a=1, b=1, c=1, d=1, e=1)
    selection = select(tmp_path, most=3)
    assert names(selection) == ["a", "b", "c"]
    assert str(selection) == "the first 3 files, 2 more are left out"


def test_as_many_files_as_there_may_be_are_all_of_them(tmp_path: Path) -> None:
    write(tmp_path, a=1, b=1, c=1)
    assert str(select(tmp_path, most=3)) == "all 3 files"


def test_all_together_stay_within_what_fits_into_memory(tmp_path: Path) -> None:
    write(tmp_path, a=4, b=6, c=1)
    assert names(select(tmp_path, most=10, most_bytes=10)) == ["a", "b"]
    assert names(select(tmp_path, most=10, most_bytes=11)) == ["a", "b", "c"]


def test_what_cannot_be_an_object_is_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "LARGEST", 5)
    write(tmp_path, a=1, large=6, z=5)
    deep = tmp_path.joinpath(*["n" * 200] * 5)
    deep.mkdir(parents=True)
    write(deep, file=1)
    expected = 2
    if sys.platform == "linux":
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_text("a name in no known encoding")
        expected = 3
    selection = select(tmp_path, most=10)
    assert names(selection) == ["a", "z"]
    assert str(selection) == f"all 2 files; {expected} cannot be objects here"


def test_no_file_fits(tmp_path: Path) -> None:
    assert str(select(tmp_path, most=10)) == "all 0 files"


def test_the_digest_is_that_of_the_content() -> None:
    assert Original("a", b"content").sha256 == hashlib.sha256(b"content").hexdigest()


@pytest.mark.parametrize(
    ("key", "content", "is_sound"),
    [
        ("a.json", b"{}", True),
        ("a.json", "\ufeff[1]".encode(), True),
        ("a.json", b"{", False),
        ("a.json", b"", False),
        ("a.json", b"\xff\xfe\xfa", False),
        ("a.json", b"[" * 100_000, False),
        ("a.JSON", b"{", True),
        ("a.txt", b"{", True),
    ],
)
def test_only_json_that_cannot_be_read_is_not_sound(key: str, content: bytes, is_sound: bool) -> None:
    assert Original(key, content).is_sound is is_sound

"""The demo's own reckoning of the input, and the input that it makes if none is given."""

import hashlib
from pathlib import Path

from demo.material import Inventory, Material, prepare, take_inventory


def digest(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()


def test_inventory_counts_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"later")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "deep").write_bytes(b"earlier")
    assert take_inventory(tmp_path) == Inventory(files=2, size=12, sha256=digest(b"earlier", b"later"))


def test_inventory_leaves_links_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"once")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert take_inventory(tmp_path) == Inventory(1, 4, digest(b"once"))


def test_default_input_is_the_same_from_run_to_run(tmp_path: Path) -> None:
    first = prepare(tmp_path, None)
    second = prepare(tmp_path, None)
    assert first == second
    assert first.inventory.files >= 300
    assert not list(first.folder.rglob("*.pyc"))


def test_given_input_is_used_where_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "ä.txt").write_text("text")
    material = prepare(tmp_path / "build", folder)
    assert material.folder == folder.resolve()
    assert material.inventory.files == 1


def test_other_folders_hold_what_they_say(tmp_path: Path) -> None:
    material = prepare(tmp_path, None)
    assert material.other_inventory == Inventory(3, 19, digest(b"first\n", b"second\n", b"third\n"))
    assert take_inventory(material.empty).files == 0


def test_more_to_read_may_take_longer(tmp_path: Path) -> None:
    def timeout(inventory: Inventory, *, in_containers: bool = False) -> int:
        material = Material(tmp_path, inventory, tmp_path, inventory, tmp_path)
        return material.timeout_seconds(in_containers=in_containers)

    little = Inventory(1, 1, "")
    assert timeout(little) < timeout(Inventory(1, 10**9, ""))
    assert timeout(little) < timeout(Inventory(10**5, 1, ""))
    assert timeout(little) < timeout(little, in_containers=True)

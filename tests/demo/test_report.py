"""The report file has what its readers were promised; the table fits the terminal."""

import json
from pathlib import Path

from demo.play import Outcome, Record
from demo.report import table, write_json

FINE = Outcome("part/fine", {"launches": 1}, {"launches": 1}, "", 1.26, Record())
WRONG = Outcome("part/wrong", {"launches": 3, "digest": "f" * 64}, {"launches": 2, "extra": "x"}, "", 2, Record())
BROKEN = Outcome("part/broken", {"launches": 1}, None, "TimeoutError: " + "too late " * 30, 3, Record())


def test_json_has_one_entry_for_each_scenario(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json([FINE, WRONG, BROKEN], path)
    entries = json.loads(path.read_text())
    assert [(entry["name"], entry["ok"]) for entry in entries] == [
        ("part/fine", True),
        ("part/wrong", False),
        ("part/broken", False),
    ]
    assert entries[1]["expected"] == f"launches: 3; digest: {'f' * 64}"
    assert entries[1]["observed"] == "launches: 2; extra: x"
    assert entries[2]["observed"].startswith("TimeoutError: too late")
    assert entries[0]["seconds"] == 1.3


def test_table_marks_each_fact() -> None:
    lines = table([FINE, WRONG], 100).splitlines()
    words = [line.split() for line in lines]
    assert ["ok", "part/fine"] in words
    assert ["NO", "part/wrong"] in words
    assert ["NO", "launches", "3", "2"] in words
    assert ["NO", "extra", "-", "x"] in words


def test_table_fits_the_width() -> None:
    for width in (80, 100, 120):
        assert max(map(len, table([FINE, WRONG, BROKEN], width).splitlines())) <= width


def test_table_says_why_a_scenario_broke_off() -> None:
    assert "broke off: TimeoutError: too late" in table([BROKEN], 100)

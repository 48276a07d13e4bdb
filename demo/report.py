"""The report as a file for programs and as a table for the terminal."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

from demo.play import Outcome

_MARKS = {True: "ok", False: "NO"}
_GAP = 2


def write_json(outcomes: Sequence[Outcome], path: Path) -> None:
    """One entry for each scenario, with `name`, `expected`, `observed` and `ok`."""
    entries = [
        {
            "name": outcome.name,
            "expected": outcome.expected,
            "observed": outcome.observed,
            "ok": outcome.ok,
            "seconds": round(outcome.seconds, 1),
            "executions": [run.arn for run in outcome.record.runs],
        }
        for outcome in outcomes
    ]
    path.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def table(outcomes: Sequence[Outcome], width: int = 110) -> str:
    """What was expected and what was seen, side by side."""
    blocks = [_block(outcome, width) for outcome in outcomes]
    head = _row("", "", "expected", "seen", width)
    return "\n".join([*head, *(line for block in blocks for line in ["", *block])])


def rows(outcome: Outcome) -> list[tuple[str, str, str, bool]]:
    """Name, what was expected, what was seen and whether that is the same, for each fact."""
    seen = outcome.seen or {}
    names = list(dict.fromkeys([*outcome.wanted, *seen]))
    return [
        (name, str(outcome.wanted.get(name, "-")), str(seen.get(name, "-")), outcome.wanted.get(name) == seen.get(name))
        for name in names
    ]


def _block(outcome: Outcome, width: int) -> list[str]:
    lines = [f"{_MARKS[outcome.ok]}  {outcome.name}"]
    for name, expected, seen, ok in rows(outcome):
        lines += _row(_MARKS[ok], name, expected, seen, width)
    if outcome.error:
        lines += textwrap.wrap(outcome.error, width, initial_indent="    broke off: ", subsequent_indent="    ")
    return lines


def _row(mark: str, name: str, expected: str, seen: str, width: int) -> list[str]:
    first, second = 4, 28
    value = (width - first - second - 2 * _GAP) // 2
    cells = [[mark], textwrap.wrap(name, second), textwrap.wrap(expected, value), textwrap.wrap(seen, value)]
    widths = (first - _GAP, second, value, value)
    lines = []
    for number in range(max(map(len, cells))):
        texts = [cell[number] if number < len(cell) else "" for cell in cells]
        lines.append((" " * _GAP).join(text.ljust(size) for text, size in zip(texts, widths, strict=True)).rstrip())
    return lines

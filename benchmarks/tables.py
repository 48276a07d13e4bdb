"""How figures are printed: as a table in Markdown."""

from collections.abc import Iterable, Sequence


def markdown(head: Iterable[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table whose columns are as wide as what is in them."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]

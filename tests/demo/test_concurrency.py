"""How many were at work at once is counted as it was, and drawn as it was counted."""

import re
from xml.etree import ElementTree

import pytest

from demo import concurrency
from demo.concurrency import Level, levels, overtakers, peak
from demo.runs import Run, Step


def run(started: float, granted: float, ended: float) -> Run:
    """An execution that waited from its start until it was granted a permit, and then worked; all in the same clock."""
    steps = [
        Step("waited", 0, granted - started, True, "permit"),
        Step("task", granted - started, ended - started, True, "exit code 0"),
    ]
    return Run("arn", "run", "SUCCEEDED", "none", "{}", {}, started, ended - started, steps, {})


def test_each_change_has_its_level() -> None:
    assert levels([run(100, 101, 103), run(100.5, 102, 104)]) == [
        Level(0, 0, 1),
        Level(0.5, 0, 2),
        Level(1, 1, 1),
        Level(2, 2, 0),
        Level(3, 1, 0),
        Level(4, 0, 0),
    ]


def test_those_who_overlap_are_counted_together() -> None:
    assert peak([run(0, 0, 10), run(1, 1, 3), run(2, 2, 4), run(5, 5, 6)]) == 3


def test_who_comes_as_another_one_leaves_is_not_beside_it() -> None:
    assert peak([run(0, 0, 5), run(1, 5, 9)]) == 1


def test_a_run_that_never_worked_counts_as_nobody() -> None:
    waited = Run("arn", "run", "ABORTED", "none", "{}", {}, 0, 9, [Step("waited", 0, 9, False, "aborted")], {})
    assert peak([waited]) == 0
    assert max(level.waiting for level in levels([waited])) == 1


def test_nobody_is_overtaken_in_the_order_of_starts() -> None:
    assert overtakers([run(2, 5, 6), run(0, 1, 2), run(1, 3, 4)]) == [0, 0, 0]


def test_one_is_overtaken_by_each_that_started_later_and_was_let_in_earlier() -> None:
    assert overtakers([run(0, 8, 9), run(1, 2, 3), run(2, 9, 10), run(3, 4, 5)]) == [2, 0, 1, 0]


@pytest.mark.parametrize("seconds", [0.0, 0.3, 7, 5_000])
def test_the_drawing_is_well_formed_and_stays_within_its_bounds(seconds: float) -> None:
    svg = concurrency.to_svg([run(100, 100, 100 + seconds)] * 40, 3)
    ElementTree.fromstring(svg)
    across = [float(x) for x in re.findall(r"H([\d.]+)", svg)]
    up = [float(y) for y in re.findall(r"V([\d.]+)", svg)]
    assert min(across) >= concurrency.LEFT
    assert max(across) <= concurrency.WIDTH - concurrency.RIGHT
    assert min(up) >= concurrency.TOP
    assert max(up) <= concurrency.HEIGHT - concurrency.BOTTOM


def test_more_than_the_limit_is_drawn_above_its_line() -> None:
    svg = concurrency.to_svg([run(0, 0, 5)] * 4, 3)
    [line] = re.findall(r'class="limit"[^>]* y1="([\d.]+)"', svg)
    assert min(float(y) for y in re.findall(r"V([\d.]+)", svg)) < float(line)
    assert "At work at once: 4 of 3" in svg


def test_a_crowd_that_waits_does_not_flatten_those_at_work() -> None:
    svg = concurrency.to_svg([run(0, number, number + 1) for number in range(100)], 2)
    ElementTree.fromstring(svg)
    assert "99 waiting" in svg
    [line] = re.findall(r'class="limit"[^>]* y1="([\d.]+)"', svg)
    middle = concurrency.TOP + (concurrency.HEIGHT - concurrency.TOP - concurrency.BOTTOM) / 2
    assert float(line) < middle
    # The line of those who wait begins at the bottom, and has the whole height.
    [waiting] = re.findall(r'class="waiting" d="([^"]+)"', svg)
    up = [float(y) for y in re.findall(r"V([\d.]+)", waiting)]
    assert (min(up), max(up)) == (concurrency.TOP, concurrency.HEIGHT - concurrency.BOTTOM)


def test_every_mark_is_explained() -> None:
    svg, legend = concurrency.to_svg([run(0, 1, 2)], 3), concurrency.legend()
    for mark in ("working", "waiting", "limit"):
        assert f'class="{mark}"' in svg
        assert f'class="{mark}"' in legend

"""How many executions were at work at once, measured from their histories: as numbers, and as an SVG image."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from demo.runs import Run
from demo.timeline import as_list, ticks

# All in pixels.
WIDTH, HEIGHT = 1100, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 130, 14, 30
_MOST_LABELS = 12

_CROWD = 10
"""Times the limit: when more wait, their line would leave nothing to be seen of those at work."""


@dataclass(frozen=True)
class Level:
    """From a moment on, in seconds since the first start, so many are at work, and so many wait for a permit."""

    at: float
    working: int
    waiting: int


def levels(runs: Sequence[Run]) -> list[Level]:
    """The level after each change, in the order of time, from the first start on."""
    begin = min((run.started for run in runs), default=0.0)
    working: Counter[float] = Counter({0.0: 0})
    waiting: Counter[float] = Counter()
    for run in runs:
        for step in run.steps:
            if step.kind in ("task", "waited"):
                changes = working if step.kind == "task" else waiting
                # As fine as a history is. Who leaves at the moment at which another one enters makes room for it.
                changes[round(run.started + step.start - begin, 3)] += 1
                changes[round(run.started + step.end - begin, 3)] -= 1
    moments = sorted({*working, *waiting})
    return [
        Level(at, work, wait)
        for at, work, wait in zip(
            moments,
            accumulate(working[at] for at in moments),
            accumulate(waiting[at] for at in moments),
            strict=True,
        )
    ]


def peak(runs: Sequence[Run]) -> int:
    """The most that were at work at once."""
    return max(level.working for level in levels(runs))


def overtakers(runs: Iterable[Run]) -> list[int]:
    """How many that started later got their permit earlier, for each run, in the order of their starts."""
    in_order = sorted(runs, key=lambda run: run.started)
    granted = [run.started + step.end for run in in_order for step in run.steps if step.kind == "waited"]
    return [sum(later < one for later in granted[place + 1 :]) for place, one in enumerate(granted)]


def to_svg(runs: Sequence[Run], limit: int) -> str:
    """Those at work as an area, those who wait as a line, and the limit. The colours come from the page.

    Where far more wait than may be at work, the line has a scale of its own, and says how many they are at its top.
    """
    course = levels(runs)
    end = course[-1].at or 1.0
    most_waiting = max(level.waiting for level in course)
    crowded = most_waiting > _CROWD * limit
    top = max(limit, peak(runs), 0 if crowded else most_waiting) + 0.5
    across, up = (WIDTH - LEFT - RIGHT) / end, (HEIGHT - TOP - BOTTOM) / top
    floor = HEIGHT - BOTTOM

    def steps(values: Iterable[tuple[float, int]], up: float) -> str:
        """A line that goes along, and then up or down."""
        path = f"M{LEFT},{floor}"
        for at, value in values:
            path += f" H{LEFT + at * across:.1f} V{floor - value * up:.1f}"
        return path

    def labels() -> Iterable[str]:
        every = -(-int(top) // _MOST_LABELS)
        for value in range(0, int(top) + 1, every):
            y = floor - value * up + 4
            yield f'<text class="quiet" x="{LEFT - 10}" y="{y:.1f}" text-anchor="end">{value}</text>'
        for at in ticks(end):
            x = LEFT + at * across
            yield f'<text class="quiet" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{at:g} s</text>'

    line = floor - limit * up
    up_waiting = (HEIGHT - TOP - BOTTOM) / most_waiting if crowded else up
    beside = WIDTH - RIGHT + 10
    crowd = f'<text class="crowd" x="{beside}" y="{TOP + 4}">{most_waiting} waiting</text>' if crowded else ""
    return (
        f'<svg class="timeline" role="img" aria-label="At work at once: {peak(runs)} of {limit}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>'
        f'<path class="working" d="{steps(((level.at, level.working) for level in course), up)}"/>'
        f'<path class="waiting" d="{steps(((level.at, level.waiting) for level in course), up_waiting)}"/>'
        f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{line:.1f}" y2="{line:.1f}"/>'
        f'<text class="quiet" x="{beside}" y="{max(line, TOP + 14) + 4:.1f}">limit {limit}</text>'
        f"{crowd}"
        f"{''.join(labels())}</svg>"
    )


def legend() -> str:
    """What the lines mean, as HTML."""
    return as_list(
        (
            ('<rect class="working" x="-14" y="-7" width="28" height="14"/>', "at work"),
            ('<path class="waiting" d="M-14,0 H14"/>', "waiting for a permit"),
            ('<line class="limit" x1="-14" x2="14" y1="0" y2="0"/>', "the limit"),
        )
    )

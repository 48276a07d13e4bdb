"""Draws what happened when, as an SVG image: a bar for each execution, with its launches, pauses and alerts."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from demo.runs import Run, Step

# All in pixels.
WIDTH, LABELS, ENDS = 1100, 250, 200
TOP, ROW = 34, 40
_TICKS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_MOST_TICKS = 12


def to_svg(runs: Sequence[Run]) -> str:
    """All runs on one time scale; each begins at zero. The colours come from the page."""
    longest = max((run.seconds for run in runs), default=1.0) or 1.0
    scale = (WIDTH - LABELS - ENDS) / longest
    height = TOP + ROW * len(runs) + 8
    body = [*_axis(longest, scale, height)]
    for number, run in enumerate(runs):
        body += _row(run, TOP + ROW * number + ROW / 2, scale)
    return (
        f'<svg class="timeline" role="img" aria-label="Timeline of the executions" viewBox="0 0 {WIDTH} {height}">'
        f"{''.join(body)}</svg>"
    )


def ticks(longest: float) -> list[float]:
    """The seconds to mark on an axis of so many seconds."""
    tick = next((tick for tick in _TICKS if longest / tick <= _MOST_TICKS), longest / _MOST_TICKS)
    return [number * tick for number in range(int(longest / tick) + 1)]


def _axis(longest: float, scale: float, height: float) -> Iterator[str]:
    for seconds in ticks(longest):
        x = LABELS + seconds * scale
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 8:.1f}"/>'
        yield f'<text class="quiet" x="{x:.1f}" y="{TOP - 16}" text-anchor="middle">{seconds:g} s</text>'


def _row(run: Run, y: float, scale: float) -> Iterator[str]:
    end = LABELS + run.seconds * scale
    told = any(step.kind == "told" for step in run.steps)
    state = "good" if run.status == "SUCCEEDED" else "bad"
    launches = sum(step.kind in ("task", "refused") for step in run.steps)
    yield f'<text class="label" x="{LABELS - 14}" y="{y + 4:.1f}" text-anchor="end">{escape(run.label)}</text>'
    yield f'<rect class="execution" x="{LABELS}" y="{y - 2:.1f}" width="{end - LABELS:.1f}" height="4" rx="2"/>'
    for step in sorted(run.steps, key=lambda step: step.kind != "pause"):
        yield _mark(step, y, scale)
    how = f"{run.seconds:.1f} s, {launches} launch{'' if launches == 1 else 'es'}"
    yield (
        f'<text x="{end + (34 if told else 12):.1f}" y="{y + 4:.1f}">'
        f'<tspan class="{state}">{escape(run.status)}</tspan><tspan class="quiet"> {how}</tspan></text>'
    )


def _mark(step: Step, y: float, scale: float) -> str:
    x, width = LABELS + step.start * scale, max((step.end - step.start) * scale, 4)
    title = f"<title>{escape(step.text)}, from {step.start:.2f} s to {step.end:.2f} s</title>"
    match step.kind:
        case "task":
            state = "ran" if step.ok else "broke"
            place = f'x="{x:.1f}" y="{y - 9:.1f}" width="{width:.1f}" height="18" rx="3"'
            return f'<rect class="{state}" {place}>{title}</rect>'
        case "pause":
            return f'<line class="pause" x1="{x:.1f}" x2="{x + width:.1f}" y1="{y:.1f}" y2="{y:.1f}">{title}</line>'
        case "waited":
            place = f'x="{x:.1f}" y="{y - 6:.1f}" width="{width:.1f}" height="12" rx="3"'
            return f'<rect class="waited" {place}>{title}</rect>'
        case "refused":
            return f'<g class="refused" transform="translate({x:.1f},{y:.1f})">{title}{CROSS}</g>'
        case "told":
            # Beside the bar, so that it does not hide the launch that it tells of.
            x = LABELS + step.end * scale + 16
            return f'<g class="told" transform="translate({x:.1f},{y:.1f})">{title}{BELL}</g>'


CROSS = '<circle r="9"/><path d="M-4,-4 L4,4 M4,-4 L-4,4"/>'
BELL = '<circle r="9"/><path d="M0,-5 V1 M0,4 V4.2"/>'


def legend() -> str:
    """What the marks mean, as HTML."""
    entries = (
        ('<rect class="ran" x="-14" y="-7" width="28" height="14" rx="3"/>', "the task ran, and ended well"),
        ('<rect class="broke" x="-14" y="-7" width="28" height="14" rx="3"/>', "it ran, and did not"),
        (f'<g class="refused">{CROSS}</g>', "no container came to run"),
        ('<line class="pause" x1="-14" x2="14" y1="0" y2="0"/>', "pause before the next launch"),
        ('<rect class="waited" x="-14" y="-6" width="28" height="12" rx="3"/>', "waiting for a permit"),
        (f'<g class="told">{BELL}</g>', "alert"),
    )
    return as_list(entries)


def as_list(entries: Iterable[tuple[str, str]]) -> str:
    """Marks, 28 by 18 around the origin at the most, and what they mean, as HTML."""
    items = (
        f'<li><svg class="timeline key" viewBox="-16 -11 32 22" width="32" height="22" aria-hidden="true">{mark}</svg>'
        f"{text}</li>"
        for mark, text in entries
    )
    return f'<ul class="legend">{"".join(items)}</ul>'

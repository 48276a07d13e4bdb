"""Draws a definition: as Mermaid text, which GitHub and many editors show, or as an SVG image."""

import textwrap
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from asl_tools.layout import Box, Route, Size, layout
from asl_tools.states import edges, is_end, nested_machines

MERMAID_SHAPES = {"Choice": ("{", "}"), "Wait": ("([", "])"), "Fail": ("[[", "]]"), "Succeed": ("([", "])")}
MERMAID_LABEL = 60  # characters

# All in pixels; the widths of letters are estimates on the safe side, as no font is known here.
NAME_LETTER, NAME_LINE, NAME_LETTERS = 7.3, 16, 22
CAPTION_LETTER, CAPTION_LINE = 5.9, 16
LABEL_LETTER, LABEL_LINE, LABEL_LETTERS, LABEL_LINES = 6.1, 13, 28, 3
PADDING, MARGIN, START_ROOM, LEGEND_ROOM = 12, 16, 34, 30

STYLE = """
.asl text{font:10px ui-sans-serif,system-ui,"Segoe UI","DejaVu Sans",sans-serif;fill:#59636e}
.asl .name{font-size:13px;font-weight:600;fill:#1f2328}
.asl .label text{font:10px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#1f2328}
.asl .card{fill:#fff;stroke:#d1d9e0}
.asl .group{fill:#818b98;fill-opacity:.07}
.asl .label rect{fill:#f6f8fa;stroke:#d1d9e0;stroke-width:.75}
.asl .edge path{fill:none;stroke:#818b98;stroke-width:1.4}
.asl .edge polygon,.asl .start circle{fill:#818b98}
.asl .catch path{stroke:#cf222e;stroke-dasharray:1.5 4;stroke-width:1.8;stroke-linecap:round}
.asl .catch polygon{fill:#cf222e}
.asl .end circle{fill:#fff;stroke:#59636e;stroke-width:1.5}
.asl .end .dot{fill:#59636e;stroke:none}
.asl .visited>.card{stroke-width:2.5}
.asl .badge text{fill:#fff;font-weight:700}
.asl .faded{opacity:.4}.asl .faded .faded{opacity:1}
@media(prefers-color-scheme:dark){
.asl text{fill:#9198a1}.asl .name,.asl .label text{fill:#f0f6fc}.asl .badge text{fill:#fff}
.asl .card{fill:#161b22;stroke:#3d444d}.asl .group{fill:#9198a1;fill-opacity:.07}
.asl .label rect{fill:#0d1117;stroke:#3d444d}
.asl .end circle{fill:#161b22;stroke:#9198a1}.asl .end .dot{fill:#9198a1}
}"""
COLOURS = {
    "Task": "#2f6feb",
    "Choice": "#bf8700",
    "Wait": "#8250df",
    "Pass": "#6e7781",
    "Succeed": "#1a7f37",
    "Fail": "#cf222e",
    "Parallel": "#0a7ea4",
    "Map": "#0a7ea4",
}


def to_mermaid(definition: Mapping[str, Any]) -> str:
    """A Mermaid flowchart: Parallel and Map as subgraphs, Catch as dotted edges."""
    return "\n".join(["flowchart TD", *_mermaid_machine(definition, "  ", {})]) + "\n"


def _mermaid_machine(machine: Mapping[str, Any], indent: str, ids: dict[str, str]) -> Iterator[str]:
    start = f"start{len(ids)}"
    for name, state in machine["States"].items():
        # A state's name may hold anything, an id may not.
        ids[name] = f"s{len(ids)}"
        type_ = state["Type"]
        if inner := nested_machines(state):
            yield f"{indent}subgraph {ids[name]}[{_quoted(f'{name} ({type_})')}]"
            for branch in inner:
                yield from _mermaid_machine(branch, indent + "  ", ids)
            yield f"{indent}end"
        else:
            opening, closing = MERMAID_SHAPES.get(type_, ("[", "]"))
            yield f"{indent}{ids[name]}{opening}{_quoted(name)}{closing}"
    yield f"{indent}{start}((start)) --> {ids[machine['StartAt']]}"
    for edge in edges(machine):
        arrow = "-.->" if edge.kind == "catch" else "-->"
        label = f"|{_quoted(_short(' or '.join(edge.labels), MERMAID_LABEL))}|" if edge.labels else ""
        yield f"{indent}{ids[edge.source]} {arrow}{label} {ids[edge.target]}"


def _quoted(text: str) -> str:
    return '"' + text.replace("#", "#35;").replace('"', "#quot;") + '"'


def to_svg(definition: Mapping[str, Any], visits: Mapping[str, int] | None = None) -> str:
    """An SVG image that stands alone or in an HTML page: it runs and loads nothing, and is light or dark as the
    reader's system.

    Args:
        definition: plain ASL, in JSONPath or JSONata.
        visits: how often a run entered each state: these are marked with the number, all others fade.
    """
    size, body = _machine(definition, visits)
    width, height = size.width + 2 * MARGIN, size.height + 2 * MARGIN + LEGEND_ROOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="asl" role="img" aria-label="State machine" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="max-width:100%;height:auto"><style>{STYLE}</style>'
        f'<g transform="translate({MARGIN},{MARGIN})">{body}</g>{_legend(height)}</svg>\n'
    )


def _machine(machine: Mapping[str, Any], visits: Mapping[str, int] | None) -> tuple[Size, str]:
    """One machine, drawn from 0, 0 on."""
    states = machine["States"]
    inner = {name: [_machine(branch, visits) for branch in nested_machines(states[name])] for name in states}
    labels = {edge: lines for edge in edges(machine) if (lines := _label_lines(edge.labels))}
    plan = layout(
        machine["StartAt"],
        {name: _state_size(name, states[name], [size for size, _ in inner[name]]) for name in states},
        edges(machine),
        {edge: _label_size(lines) for edge, lines in labels.items()},
    )
    parts = [_start(plan.states[machine["StartAt"]], plan.top)]
    for route in plan.routes:
        faded = visits is not None and not (visits.get(route.edge.source) and visits.get(route.edge.target))
        parts.append(_edge(route, labels.get(route.edge, []), faded=faded))
    for name, box in plan.states.items():
        parts.append(_state(name, states[name], box, inner[name], visits))
    size = Size(plan.size.width, plan.size.height + START_ROOM)
    return size, f'<g transform="translate({-plan.left:.1f},{START_ROOM - plan.top:.1f})">{"".join(parts)}</g>'


def _state_size(name: str, state: Mapping[str, Any], inner: list[Size]) -> Size:
    lines = _name_lines(name)
    width = max(
        120,
        max(len(line) for line in lines) * NAME_LETTER + 3 * PADDING,
        len(_caption(state)) * CAPTION_LETTER + 3 * PADDING,
        sum(size.width + PADDING for size in inner) + PADDING,
    )
    height = CAPTION_LINE + len(lines) * NAME_LINE + PADDING
    return Size(width, height + (max(size.height for size in inner) + PADDING if inner else 0))


def _state(
    name: str,
    state: Mapping[str, Any],
    box: Box,
    inner: list[tuple[Size, str]],
    visits: Mapping[str, int] | None,
) -> str:
    colour = COLOURS[state["Type"]]
    count = (visits or {}).get(name, 0)
    mark = "" if visits is None else " visited" if count else " faded"
    left, width, height = box.left, box.size.width, box.size.height
    stroke = f' style="stroke:{colour}"' if count else ""

    parts = [f'<g class="state{mark}" data-state="{escape(name)}"><title>{escape(name)}</title>']
    if state["Type"] == "Choice":
        corners = [(left, height / 2), (left + 12, 0), (box.right - 12, 0)]
        corners += [(box.right, height / 2), (box.right - 12, height), (left + 12, height)]
        points = " ".join(f"{x:.1f},{box.y + y:.1f}" for x, y in corners)
        parts.append(f'<polygon class="card" points="{points}"{stroke}/>')
    else:
        rectangle = f'x="{left:.1f}" y="{box.y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="7"'
        parts.append(f'<rect class="card" {rectangle}{stroke}/>')
        if inner:
            parts.append(f'<rect class="group" {rectangle}/>')
    y = box.y + 17
    parts.append(_text(box.x, y, _caption(state), f'style="fill:{colour};font-weight:600"'))
    for line in _name_lines(name):
        y += NAME_LINE
        parts.append(_text(box.x, y, line, 'class="name"'))
    x = box.x - sum(size.width + PADDING for size, _ in inner) / 2 + PADDING / 2
    for size, body in inner:
        parts.append(f'<g transform="translate({x:.1f},{y + PADDING:.1f})">{body}</g>')
        x += size.width + PADDING
    if is_end(state):
        parts.append(_end(left + 18, box.bottom))
    if count:
        text = f"{count}x"
        badge = len(text) * 7 + 8
        parts.append(
            f'<g class="badge"><rect x="{box.right - badge:.1f}" y="{box.y - 8:.1f}" width="{badge}" height="16" '
            f'rx="8" fill="{colour}"/>{_text(box.right - badge / 2, box.y + 3.5, text)}</g>'
        )
    return "".join(parts) + "</g>"


def _edge(route: Route, lines: list[str], *, faded: bool) -> str:
    edge, (x, y) = route.edge, route.tip
    parts = [
        f'<g class="edge {edge.kind}{" faded" if faded else ""}" data-from="{escape(edge.source)}" '
        f'data-to="{escape(edge.target)}"><path d="{route.path}"/>'
        f'<polygon points="{x:.1f},{y:.1f} {x - 4:.1f},{y - 8:.1f} {x + 4:.1f},{y - 8:.1f}"/>'
    ]
    if lines:
        size, (x, y) = _label_size(lines), route.label
        parts.append(
            f'<g class="label"><title>{escape(" or ".join(edge.labels))}</title><rect '
            f'x="{x - size.width / 2:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="5"/>'
        )
        parts += [_text(x, y + (index + 1) * LABEL_LINE, line) for index, line in enumerate(lines)]
        parts.append("</g>")
    return "".join(parts) + "</g>"


def _start(box: Box, top: float) -> str:
    x, y = box.left + 18, top - START_ROOM + 7
    return (
        f'<g class="edge start"><circle cx="{x:.1f}" cy="{y:.1f}" r="6"/><path d="M{x:.1f},{y:.1f} V{box.y:.1f}"/>'
        f'<polygon points="{x:.1f},{box.y:.1f} {x - 4:.1f},{box.y - 8:.1f} {x + 4:.1f},{box.y - 8:.1f}"/></g>'
    )


def _end(x: float, y: float) -> str:
    return (
        f'<g class="end"><circle cx="{x:.1f}" cy="{y:.1f}" r="6.5"/>'
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/></g>'
    )


def _legend(height: float) -> str:
    y = height - 14
    return (
        f'<g class="legend">{_end(MARGIN + 8, y)}{_text(MARGIN + 46, y + 3.5, "ends here")}'
        f'<g class="edge catch"><path d="M{MARGIN + 90},{y:.1f} h28"/></g>{_text(MARGIN + 138, y + 3.5, "Catch")}'
        f"{_text(MARGIN + 190, y + 3.5, '↻ Retry')}</g>"
    )


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" {attributes}>{escape(text)}</text>'


def _caption(state: Mapping[str, Any]) -> str:
    """The type, and the one thing about the state that says most."""
    match state["Type"]:
        case "Task":
            detail = str(state["Resource"]).split(":::")[-1].split(":function:")[-1]
        case "Wait":
            seconds = state.get("Seconds", state.get("SecondsPath"))
            detail = f"{str(seconds).removeprefix('$.')} s" if seconds is not None else str(state.get("Timestamp", ""))
        case "Fail":
            detail = str(state.get("Error", ""))
        case _:
            detail = ""
    caption = f"{state['Type']} · {_short(detail, LABEL_LETTERS)}" if detail else str(state["Type"])
    return f"{caption} ↻" if "Retry" in state else caption


def _name_lines(name: str) -> list[str]:
    return textwrap.wrap(name, NAME_LETTERS) or [name]


def _label_lines(labels: tuple[str, ...]) -> list[str]:
    if len(labels) > LABEL_LINES:
        labels = (*labels[: LABEL_LINES - 1], f"and {len(labels) - LABEL_LINES + 1} more")
    return [_short(label, LABEL_LETTERS) for label in labels]


def _label_size(lines: list[str]) -> Size:
    return Size(max(len(line) for line in lines) * LABEL_LETTER + 12, len(lines) * LABEL_LINE + 6)


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"

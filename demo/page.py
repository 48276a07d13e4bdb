"""The report as one HTML page that stands alone: it loads nothing, and is light or dark as the reader's system."""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from asl_tools.drawing import to_svg
from demo import concurrency, timeline
from demo.play import Outcome
from demo.report import rows
from demo.runs import Run

_STYLE = Path(__file__).with_name("page.css")


def render(outcomes: Sequence[Outcome], facts: Mapping[str, str]) -> str:
    """The whole page. `facts` are shown below the headline."""
    fine = sum(outcome.ok for outcome in outcomes)
    headline = f"{fine} of {len(outcomes)} scenarios came out as expected"
    runs = [run for outcome in outcomes if outcome.record.limit is None for run in outcome.record.runs]
    sections = [
        _section("What happened when", _timeline(runs)),
        _section("How many were at work at once", _bursts(outcomes)),
        *(_section("The state machine, and where the executions went", graph) for graph in _graphs(outcomes)),
        _section("What was expected, and what was seen", _table(outcomes)),
        _section("What people see, as a browser shows it", _pictures(outcomes)),
        _section("The alerts, as they were delivered", _alerts(outcomes)),
    ]
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(headline)}</title>
<style>{_STYLE.read_text(encoding="utf-8")}</style>
<header class="{"good" if fine == len(outcomes) else "bad"}">
<p class="kicker">constructs-lib · make demo</p>
<h1>{escape(headline)}</h1>
<dl>{"".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())}</dl>
</header>
<main>
{"".join(sections)}
</main>
</html>
"""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n" if content else ""


def _table(outcomes: Iterable[Outcome]) -> str:
    body = "".join(_table_body(outcome) for outcome in outcomes)
    return f"<table><thead><tr><th></th><th>expected</th><th>seen</th></tr></thead>{body}</table>"


def _table_body(outcome: Outcome) -> str:
    part, _, name = outcome.name.partition("/")
    state, mark = ("good", "✓") if outcome.ok else ("bad", "✗")
    lines = [
        f'<tr class="name {state}"><th colspan="3" scope="rowgroup"><span class="mark">{mark}</span>'
        f'<span class="quiet">{escape(part)} /</span> {escape(name)} '
        f'<span class="quiet time">{outcome.seconds:.1f} s</span></th></tr>'
    ]
    if outcome.error:
        lines.append(f'<tr class="bad"><th scope="row">broke off</th><td></td><td>{escape(outcome.error)}</td></tr>')
    else:
        lines += (
            f'<tr{"" if ok else " class=bad"}><th scope="row">{escape(what)}</th><td>{escape(expected)}</td>'
            f"<td>{escape(seen)}</td></tr>"
            for what, expected, seen, ok in rows(outcome)
        )
    return f"<tbody>{''.join(lines)}</tbody>"


def _timeline(runs: Sequence[Run]) -> str:
    return f'<div class="card">{timeline.to_svg(runs)}{timeline.legend()}</div>' if runs else ""


def _bursts(outcomes: Iterable[Outcome]) -> str:
    plots = "".join(
        f'<p class="quiet">{escape(outcome.name)}: {len(outcome.record.runs)} executions</p>'
        f"{concurrency.to_svg(outcome.record.runs, outcome.record.limit)}"
        for outcome in outcomes
        if outcome.record.limit is not None and outcome.record.runs
    )
    return f'<div class="card">{plots}{concurrency.legend()}</div>' if plots else ""


def _graphs(outcomes: Iterable[Outcome]) -> list[str]:
    """A drawing of each state machine that was run, with all visits of its runs."""
    definitions: dict[str, Mapping[str, Any]] = {}
    visits: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        if outcome.record.definition is not None:
            key = json.dumps(outcome.record.definition)
            definitions[key] = outcome.record.definition
            visits.setdefault(key, Counter()).update(
                state for run in outcome.record.runs for state in Counter(run.visits).elements()
            )
    return [f'<div class="card">{to_svg(definitions[key], visits[key])}</div>' for key in definitions]


def _pictures(outcomes: Iterable[Outcome]) -> str:
    return "".join(
        f'<figure class="card"><figcaption class="quiet">{escape(outcome.name)}</figcaption>'
        f'<img alt="A page in a browser" src="data:image/png;base64,{b64encode(outcome.record.picture).decode()}">'
        "</figure>"
        for outcome in outcomes
        if outcome.record.picture
    )


def _alerts(outcomes: Iterable[Outcome]) -> str:
    return "".join(
        f'<article class="card"><p class="quiet">{escape(outcome.name)}</p><h3>{escape(alert.subject)}</h3>'
        f"<pre>{escape(alert.text)}</pre></article>"
        for outcome in outcomes
        for alert in outcome.record.alerts
    )

"""The page stands alone, and shows what it was given as text."""

import re
from base64 import b64encode
from html.parser import HTMLParser
from xml.etree import ElementTree

from demo import timeline
from demo.mailbox import Alert
from demo.page import render
from demo.play import Outcome, Record
from demo.runs import Run, Step

PICTURE = b"\x89PNG, and then some"
HOSTILE = '<script>alert("x")</script>&'
DEFINITION = {"StartAt": "Run task", "States": {"Run task": {"Type": "Pass", "End": True}}}


def run(label: str = "run", *, seconds: float = 4) -> Run:
    steps = [
        Step("refused", 0, 0.1, False, HOSTILE),
        Step("pause", 0.1, 1, True, "pause"),
        Step("task", 1, 2, True, "exit code 0"),
        Step("task", 2, 3, False, "States.Timeout"),
        Step("told", 3, 4, True, "Tell"),
        Step("waited", 3, 4, True, "permit"),
    ]
    return Run("arn", label, "FAILED", "States.Timeout", "{}", {}, 0, seconds, steps, {"Run task": 2})


def page() -> str:
    record = Record([run(HOSTILE)], [Alert(HOSTILE, "application", HOSTILE)], DEFINITION)
    outcomes = [
        Outcome(f"part/{HOSTILE}", {HOSTILE: HOSTILE}, {HOSTILE: "seen"}, "", 1, record),
        Outcome("part/broken", {}, None, HOSTILE, 1, Record()),
        Outcome("part/fine", {"a": 1}, {"a": 1}, "", 1, Record(picture=PICTURE)),
        Outcome(f"part/{HOSTILE}, limited", {"a": 1}, {"a": 1}, "", 1, Record([run(HOSTILE)], limit=3)),
    ]
    return render(outcomes, {"Input": HOSTILE})


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    tags: list[str] = []
    attributes: list[str] = []
    sources: list[str | None] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            attributes.extend(name for name, _ in attrs)
            sources.extend(value for name, value in attrs if name == "src")

    html = page()
    Reader().feed(html)
    assert not {"script", "link", "iframe", "object", "use"} & set(tags)
    # The picture is in the page itself.
    assert sources == ["data:image/png;base64," + b64encode(PICTURE).decode()]
    assert not {"href", "srcset", "onclick", "onload"} & set(attributes)
    assert "url(" not in html
    assert "@import" not in html


def test_what_was_seen_is_escaped() -> None:
    assert HOSTILE not in page()


def test_the_page_says_how_many_came_out() -> None:
    assert "<h1>2 of 4 scenarios came out as expected</h1>" in page()


def test_a_page_without_runs() -> None:
    assert "<h1>0 of 0 scenarios came out as expected</h1>" in render([], {})


def test_the_timeline_is_well_formed_and_stays_within_its_width() -> None:
    for seconds in (0.0, 0.3, 7, 5_000):
        svg = timeline.to_svg([run("<&>", seconds=seconds), run()])
        ElementTree.fromstring(svg)
        assert max(float(x) for x in re.findall(r'<text[^>]* x="([\d.]+)"', svg)) <= timeline.WIDTH


def test_every_mark_is_drawn_and_explained() -> None:
    svg, legend = timeline.to_svg([run()]), timeline.legend()
    for kind in ("ran", "broke", "refused", "pause", "waited", "told"):
        assert f'class="{kind}"' in svg
        assert f'class="{kind}"' in legend


def test_runs_that_share_a_limit_are_drawn_against_it_and_not_one_by_one() -> None:
    limited = Outcome("part/limit", {}, {}, "", 1, Record([run("of a burst")], limit=3))
    html = render([limited], {})
    assert "part/limit: 1 executions" in html
    assert "limit 3" in html
    assert "What happened when" not in html
    assert "How many were at work at once" not in render([Outcome("part/broke", {}, None, "", 1, Record(limit=3))], {})

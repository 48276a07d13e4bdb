"""A custom widget of a CloudWatch dashboard, as the console treats it: its HTML is shown, its buttons call a function.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/add_custom_widget_samples.html
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from typing import Any

# About as the console looks.
_STYLE = """
body { margin: 0; background: #f2f3f3; color: #16191f; font: 14px/1.45 "Amazon Ember", "DejaVu Sans", sans-serif; }
h1 { margin: 18px 22px 14px; font-size: 20px; font-weight: 600; }
main { margin: 0 22px; padding: 12px 20px 18px; background: #fff; border: 1px solid #d5dbdb; border-radius: 2px; }
h2 { margin: 0 0 4px; padding-bottom: 8px; border-bottom: 1px solid #eaeded; font-size: 15px; font-weight: 600; }
h3 { margin: 16px 0 10px; font-size: 16px; }
table { width: 100%; margin: 12px 0 4px; border-collapse: collapse; font-size: 13px; }
th, td { padding: 7px 10px; border-bottom: 1px solid #eaeded; text-align: left; vertical-align: top; }
th { color: #545b64; }
td { max-width: 420px; overflow-wrap: break-word; }
.btn { display: inline-block; margin: 0 6px 4px 0; padding: 3px 14px; border: 1px solid #545b64; border-radius: 2px;
  color: #545b64; font-weight: 700; white-space: nowrap; }
cwdb-action { display: none; }
"""


@dataclass(frozen=True)
class Button:
    """What follows when somebody presses it.

    Attributes:
        label: What it says.
        question: What is asked before; empty if nothing is.
        event: What its function is called with.
    """

    label: str
    question: str
    event: Mapping[str, Any]


@dataclass(frozen=True)
class Widget:
    """What a page of a widget has.

    Attributes:
        text: All that can be read on it.
        rows: The cells of its tables, but for the headings and the buttons.
        buttons: In their order.
        tags: The elements that it is made of.
    """

    text: str
    rows: list[list[str]]
    buttons: list[Button]
    tags: frozenset[str]

    def button(self, label: str, *, error: str | None = None) -> Button:
        """The first button that says so, or the one for an error.

        Raises:
            LookupError: there is none.
        """
        for button in self.buttons:
            if button.label == label and button.event.get("error") == error:
                return button
        raise LookupError(f"no button {label!r} for {error!r} among {[button.label for button in self.buttons]}")


def read(page: str) -> Widget:
    """Takes a page apart."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return Widget(" ".join("".join(reader.text).split()), reader.rows, reader.buttons, frozenset(reader.tags))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.buttons: list[Button] = []
        self.tags: set[str] = set()
        self._in: list[str] = []
        self._label = self._question = self._event = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._in.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "a":
            self._label = ""
        elif tag == "cwdb-action":
            self._event, self._question = "", dict(attrs).get("confirmation") or ""

    def handle_data(self, data: str) -> None:
        if "cwdb-action" in self._in:
            self._event += data
            return
        self.text.append(f" {data} ")
        if "a" in self._in:
            self._label += data
        elif "td" in self._in:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._in.remove(tag)
        if tag == "cwdb-action":
            self.buttons.append(Button(self._label, self._question, json.loads(self._event)))
        elif tag == "table":
            self.rows = [row for row in self.rows if row]


def as_document(page: str, *, dashboard: str, title: str) -> str:
    """A page of a widget as a document of its own, about as a dashboard shows it."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(dashboard)}</h1><main><h2>{escape(title)}</h2>{page}</main></html>"
    )

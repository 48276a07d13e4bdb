"""The demo reads the widget's page as the console does: what is shown, and what each button calls."""

from html import escape
from typing import Any

import pytest

from demo.widget import Button, as_document, read
from spool.widget import page

HOSTILE = "<script>alert(1)</script>"


def group(error: str, count: int) -> dict[str, Any]:
    sample = {"cause": f"{HOSTILE} & co.", "failedState": "Call", "execution": "arn"}
    return {"error": error, "status": "FAILED", "count": count, "oldest": "2026-01-01T00:00:00Z", "sample": sample}


def listed(*groups: dict[str, Any], quarantined: int = 0) -> str:
    told = {"spooled": sum(each["count"] for each in groups), "errors": list(groups), "quarantined": quarantined}
    return page(told, endpoint="arn:aws:lambda:::function:widget")


def test_rows_and_buttons() -> None:
    widget = read(listed(group("Down", 3), group("Refused", 1)))
    assert [row[:4] for row in widget.rows] == [
        ["Down", "3", "2026-01-01T00:00:00Z", "Call"],
        ["Refused", "1", "2026-01-01T00:00:00Z", "Call"],
    ]
    labels = [button.label for button in widget.buttons]
    assert labels == ["Reprocess 2", "Reprocess all", "Reprocess", "Park", "Reprocess", "Park"]
    assert widget.buttons[0].event == {"action": "reprocess", "max": 2}
    assert widget.button("Park", error="Refused") == Button(
        "Park", "Move all Refused to the quarantine?", {"action": "park", "error": "Refused"}
    )


def test_a_button_that_is_not_there() -> None:
    with pytest.raises(LookupError, match="no button 'Release all' for None among"):
        read(listed(group("Down", 1))).button("Release all")


def test_a_button_without_a_question() -> None:
    [button] = read('<a class="btn">Go</a><cwdb-action action="call">{"a": 1}</cwdb-action>').buttons
    assert button == Button("Go", "", {"a": 1})


def test_escaped_markup_is_text_and_other_markup_is_not() -> None:
    widget = read(listed(group("Down", 1)))
    assert f"{HOSTILE} & co." in widget.text
    assert "script" not in widget.tags
    broken = read(f"<p>{HOSTILE}</p>")
    assert "script" in broken.tags
    assert HOSTILE not in broken.text


def test_what_a_button_calls_is_not_shown() -> None:
    assert "action" not in read(listed(group("Down", 1))).text


def test_the_quarantine_has_its_own_button() -> None:
    widget = read(listed(quarantined=2))
    assert widget.button("Release all").event == {"action": "release", "all": True}
    assert "Quarantine: 2" in widget.text


def test_a_document_escapes_its_titles_and_holds_the_page_as_it_is() -> None:
    shown = listed(group("Down", 1))
    document = as_document(shown, dashboard=HOSTILE, title=HOSTILE)
    assert shown in document
    assert document.count(escape(HOSTILE)) == 3 + shown.count(escape(HOSTILE))
    assert "script" not in read(document).tags

"""The page: safe HTML whatever the texts are, buttons that ask, and an answer whatever goes wrong."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import hypothesis.strategies as st
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from hypothesis import given

from spool import widget
from spool.requests import park_of, release_of, reprocess_of
from spool.widget import page

ARN = "arn:aws:lambda:eu-central-1:111122223333:function:widget"
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</cwdb-action><a href='javascript:alert(1)'>click</a>",
    "&lt;b&gt; &amp; &#60;i&#62;",
    "<!-- ", "]]>", "\x00\x1b[31m\u202e", "\ud800", "</table><style>*{display:none}</style>",
)  # fmt: skip
TAGS = {"p", "h3", "a", "cwdb-action", "table", "tr", "th", "td", "span"}


class Parsed(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.buttons: list[tuple[str, dict[str, Any], str]] = []
        """Label, request and question."""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["cwdb-action"]:
            self.buttons.append((self.texts[-1], json.loads(data), self.tags[-1][1]["confirmation"] or ""))
        elif data.strip():
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError("a declaration")


def listed(text: str = "Down", **changes: Any) -> dict[str, Any]:
    """What the reprocessor answers, with a text in every place that somebody else writes."""
    sample = {"id": text, "cause": text, "execution": text, "failedState": text, "attempt": 1, "key": text}
    group = {"error": text, "status": "FAILED", "count": 3, "oldest": text, "newest": text, "sample": sample, "ids": []}
    return {
        "spooled": 3,
        "notATarget": 1,
        "unreadable": 1,
        "errors": [group],
        "quarantined": 2,
        "quarantinedErrors": [group],
        "quarantinedUnreadable": [{"id": text, "why": text}],
        **changes,
    }


def check_safe(html: str) -> Parsed:
    """Only our own tags, closed as they were opened, with our own attributes."""
    parsed = Parsed(html)
    assert parsed.open == []
    for tag, attributes in parsed.tags:
        assert tag in TAGS
        assert set(attributes) <= {"class", "title", "action", "display", "endpoint", "confirmation"}
        if tag == "cwdb-action":
            assert (attributes["action"], attributes["endpoint"]) == ("call", ARN)
            assert attributes["confirmation"]
    return parsed


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_html(text: str) -> None:
    parsed = check_safe(page(listed(text), endpoint=ARN, said=text))

    assert sum(tag == "tr" for tag, _ in parsed.tags) == 4
    for _, request, _ in parsed.buttons:
        # The reprocessor looks for exactly the error that was shown.
        assert request.get("error", text) == text


@given(st.text())
def test_no_text_at_all_becomes_html(text: str) -> None:
    check_safe(page(listed(text), endpoint=ARN, said=text))
    check_safe(page({}, endpoint=ARN, problem=text or "x"))


def test_each_button_asks_and_is_understood() -> None:
    buttons = check_safe(page(listed(), endpoint=ARN)).buttons

    assert [(label, question) for label, _, question in buttons] == [
        ("Reprocess 2", "Run the 2 oldest failures again?"),
        ("Reprocess all", "Run all 3 failures again?"),
        ("Reprocess", "Run all Down again?"),
        ("Park", "Move all Down to the quarantine?"),
        ("Release all", "Move all 2 failures back to the spool, with all attempts before them?"),
    ]
    for _, request, _ in buttons:
        {"reprocess": lambda event: reprocess_of(event, most=1), "park": park_of, "release": release_of}[
            request["action"]
        ](request)


def test_an_empty_spool_has_no_buttons() -> None:
    empty = {"spooled": 0, "errors": [], "quarantined": 0, "quarantinedUnreadable": []}

    parsed = check_safe(page(empty, endpoint=ARN))

    assert parsed.buttons == []
    assert parsed.texts == ["Spool: 0", "Nothing waits."]


@given(st.dictionaries(st.sampled_from(list(listed())), st.none() | st.text() | st.integers() | st.lists(st.none())))
def test_an_answer_of_any_shape_makes_a_page(answer: dict[str, Any]) -> None:
    check_safe(page(answer, endpoint=ARN))


def test_a_page_of_many_errors_ends() -> None:
    groups = listed("x" * 100_000)["errors"] * 500

    assert len(page(listed(errors=groups), endpoint=ARN)) < 200_000


# --- the function -----------------------------------------------------------------------------------------------------


class Context:
    invoked_function_arn = ARN


@pytest.fixture
def reprocessor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    variables = {
        "REPROCESSOR_FUNCTION": "reprocessor",
        "SPOOL": "Orders",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with Stubber(widget.lambda_()) as stub:
        yield stub
        stub.assert_no_pending_responses()
    widget.lambda_.cache_clear()


def answers(stub: Stubber, answer: object, **reply: str) -> None:
    text = json.dumps(answer).encode()
    stub.add_response(
        "invoke",
        {"StatusCode": 200, "Payload": StreamingBody(BytesIO(text), len(text)), **reply},
        {"FunctionName": "reprocessor", "Payload": b'{"action": "list"}'},
    )


def test_the_console_may_ask_what_it_is(reprocessor: Stubber) -> None:
    answer = widget.handle({"describe": True}, Context())

    assert isinstance(answer, dict)
    assert "Error spool" in answer["markdown"]


def test_the_page_shows_what_is_listed(reprocessor: Stubber) -> None:
    answers(reprocessor, listed("Neighbour.Down"))

    found = widget.handle({"widgetContext": {"params": {}}}, Context())

    assert isinstance(found, str)
    assert "Neighbour.Down" in check_safe(found).texts


@pytest.mark.parametrize("event", [{"action": "reprocess", "max": 2}, {"action": "release", "all": True}])
def test_a_button_is_handed_on_and_not_waited_for(event: dict[str, Any], reprocessor: Stubber) -> None:
    expected = {"FunctionName": "reprocessor", "InvocationType": "Event", "Payload": json.dumps(event)}
    # After the list, which hides for a moment what the command is to find.
    answers(reprocessor, listed())
    reprocessor.add_response("invoke", {"StatusCode": 202}, expected)

    found = widget.handle({**event, "widgetContext": {"accountId": "111122223333"}}, Context())

    assert isinstance(found, str)
    assert f"{event['action']} was asked for." in found


@pytest.mark.parametrize("event", [{"action": "drop", "id": "x", "confirm": True}, {"action": "x"}, None, [], "text"])
def test_nothing_else_is_handed_on(event: object, reprocessor: Stubber) -> None:
    answers(reprocessor, listed())

    found = widget.handle(event, Context())

    assert isinstance(found, str)
    assert "was asked for" not in found


def test_a_reprocessor_that_fails_is_shown(reprocessor: Stubber) -> None:
    answers(reprocessor, {"errorMessage": "no <such> queue"}, FunctionError="Unhandled")

    assert widget.handle({}, Context()) == "<p>The spool could not be read: no &lt;such&gt; queue</p>"


def test_what_aws_refuses_is_shown(reprocessor: Stubber) -> None:
    for _ in range(2):
        reprocessor.add_client_error("invoke", "AccessDeniedException", "not allowed <b>")

    found = widget.handle({"action": "park", "error": "Down"}, Context())

    assert isinstance(found, str)
    assert found.count("AccessDeniedException") == 2
    assert "park could not be asked for" in found
    assert "<b>" not in found


def test_a_button_works_although_the_list_does_not(reprocessor: Stubber) -> None:
    reprocessor.add_client_error("invoke", "TooManyRequestsException")
    reprocessor.add_response("invoke", {"StatusCode": 202})

    found = widget.handle({"action": "reprocess", "max": "all"}, Context())

    assert isinstance(found, str)
    assert "reprocess was asked for." in found
    assert "The spool could not be read" in found

"""A page on a CloudWatch dashboard: what lies in the spool, with buttons. For anyone with access to the console.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/add_custom_widget_dashboard.html
"""

import html
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from alert.reading import as_integer, as_object, as_objects, as_text, printable, shortened

DOCUMENTATION = """
## Error spool

What failed and waits to be run again, by error. It takes no parameters.

The buttons ask before they do anything. What they start goes on in the background: refresh to see what came of it.
"""

COMMANDS = ("reprocess", "park", "release")
MOST_ROWS = 50
LONGEST_TEXT = 300


@cache
def lambda_() -> Any:
    # To list a long queue takes its time. Never twice by itself: a second list would find what the first has hidden.
    return boto3.client("lambda", config=Config(connect_timeout=2, read_timeout=50, retries={"total_max_attempts": 1}))


def handle(event: object, context: Any) -> str | dict[str, str]:
    """The page, or its documentation where the console asks for that (`describe`).

    A button's event is what the reprocessor takes; it is handed on, and not waited for. Environment:
    `REPROCESSOR_FUNCTION`; `SPOOL`, the name of the spool. Raises nothing that AWS may answer: the page says it.
    """
    request = as_object(event)
    if request.get("describe"):
        return {"markdown": DOCUMENTATION}
    # Listed first: what a list looks at, it hides for a moment, and a command would find nothing.
    listed, problem = _list()
    said = _hand_on(request) if request.get("action") in COMMANDS else ""
    return page(listed, said=said, problem=problem, endpoint=context.invoked_function_arn)


def _list() -> tuple[Mapping[str, Any], str]:
    """What lies in the spool, or what went wrong."""
    try:
        reply = lambda_().invoke(FunctionName=os.environ["REPROCESSOR_FUNCTION"], Payload=b'{"action": "list"}')
        answer = as_object(json.loads(reply["Payload"].read()))
    except Exception as problem:
        return {}, f"{type(problem).__name__}: {problem}"
    return ({}, as_text(answer.get("errorMessage")) or "it failed") if "FunctionError" in reply else (answer, "")


def _hand_on(request: Mapping[str, Any]) -> str:
    """Asks for a command, and says so, or what went wrong."""
    action = request["action"]
    try:
        lambda_().invoke(
            FunctionName=os.environ["REPROCESSOR_FUNCTION"],
            InvocationType="Event",
            Payload=json.dumps({name: value for name, value in request.items() if name != "widgetContext"}),
        )
    except Exception as problem:
        return f"{action} could not be asked for: {type(problem).__name__}: {problem}"
    return f"{action} was asked for. This is how it was before: refresh in a moment to see what came of it."


# --- the page: pure -------------------------------------------------------------------------------------------------


def page(listed: Mapping[str, Any], *, endpoint: str, said: str = "", problem: str = "") -> str:
    """The page in HTML. Every text in it is escaped, whoever wrote it.

    Args:
        listed: What the reprocessor answers to `list`.
        endpoint: The ARN of this function, which the buttons call.
        said: What was done.
        problem: What went wrong.
    """
    lines = [_paragraph(said), _paragraph(f"The spool could not be read: {problem}" if problem else "")]
    if not problem:
        lines += _spool(listed, endpoint)
        lines += _quarantine(listed, endpoint)
    return "\n".join(line for line in lines if line)


def _spool(listed: Mapping[str, Any], endpoint: str) -> list[str]:
    count, strangers, unreadable = (_number(listed, name) for name in ("spooled", "notATarget", "unreadable"))
    lines = [f"<h3>Spool: {count}</h3>"]
    if strangers:
        lines.append(_paragraph(f"{strangers} of a state machine that this reprocessor may not start."))
    if unreadable:
        lines.append(_paragraph(f"{unreadable} messages cannot be read; the next run moves them to the quarantine."))
    if not count:
        return [*lines, _paragraph("Nothing waits.")]
    buttons = [
        _button("Reprocess 2", {"action": "reprocess", "max": 2}, "Run the 2 oldest failures again?", endpoint),
        _button("Reprocess all", {"action": "reprocess", "max": "all"}, f"Run all {count} failures again?", endpoint),
    ]
    return [*lines, *buttons, *_table(as_objects(listed.get("errors")), endpoint, with_buttons=True)]


def _quarantine(listed: Mapping[str, Any], endpoint: str) -> list[str]:
    count = _number(listed, "quarantined")
    unreadable = as_objects(listed.get("quarantinedUnreadable"))
    if not count and not unreadable:
        return []
    lines = [f"<h3>Quarantine: {count + len(unreadable)}</h3>"]
    if count:
        release = _button(
            "Release all",
            {"action": "release", "all": True},
            f"Move all {count} failures back to the spool, with all attempts before them?",
            endpoint,
        )
        lines += [release, *_table(as_objects(listed.get("quarantinedErrors")), endpoint, with_buttons=False)]
    for each in unreadable[:MOST_ROWS]:
        lines.append(_paragraph(f"Cannot be read: {as_text(each.get('id'))}: {as_text(each.get('why'))}"))
    return lines


def _table(groups: Sequence[Mapping[str, Any]], endpoint: str, *, with_buttons: bool) -> list[str]:
    titles = ("Error", "Count", "Oldest", "Failed state", "Sample", *([""] if with_buttons else []))
    lines = ["<table>", "<tr>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>"]
    for group in groups[:MOST_ROWS]:
        sample = as_object(group.get("sample"))
        error = as_text(group.get("error"))
        cells = [
            _cut(error or as_text(group.get("status"))),
            str(_number(group, "count")),
            _cut(as_text(group.get("oldest"))),
            _cut(as_text(sample.get("failedState"))),
            f'<span title="{_cut(as_text(sample.get("execution")))}">{_cut(as_text(sample.get("cause")))}</span>',
        ]
        if with_buttons:
            cells.append(_buttons_for(error, endpoint) if len(error) <= LONGEST_TEXT else "")
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return [*lines, "</table>"]


def _buttons_for(error: str, endpoint: str) -> str:
    run, park = {"action": "reprocess", "max": "all", "error": error}, {"action": "park", "error": error}
    name = error or "without a name"
    return _button("Reprocess", run, f"Run all {name} again?", endpoint) + _button(
        "Park", park, f"Move all {name} to the quarantine?", endpoint
    )


def _button(label: str, request: Mapping[str, Any], question: str, endpoint: str) -> str:
    """A button that calls this function, once the question is answered with yes."""
    # Its content is JSON, in which no character begins a tag or an entity.
    content = json.dumps(request)
    for character in "<>&":
        content = content.replace(character, f"\\u{ord(character):04x}")
    return (
        f'<a class="btn">{_escaped(label)}</a>'
        f'<cwdb-action action="call" display="widget" endpoint="{_escaped(endpoint)}"'
        f' confirmation="{_cut(question)}">{content}</cwdb-action>'
    )


def _paragraph(text: str) -> str:
    return f"<p>{_escaped(text)}</p>" if text else ""


def _escaped(text: str) -> str:
    return html.escape(printable(text), quote=True)


def _cut(text: str) -> str:
    return _escaped(shortened(text, LONGEST_TEXT))


def _number(values: Mapping[str, Any], name: str) -> int:
    return as_integer(values.get(name)) or 0

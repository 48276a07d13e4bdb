"""What a processor says about its items. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn


class UnreadableAnswerError(ValueError):
    """The answer tells of the items, and it is not clear what."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said about an item, or about a batch as a whole.

    Args:
        error: The name of its failure, None where it succeeded.
        cause: What was said about that.
        notices: What people should know, although it succeeded.
    """

    error: str | None = None
    cause: str = ""
    notices: Sequence[Any] = ()


DONE = Answer()


def answer_of(said: object) -> Answer:
    """Reads {error, cause} or {result, notice}; anything else is a result."""
    if not isinstance(said, dict):
        return DONE
    error, notice = said.get("error"), said.get("notice")
    notices = () if notice is None else tuple(notice) if isinstance(notice, list) else (notice,)
    if isinstance(error, str) and error:
        return Answer(error=error, cause=_text(said.get("cause")), notices=notices)
    return Answer(notices=notices)


def answers_of(said: object, count: int) -> tuple[list[Answer], Answer]:
    """What is said about each item of a batch, in their order, and about the batch.

    `{"items": [an answer for each]}`, or the list alone; or as for a queue `{"batchItemFailures": [{"itemIdentifier":
    the item's place from 0, error, cause}]}`. Whoever says nothing of the items has done them all.

    Args:
        said: The output of the child.
        count: How many items it had.

    Raises:
        UnreadableAnswerError: it is not clear which items are meant.
    """
    if said is None:
        return [DONE] * count, DONE
    if isinstance(said, list):
        said = {"items": said}
    if not isinstance(said, dict):
        _refuse('a batch must answer {"items": [an answer for each item]}', said)
    whole = answer_of(said)
    if whole.error is not None:
        return [replace(whole, notices=())] * count, replace(whole, error=None, cause="")
    answers = _by_place(said["items"], count) if "items" in said else [DONE] * count
    for place, failure in _failures(said.get("batchItemFailures"), count):
        answers[place] = replace(failure, notices=answers[place].notices)
    return answers, whole


def _by_place(said: object, count: int) -> list[Answer]:
    if not isinstance(said, list):
        _refuse("items must be a list with an answer for each item", said)
    if len(said) != count:
        raise UnreadableAnswerError(f"items must have an answer for each of the {count} items, got {len(said)}")
    return [answer_of(each) for each in said]


def _failures(said: object, count: int) -> list[tuple[int, Answer]]:
    if said is None:
        return []
    if not isinstance(said, list):
        _refuse("batchItemFailures must be a list", said)
    return [(_place(each, count), _failure(each)) for each in said]


def _place(said: object, count: int) -> int:
    identifier = said.get("itemIdentifier") if isinstance(said, dict) else None
    text = str(identifier) if type(identifier) in (int, str) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < count):
        _refuse(f"itemIdentifier must be the place of an item, 0 to {count - 1}", said)
    return int(text)


def _failure(said: Mapping[str, Any]) -> Answer:
    error = said.get("error")
    return Answer(error=error if isinstance(error, str) and error else "ItemFailed", cause=_text(said.get("cause")))


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _refuse(rule: str, value: object) -> NoReturn:
    raise UnreadableAnswerError(f"{rule}, got {json.dumps(value)[:200]}")

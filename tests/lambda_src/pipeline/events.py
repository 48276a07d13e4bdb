"""Events of objects, messages with them, and a function's time that passes as told."""

import random
import time
from typing import Any

import pytest

from pipeline.objects import ObjectEvent, body_of

BUCKET = "uploads"

ODD_KEYS = (
    "in/two words.csv",
    "in/a+b=c & d.csv",
    "in/100%/%20.csv",
    "in/#1?.csv",
    "in/🎉 party 🎉.jpg",
    "受信箱/請求書 2026年.pdf",
    "ключ.txt",
    "x" * 1024,
    "é" * 512,
    "/leading.csv",
    "../../up.csv",
    "in/./here/..",
    "//",
    "/",
    " ",
    "in/trailing/",
    "in/" + "." * 50 + ".csv",
    'in/"quoted" <tag> {a}[b] *~`$&,;:|\\^.csv',
    "in/line\nbreak\tand\x01control",
    "-",
    "_",
)


def object_event(**changes: Any) -> ObjectEvent:
    values = {
        "bucket": BUCKET,
        "key": "in/report.csv",
        "version_id": "",
        "size": 12,
        "etag": "d41d8cd98f00b204e9800998ecf8427e",
        "sequencer": "0055AED6DCD90281E5",
        "time": "2026-11-22T06:00:00Z",
        "reason": "PutObject",
    }
    return ObjectEvent(**{**values, **changes})


def record(message_id: str, body: str | None = None, **changes: Any) -> dict[str, Any]:
    """A message as the function gets it."""
    return {"messageId": message_id, "body": body_of(object_event(**changes)) if body is None else body}


class Time:
    """The time that a function has left, in seconds: it passes by sleeping, and by `spend`.

    Pauses are as long as they may be, so that a test knows how many there are.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 30) -> None:
        self.left = seconds
        self.slept: list[float] = []
        monkeypatch.setattr(time, "sleep", self._sleep)
        monkeypatch.setattr(random, "uniform", lambda _least, most: most)

    def spend(self, seconds: float) -> None:
        self.left -= seconds

    def get_remaining_time_in_millis(self) -> int:
        """What a function's context says."""
        return round(self.left * 1000)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.spend(seconds)

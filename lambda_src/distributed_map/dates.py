"""The day of a run, and the names that are made of it. Pure."""

import importlib
import re
from datetime import date, datetime, timedelta, tzinfo
from string import Formatter
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def day_of(started_at: datetime, *, time_zone: str, days_back: int) -> date:
    """The day of a moment in a time zone, so many days before.

    Args:
        started_at: A moment, with its offset.
        time_zone: A name of the IANA database, such as `Asia/Tokyo`.
        days_back: Days of the calendar, whatever their length.
    """
    return started_at.astimezone(_zone(time_zone)).date() - timedelta(days=days_back)


def day_from(text: str) -> date:
    """Reads YYYY-MM-DD, and nothing else that Python takes for a day.

    Raises:
        ValueError: it is no such day.
    """
    if not _DAY.fullmatch(text):
        raise ValueError("it must be written YYYY-MM-DD")
    return date.fromisoformat(text)


def resolved(template: str, day: date) -> str:
    """A template with its day: `in/{date:%Y/%m/%d}/`, where `{{` and `}}` are braces.

    Raises:
        ValueError: there is another name in it than `date`, or a single brace.
    """
    text = ""
    for literal, name, form, conversion in Formatter().parse(template):
        text += literal
        if name is None:
            continue
        if name != "date" or conversion or "{" in (form or ""):
            raise ValueError(f"a template may have {{date}} or for example {{date:%Y/%m/%d}}, got {template}")
        text += format(day, form or "")
    return text


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        # A machine without the database: boto3 depends on a library that has a copy.
        tz: Any = importlib.import_module("dateutil.tz")
        zone: tzinfo | None = tz.gettz(name)
        if zone is None:
            raise
        return zone

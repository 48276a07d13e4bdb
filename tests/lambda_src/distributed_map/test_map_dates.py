"""The day of a run in its time zone, and what is named after it."""

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from distributed_map import dates
from distributed_map.dates import day_from, day_of, resolved

DAY = date(2024, 2, 29)


@pytest.mark.parametrize(
    ("started_at", "time_zone", "days_back", "expected"),
    [
        ("2026-11-22T06:00:00Z", "Etc/UTC", 0, "2026-11-22"),
        ("2026-11-22T06:00:00Z", "Etc/UTC", 1, "2026-11-21"),
        ("2026-11-22T14:59:59Z", "Asia/Tokyo", 0, "2026-11-22"),
        ("2026-11-22T15:00:00Z", "Asia/Tokyo", 0, "2026-11-23"),
        ("2026-11-22T15:00:00Z", "Asia/Tokyo", 1, "2026-11-22"),
        ("2026-11-23T00:00:00+09:00", "Etc/UTC", 0, "2026-11-22"),
        ("2026-11-22T04:59:59.999Z", "America/New_York", 0, "2026-11-21"),
        # A day of 23 hours, and one of 25: they are one day all the same.
        ("2026-03-29T00:30:00Z", "Europe/Berlin", 0, "2026-03-29"),
        ("2026-03-28T22:59:59Z", "Europe/Berlin", 0, "2026-03-28"),
        ("2026-03-29T22:00:00Z", "Europe/Berlin", 1, "2026-03-29"),
        ("2026-10-24T22:00:00Z", "Europe/Berlin", 0, "2026-10-25"),
        ("2026-10-25T22:59:59Z", "Europe/Berlin", 0, "2026-10-25"),
        ("2026-10-25T23:00:00Z", "Europe/Berlin", 1, "2026-10-25"),
        ("2024-03-01T00:00:00Z", "Etc/UTC", 1, "2024-02-29"),
        ("2026-03-01T00:00:00Z", "Etc/UTC", 1, "2026-02-28"),
        ("2024-03-01T12:00:00Z", "Etc/UTC", 366, "2023-03-01"),
        ("2026-01-01T00:00:00Z", "Pacific/Kiritimati", 0, "2026-01-01"),
        ("2026-01-01T00:00:00Z", "Pacific/Pago_Pago", 0, "2025-12-31"),
    ],
)
def test_the_day_is_that_of_the_calendar_in_the_time_zone(
    started_at: str, time_zone: str, days_back: int, expected: str
) -> None:
    day = day_of(datetime.fromisoformat(started_at), time_zone=time_zone, days_back=days_back)

    assert day.isoformat() == expected


def test_a_machine_without_time_zones_takes_those_that_come_with_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(dates, "ZoneInfo", none)

    for moment, day in (("2026-03-29T22:00:00Z", "2026-03-30"), ("2026-10-25T22:30:00Z", "2026-10-25")):
        found = day_of(datetime.fromisoformat(moment), time_zone="Europe/Berlin", days_back=0)
        assert found.isoformat() == day


def test_an_unknown_time_zone_is_an_error() -> None:
    with pytest.raises(ZoneInfoNotFoundError, match="Europe/Nowhere"):
        day_of(datetime.fromisoformat("2026-03-29T22:00:00Z"), time_zone="Europe/Nowhere", days_back=0)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", ""),
        ("in/", "in/"),
        ("in/{date}/", "in/2024-02-29/"),
        ("in/{date:%Y/%m/%d}/", "in/2024/02/29/"),
        ("in/{date:%Y%m%d}.csv", "in/20240229.csv"),
        ("{date:%j}-{date:%G-W%V}", "060-2024-W09"),
        ("{{{date:%d}}}", "{29}"),
        ("a{{b}}", "a{b}"),
        ("受信/{date:%Y年%m月}/🎉", "受信/2024年02月/🎉"),
    ],
)
def test_a_template_has_the_day_in_it(template: str, expected: str) -> None:
    assert resolved(template, DAY) == expected


@pytest.mark.parametrize(
    "template", ["{day}", "{}", "{0}", "{date.year}", "{date!r}", "{date:{date}}", "{date", "date}", "{date[0]}"]
)
def test_anything_else_in_a_template_is_an_error(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        resolved(template, DAY)


@pytest.mark.parametrize("text", ["2026-11-21", "2024-02-29", "0001-01-01"])
def test_a_day_is_read(text: str) -> None:
    assert day_from(text).isoformat() == text


@pytest.mark.parametrize(
    "text", ["2026-02-29", "2026-13-01", "20261121", "2026-W47-6", "2026-11-21T00:00:00", " 2026-11-21", "", "today"]
)
def test_what_is_no_such_day_is_an_error(text: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        day_from(text)

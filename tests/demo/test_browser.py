"""A picture is a picture of the size that was asked for, or there is an error that says what the browser said."""

import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo import browser


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"rest"


class Chromium:
    """Takes the place of the browser, and writes a picture of its own size."""

    def __init__(self, picture: bytes | None) -> None:
        self._picture = picture
        self.words: list[str] = []

    def __call__(self, words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.words = words
        if self._picture is not None:
            [path] = [word.removeprefix("--screenshot=") for word in words if word.startswith("--screenshot=")]
            Path(path).write_bytes(self._picture)
        return subprocess.CompletedProcess(words, 21, "", "cannot open\n  the display")


def take(picture: bytes | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, Chromium]:
    chromium = Chromium(picture)
    monkeypatch.setattr(subprocess, "run", chromium)
    taken = browser.take_picture(folder / "page.html", folder / "page.png", width=300, height=200)
    return taken, chromium


def test_the_size_of_a_picture() -> None:
    assert browser.size_of(png(1100, 560)) == (1100, 560)


@pytest.mark.parametrize("content", [b"", b"GIF89a", png(3, 4)[:20]])
def test_what_is_no_picture_has_no_size(content: bytes) -> None:
    assert browser.size_of(content) == (0, 0)


def test_a_picture_is_taken_by_a_browser_that_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, chromium = take(png(300, 200), tmp_path, monkeypatch)
    assert taken == png(300, 200)
    assert chromium.words[-1] == (tmp_path / "page.html").as_uri()
    [profile] = [word.partition("=")[2] for word in chromium.words if word.startswith("--user-data-dir=")]
    assert not Path(profile).exists()


@pytest.mark.parametrize("picture", [None, b"", png(300, 100)])
def test_another_picture_or_none_is_an_error(
    picture: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.png").write_bytes(png(300, 200))  # Of the last time.
    with pytest.raises(RuntimeError, match="ended with 21 and no picture of 300 x 200: cannot open the display"):
        take(picture, tmp_path, monkeypatch)


def test_whether_there_is_a_browser_is_told_by_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not browser.there_is_one()
    (tmp_path / "chromium").touch(mode=0o755)
    assert browser.there_is_one()

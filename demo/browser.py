"""Pictures of pages, taken by a headless browser where there is one."""

import shutil
import subprocess
import tempfile
from pathlib import Path

_BROWSER = "chromium"
_WITHIN = 60.0  # seconds

# It loads nothing, asks nobody, and leaves nothing behind.
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_PNG = b"\x89PNG\r\n\x1a\n"


def there_is_one() -> bool:
    """Whether pictures can be taken here."""
    return shutil.which(_BROWSER) is not None


def take_picture(page: Path, picture: Path, *, width: int, height: int) -> bytes:
    """Renders a page to a picture of so many pixels, and returns it as it is in the file: PNG.

    Raises:
        RuntimeError: the browser made none, or another one.
        subprocess.TimeoutExpired: it took too long, and was killed.
    """
    picture.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="demo-browser-", ignore_cleanup_errors=True) as profile:
        made = subprocess.run(
            [
                str(shutil.which(_BROWSER)),
                *_OPTIONS,
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                f"--screenshot={picture}",
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=_WITHIN,
        )
    content = picture.read_bytes() if picture.exists() else b""
    if size_of(content) != (width, height):
        last = " ".join(made.stderr.split())[-300:]
        raise RuntimeError(f"{_BROWSER} ended with {made.returncode} and no picture of {width} x {height}: {last}")
    return content


def size_of(picture: bytes) -> tuple[int, int]:
    """Width and height in pixels, or twice nothing where it is no PNG.

    https://www.w3.org/TR/png-3/#11IHDR
    """
    if not picture.startswith(_PNG) or picture[12:16] != b"IHDR" or len(picture) < 24:
        return 0, 0
    return int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])

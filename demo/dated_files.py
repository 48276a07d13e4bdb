"""The files that the map moves: how they are called when they come in, and where each has to be in the end."""

from dataclasses import dataclass
from datetime import date

_LINES = 40


@dataclass(frozen=True)
class DatedFile:
    """A file of a day.

    Attributes:
        day: Its day.
        name: Its name, without the day.
        content: Its bytes.
    """

    day: date
    name: str
    content: bytes

    @property
    def key(self) -> str:
        """Where it comes in."""
        return f"{incoming(self.day)}_{self.name}"

    @property
    def target(self) -> str:
        """Where it belongs."""
        return f"{archive(self.day)}{self.name}"


def incoming(day: date) -> str:
    """What the keys of the files of a day begin with when they come in."""
    return f"incoming/{day:%Y-%m-%d}"


def archive(day: date) -> str:
    """The folder of a day."""
    return f"archive/{day:%Y/%m/%d}/"


def dated_files(day: date, count: int) -> list[DatedFile]:
    """Files of a day, no two of which have the same content."""
    return [DatedFile(day, f"store-{number:04}.csv", _orders(day, number)) for number in range(count)]


def _orders(day: date, store: int) -> bytes:
    rows = (f"{day},{store},{line},{(store * 7919 + line * 104_729) % 10_007}" for line in range(store % _LINES + 1))
    return "\n".join(["day,store,order,amount", *rows, ""]).encode()

"""How a correction is written down, checked and put in place.

A correction is a function that takes the place of one of MiniStack's. It receives the function it replaces as
its first argument, `stock`, so it can add to it or leave it out. Its docstring has three parts: what stock
MiniStack does, what AWS does, and the AWS document that says so.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

AnyFunction = Callable[..., Any]


class StaleCorrectionError(RuntimeError):
    """The function a correction replaces is gone or takes other arguments: MiniStack has changed."""


@dataclass(frozen=True)
class Correction:
    owner: ModuleType | type
    attribute: str
    parameters: str
    function: AnyFunction

    def apply(self) -> None:
        stock = getattr(self.owner, self.attribute, None)
        where = f"{self.owner.__name__}.{self.attribute}"
        if stock is None:
            raise StaleCorrectionError(f"{where} does not exist any more, but {self.function.__name__} replaces it")
        parameters = f"({', '.join(inspect.signature(stock).parameters)})"
        if parameters != self.parameters:
            raise StaleCorrectionError(
                f"{where} must take {self.parameters} for {self.function.__name__}, it takes {parameters}"
            )

        @functools.wraps(stock)
        def corrected(*args: Any, **kwargs: Any) -> Any:
            return self.function(stock, *args, **kwargs)

        setattr(self.owner, self.attribute, corrected)
        _replace_in_tables(self.owner, stock, corrected)


CORRECTIONS: list[Correction] = []


def correction(owner: ModuleType | type, attribute: str, parameters: str) -> Callable[[AnyFunction], AnyFunction]:
    """Registers the decorated function as the replacement of `owner.attribute`.

    `parameters` is the expected parameter list, such as `"(execution, error, cause)"`; another one raises
    `StaleCorrectionError` at start-up. Several corrections of one function wrap each other, the last outermost.
    """

    def register(function: AnyFunction) -> AnyFunction:
        CORRECTIONS.append(Correction(owner, attribute, parameters, function))
        return function

    return register


def _replace_in_tables(owner: ModuleType | type, stock: AnyFunction, corrected: AnyFunction) -> None:
    """MiniStack keeps its API actions in dicts of its modules; these must name the corrected function too."""
    for table in list(vars(owner).values()):
        if type(table) is dict:
            for key in [key for key, value in table.items() if value is stock]:
                table[key] = corrected

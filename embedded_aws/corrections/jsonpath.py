"""JSONPath as Step Functions reads it.

AWS uses the Jayway JsonPath library: a definite path (only fields and single indexes) yields its value and must exist;
an indefinite one (`*`, `..`, slices, unions, filters) yields the list of what it matches, which may be empty.
Document: Step Functions Developer Guide, "Using JSONPath paths", and github.com/json-path/JsonPath.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterator[Any]]


class PathError(ValueError):
    """The path is not well-formed, or it is definite and leads to nothing."""


def find(path: str, data: Any) -> Any:
    """What `path` selects in `data`. Raises `PathError`."""
    steps, definite = _compile(path)
    found = [data]
    for step in steps:
        found = [value for parent in found for value in step(parent)]
    if not definite:
        return found
    if not found:
        raise PathError(f"No results for path: {path}")
    return found[0]


def end_of_path(text: str, start: int) -> int:
    """Where the path that begins at `start` ends inside the arguments of an intrinsic function."""
    depth, quote = 0, ""
    for position in range(start, len(text)):
        character = text[position]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[(":
            depth += 1
        elif character in "])" and depth:
            depth -= 1
        elif character in ",)" and not depth:
            return position
    return len(text)


_NAME = re.compile(r"\.([^.\[\]*]+)")
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_NAMES = re.compile(rf"\[\s*((?:{_QUOTED})(?:\s*,\s*(?:{_QUOTED}))*)\s*\]")
_INDEXES = re.compile(r"\[\s*(-?\d+(?:\s*,\s*-?\d+)*)\s*\]")
_SLICE = re.compile(r"\[\s*(-?\d*)\s*:\s*(-?\d*)\s*(?::\s*(-?\d*)\s*)?\]")
_ALL = re.compile(r"\.\*|\[\s*\*\s*\]")
_COMPARISON = re.compile(rf"\s*@((?:\.\w+|\[[^\]]*\])*)\s*(?:(==|!=|<=|>=|<|>)\s*({_QUOTED}|[^\s&|]+))?\s*")


@lru_cache(maxsize=1024)
def _compile(path: str) -> tuple[tuple[Step, ...], bool]:
    if not path.startswith("$"):
        raise PathError(f"A path must start with $, got {path}")
    steps: list[Step] = []
    definite, position = True, 1
    while position < len(path):
        if path.startswith("..", position):
            steps.append(_descendants)
            definite = False
            position += 1 if path[position + 2 : position + 3] != "[" else 2
        elif path.startswith(".[", position):
            position += 1
        elif match := _ALL.match(path, position):
            steps.append(_children)
            definite, position = False, match.end()
        elif match := _NAME.match(path, position):
            steps.append(_fields((match[1],)))
            position = match.end()
        elif match := _NAMES.match(path, position):
            names = tuple(str(ast.literal_eval(name)) for name in re.findall(_QUOTED, match[1]))
            steps.append(_fields(names))
            definite, position = definite and len(names) == 1, match.end()
        elif match := _INDEXES.match(path, position):
            indexes = tuple(int(index) for index in match[1].split(","))
            steps.append(_elements(indexes))
            definite, position = definite and len(indexes) == 1, match.end()
        elif match := _SLICE.match(path, position):
            steps.append(_slice(slice(*(int(bound) if bound else None for bound in match.groups()))))
            definite, position = False, match.end()
        elif path.startswith("[?(", position):
            end = path.index(")]", position) if ")]" in path[position:] else -1
            if end < 0:
                raise PathError(f"The filter of {path} has no end")
            steps.append(_filter(path[position + 3 : end]))
            definite, position = False, end + 2
        else:
            raise PathError(f"Cannot read {path[position:]} in {path}")
    return tuple(steps), definite


def _fields(names: tuple[str, ...]) -> Step:
    def step(value: Any) -> Iterator[Any]:
        return (value[name] for name in names if isinstance(value, dict) and name in value)

    return step


def _elements(indexes: tuple[int, ...]) -> Step:
    def step(value: Any) -> Iterator[Any]:
        size = len(value) if isinstance(value, list) else 0
        return (value[index] for index in indexes if -size <= index < size)

    return step


def _slice(bounds: slice) -> Step:
    def step(value: Any) -> Iterator[Any]:
        return iter(value[bounds] if isinstance(value, list) else ())

    return step


def _children(value: Any) -> Iterator[Any]:
    return iter(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())


def _descendants(value: Any) -> Iterator[Any]:
    yield value
    for child in _children(value):
        yield from _descendants(child)


def _filter(condition: str) -> Step:
    alternatives = [[_comparison(part) for part in either.split("&&")] for either in condition.split("||")]

    def step(value: Any) -> Iterator[Any]:
        candidates = value if isinstance(value, list) else [value]
        return (
            candidate
            for candidate in candidates
            if any(all(holds(candidate) for holds in every) for every in alternatives)
        )

    return step


def _comparison(text: str) -> Callable[[Any], bool]:
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise PathError(f"Cannot read the filter {text}")
    path, operator, literal = match.groups()
    steps, _ = _compile(f"${path}")

    def values(candidate: Any) -> list[Any]:
        found = [candidate]
        for step in steps:
            found = [value for parent in found for value in step(parent)]
        return found

    if operator is None:
        return lambda candidate: bool(values(candidate))
    expected = _literal(literal)
    compare = _OPERATORS[operator]
    return lambda candidate: (
        any(compare(value, expected) for value in values(candidate)) or (operator == "!=" and not values(candidate))
    )


def _literal(text: str) -> Any:
    constants = {"true": True, "false": False, "null": None}
    if text in constants:
        return constants[text]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError) as error:
        raise PathError(f"Cannot read {text} in a filter") from error


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare_alike(left: Any, right: Any) -> bool:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        return (numbers or (isinstance(left, str) and isinstance(right, str))) and compare(left, right)

    return compare_alike


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": _ordered(lambda left, right: left < right),
    "<=": _ordered(lambda left, right: left <= right),
    ">": _ordered(lambda left, right: left > right),
    ">=": _ordered(lambda left, right: left >= right),
}

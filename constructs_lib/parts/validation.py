"""Refuses what cannot work, at synthesis: what is wrong, where, and what to write instead."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Duration, Token
from constructs import Construct


class ConfigurationError(ValueError):
    """An argument, or a combination of arguments, that cannot work.

    The message names the construct, the argument, the rule, the value and the remedy.
    """


def invalid(where: Construct | str, argument: str, rule: str, value: object, remedy: str) -> ConfigurationError:
    """The error to raise for `argument`, worded alike everywhere."""
    place = where if isinstance(where, str) else where.node.path or "App"
    return ConfigurationError(f"{place}: {argument} {rule}, got {_shown(value)}. {remedy}")


def require_free_id(scope: Construct, id_: str) -> None:
    """Two children of one scope cannot have the same id; the kernel says so without naming a remedy."""
    if scope.node.try_find_child(id_) is not None:
        raise invalid(scope, "id", "must be unique within its scope", id_, "Give this construct another id.")


def require_type(
    where: Construct | str, argument: str, value: object, types: type | tuple[type, ...], remedy: str
) -> None:
    """Python does not check types; a wrong one would fail far from here, or not at all."""
    if not isinstance(value, types):
        names = [one.__name__ for one in (types if isinstance(types, tuple) else (types,))]
        raise invalid(where, argument, f"must be of type {' or '.join(names)}", value, remedy)


def require_whole_number(
    where: Construct | str,
    argument: str,
    value: object,
    *,
    at_least: int,
    at_most: int,
    known_at_synthesis: bool = False,
) -> None:
    """`value` must be an integer within the bounds; a token passes unless it is reckoned with at synthesis."""
    if isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= at_most:
        return
    # To Python, a token in place of a number is a float.
    if not _is_token(value):
        raise invalid(
            where,
            argument,
            f"must be a whole number from {at_least} to {at_most}",
            value,
            f"Pass for example {at_least if at_least > 0 else min(1, at_most)}.",
        )
    if known_at_synthesis:
        remedy = f"Pass a literal such as {at_least} instead of a token."
        raise invalid(where, argument, "must be known at synthesis", value, remedy)


def require_duration(
    where: Construct | str,
    argument: str,
    value: Duration,
    *,
    at_least: Duration = Duration.seconds(1),
    at_most: Duration | None = None,
) -> int:
    """`value` must be a literal (it is reckoned with at synthesis), in whole seconds, within the bounds.

    Returns its length in seconds.
    """
    if not isinstance(value, Duration):
        raise invalid(where, argument, "must be a Duration", value, "Pass for example Duration.hours(1).")
    if value.is_unresolved():
        raise invalid(
            where,
            argument,
            "must be known at synthesis",
            value,
            "Pass a literal such as Duration.hours(1) instead of a token.",
        )
    milliseconds = value.to_milliseconds()
    if milliseconds < at_least.to_milliseconds() or milliseconds % 1000:
        raise invalid(
            where,
            argument,
            f"must be at least {at_least.to_human_string()}, in whole seconds",
            value,
            "Pass for example Duration.hours(1).",
        )
    if at_most is not None and milliseconds > at_most.to_milliseconds():
        raise invalid(
            where,
            argument,
            f"must be at most {at_most.to_human_string()}",
            value,
            f"Pass Duration.seconds({int(at_most.to_seconds())}) or less.",
        )
    return int(milliseconds) // 1000


def require_unreserved_keys(where: Construct, argument: str, value: Mapping[str, Any], reserved: Sequence[str]) -> None:
    """The state machine puts its own keys beside the input; an input that has them would be overwritten."""
    taken = sorted(set(value) & set(reserved))
    if taken:
        raise invalid(
            where,
            argument,
            f"must not have the keys {', '.join(reserved)}, which the state machine sets beside the input",
            taken,
            "Rename them, or nest your input one level deeper.",
        )


_PATH = re.compile(r"\$(\.[A-Za-z_][\w-]*|\['[^']+'\]|\[\d+\])*")
_STEP = re.compile(r"\.(?P<name>[A-Za-z_][\w-]*)|\['(?P<quoted>[^']+)'\]|\[(?P<index>\d+)\]")


def leads_somewhere(path: str, value: Any) -> bool:
    """Whether a JSONPath exists in `value`. Yes also for wildcards, filters and tokens, which only a run can tell."""
    if not _PATH.fullmatch(path):
        return True
    for step in _STEP.finditer(path):
        if Token.is_unresolved(value):
            return True
        try:
            value = value[int(step["index"]) if step["index"] else step["name"] or step["quoted"]]
        except (LookupError, TypeError):
            return False
    return True


def _shown(value: object) -> str:
    if isinstance(value, Duration):
        return "a token" if value.is_unresolved() else f"Duration of {value.to_human_string() or '0 seconds'}"
    return "a token" if isinstance(value, float | str | list) and _is_token(value) else repr(value)


def _is_token(value: object) -> bool:
    # The kernel does not survive to be asked about NaN or infinity: they are no JSON.
    return not (isinstance(value, float) and not math.isfinite(value)) and Token.is_unresolved(value)

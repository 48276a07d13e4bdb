"""AWS Step Functions: paths, payload templates, intrinsic functions and the rules of a Choice."""

import json
import operator
import random
import re
from collections.abc import Callable
from typing import Any

from ministack.services import stepfunctions as sfn

from embedded_aws.corrections import jsonpath
from embedded_aws.corrections.registry import AnyFunction, correction


def _runtime_error(cause: str) -> Exception:
    error: Exception = sfn._ExecutionError("States.Runtime", cause)
    return error


@correction(sfn, "_resolve_path", "(path, data)")
def a_path_that_leads_nowhere_is_an_error(stock: AnyFunction, path: str, data: Any) -> Any:
    """Stock: the value is null; filters, slices and `..` are not known.

    AWS: `States.Runtime`.
    Document: Step Functions Developer Guide, "Using JSONPath paths".
    """
    if not path or not path.startswith("$"):
        return data if not path else stock(path, data)
    try:
        return jsonpath.find(path, data)
    except jsonpath.PathError as error:
        raise _runtime_error(f"Invalid path '{path}': {error}") from error


@correction(sfn, "_resolve_params_obj", "(template, data, ctx)")
def a_template_names_the_path_it_misses(stock: AnyFunction, template: Any, data: Any, ctx: Any = None) -> Any:
    """Stock: a field whose path is missing is null; templates in lists of lists are not filled in.

    AWS: `States.Runtime` with the path, the field and the input.
    Document: Step Functions Developer Guide, "Manipulate parameters in Step Functions workflows".
    """
    if isinstance(template, list):
        return [a_template_names_the_path_it_misses(stock, each, data, ctx) for each in template]
    if not isinstance(template, dict):
        return template
    filled = {}
    for field, value in template.items():
        if not field.endswith(".$"):
            filled[field] = a_template_names_the_path_it_misses(stock, value, data, ctx)
        elif value.startswith("States."):
            filled[field[:-2]] = sfn._evaluate_intrinsic(value, data, ctx)
        else:
            filled[field[:-2]] = _fill(field, value, data, ctx)
    return filled


def _fill(field: str, path: str, data: Any, ctx: Any) -> Any:
    source = sfn._resolve_ctx_path("$$", ctx or {}) if path.startswith("$$") else data
    try:
        return jsonpath.find(path[1:] if path.startswith("$$") else path, source)
    except jsonpath.PathError as error:
        shown = json.dumps(source, separators=(",", ":"), default=str)
        raise _runtime_error(
            f"The JSONPath '{path}' specified for the field '{field}' could not be found in the input '{shown}'"
        ) from error


@correction(sfn, "_resolve_ctx_path", "(path, ctx)")
def the_context_object_has_a_root(stock: AnyFunction, path: str, ctx: Any) -> Any:
    """Stock: `$$` alone is null.

    AWS: the whole context object.
    Document: Step Functions Developer Guide, "Accessing execution data from the Context object".
    """
    return {name: ctx[name] for name in _CONTEXT if name in ctx} if path == "$$" else stock(path, ctx)


_CONTEXT = ("Execution", "Map", "State", "StateMachine", "Task")


@correction(sfn, "_evaluate_intrinsic", "(expression, data, ctx)")
def a_failing_intrinsic_fails_the_execution(stock: AnyFunction, expression: str, data: Any, ctx: Any) -> Any:
    """Stock: the exception of Python decides; inside a Map or Parallel another error name.

    AWS: `States.Runtime`.
    Document: Step Functions Developer Guide, "Handling errors in Step Functions workflows".
    """
    try:
        return stock(expression, data, ctx)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise _runtime_error(f"The function '{expression}' had the following error: {error}") from error


@correction(sfn, "_parse_intrinsic_args", "(s, pos)")
def a_path_argument_may_hold_a_filter(stock: AnyFunction, s: str, pos: int) -> Any:
    """Stock: a path argument ends at the first `,` or `)`, also inside a filter.

    AWS: paths may hold filters.
    Document: Step Functions Developer Guide, "Intrinsic functions".
    """
    arguments: list[tuple[Any, ...]] = []
    while s[pos] != ")":
        if s[pos].isspace() or s[pos] == ",":
            pos += 1
        elif s.startswith("States.", pos):
            argument, pos = sfn._parse_intrinsic_call(s, pos)
            arguments.append(argument)
        elif s[pos] == "$":
            end = jsonpath.end_of_path(s, pos)
            arguments.append(("path", s[pos:end].strip()))
            pos = end
        elif match := _LITERAL.match(s, pos):
            text, constant = match.groups()
            arguments.append(("num", json.loads(constant)) if text is None else ("str", text))
            pos = match.end()
        else:
            raise ValueError(f"Invalid arguments: {s[pos:]}")
    return arguments, pos + 1


_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|(-?\d+(?:\.\d+)?|true|false|null)")


@correction(sfn, "_exec_intrinsic", "(node, data, ctx)")
def intrinsics_compute_as_documented(stock: AnyFunction, node: Any, data: Any, ctx: Any) -> Any:
    """Stock: `MathRandom` may return its end; `Format` writes values as Python does (`True`, `None`).

    AWS: the end is exclusive; values are written as JSON.
    Document: Step Functions Developer Guide, "Intrinsic functions".
    """
    _, name, arguments = node
    values = [sfn._eval_intrinsic_arg(argument, data, ctx) for argument in arguments]
    if name == "States.MathRandom":
        start, end, *seed = values
        return (random.Random(*seed) if seed else random).randrange(start, end)
    if name == "States.Format":
        texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
        return stock((*node[:2], [("str", text) for text in texts]), data, ctx)
    return stock(node, data, ctx)


def _path_value(path: str, data: Any, ctx: Any) -> Any:
    return jsonpath.find(path[1:], ctx or {}) if path.startswith("$$") else jsonpath.find(path, data)


@correction(sfn, "_evaluate_rule", "(rule, data, ctx)")
def choice_rules_are_complete(stock: AnyFunction, rule: dict[str, Any], data: Any, ctx: Any = None) -> bool:
    r"""Stock: a variable that is missing is false; present but null counts as missing; `StringMatches` knows no
    escapes; most operators that end in `Path` never match.

    AWS: a missing variable is `States.Runtime`, except for `IsPresent`; `\\*` is an asterisk.
    Document: Step Functions Developer Guide, "Choice workflow state", and the Amazon States Language.
    """
    if "Variable" not in rule:
        return bool(stock(rule, data, ctx))
    path = rule["Variable"]
    name = next(key for key in rule if key in _COMPARISONS or key in _PATH_COMPARISONS)
    expected = rule[name]
    try:
        value = _path_value(path, data, ctx)
    except jsonpath.PathError as error:
        if name == "IsPresent":
            return not expected
        raise _runtime_error(
            f"Invalid path '{path}': The choice state's condition path references an invalid value."
        ) from error
    if name == "IsPresent":
        return bool(expected)
    if name in _PATH_COMPARISONS:
        name, expected = name.removesuffix("Path"), sfn._resolve_path_or_ctx(expected, data, ctx)
    return _COMPARISONS[name](value, expected)


def _matches(value: Any, pattern: str) -> bool:
    parts = re.findall(r"\\.|\*|[^\\*]+", pattern, re.DOTALL)
    regex = "".join(".*" if part == "*" else re.escape(part[1:] if part[0] == "\\" else part) for part in parts)
    return isinstance(value, str) and re.fullmatch(regex, value, re.DOTALL) is not None


def _compared(read: Callable[[Any], Any], compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def rule(value: Any, expected: Any) -> bool:
        left, right = read(value), read(expected)
        return left is not None and right is not None and compare(left, right)

    return rule


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}
_ORDERED_TYPES: dict[str, Callable[[Any], Any]] = {
    "String": lambda value: value if isinstance(value, str) else None,
    "Numeric": _number,
    "Timestamp": sfn._parse_ts,
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    **{
        f"{kind}{order}": _compared(read, compare)
        for kind, read in _ORDERED_TYPES.items()
        for order, compare in _ORDERS.items()
    },
    "BooleanEquals": _compared(lambda value: value if isinstance(value, bool) else None, operator.eq),
    "StringMatches": _matches,
    "IsPresent": lambda value, expected: bool(expected),
    "IsNull": lambda value, expected: (value is None) == expected,
    "IsNumeric": lambda value, expected: (_number(value) is not None) == expected,
    "IsString": lambda value, expected: isinstance(value, str) == expected,
    "IsBoolean": lambda value, expected: isinstance(value, bool) == expected,
    "IsTimestamp": lambda value, expected: bool(sfn._is_timestamp(value)) == expected,
}
_PATH_COMPARISONS = {f"{name}Path" for name in _COMPARISONS if name != "StringMatches" and not name.startswith("Is")}


@correction(sfn, "_execute_wait", "(state_def, raw_input, ctx)")
def a_wait_needs_whole_seconds(stock: AnyFunction, state_def: Any, raw_input: Any, ctx: Any = None) -> Any:
    """Stock: a `SecondsPath` that is no number waits not at all.

    AWS: `States.Runtime` unless it is a whole number of at least 0.
    Document: Step Functions Developer Guide, "Wait workflow state".
    """
    if path := state_def.get("SecondsPath"):
        seconds = sfn._resolve_path_or_ctx(path, sfn._apply_input_path(state_def, raw_input, ctx), ctx)
        if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
            raise _runtime_error(
                f"The SecondsPath parameter does not reference a positive integer: {path} == {json.dumps(seconds)}"
            )
    return stock(state_def, raw_input, ctx)

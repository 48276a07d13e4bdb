"""Starts a state machine on a schedule: by an EventBridge rule, or by EventBridge Scheduler."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aws_cdk import Duration, Token
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as scheduler_targets
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .job import TICK
from .validation import invalid, require_duration, require_type, require_whole_number

ScheduleLike = events.Schedule | scheduler.ScheduleExpression

_RATE = re.compile(r"rate\((?P<number>[0-9]+) (?P<unit>minute|hour|day)(?P<plural>s?)\)")
_CRON = re.compile(r"cron\((?P<fields>[^()]*)\)")

# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
_PLACEHOLDER = re.compile(r"<[^<>]*>")

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]

# Field, least and greatest value, names for values, further forms:
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
_CRON_FIELDS: tuple[tuple[str, int, int, list[str], str], ...] = (
    ("minutes", 0, 59, [], r"(?!)"),
    ("hours", 0, 23, [], r"(?!)"),
    ("day of month", 1, 31, [], r"L(-([1-9]|[12][0-9]|30))?|([1-9]|[12][0-9]|3[01])W|LW"),
    ("month", 1, 12, _MONTHS, r"(?!)"),
    ("day of week", 1, 7, _DAYS, r"L|([1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)(L|#[1-5])"),
    ("year", 1970, 2199, [], r"(?!)"),
)


class ScheduleTrigger(Construct):
    """Starts one execution each time the schedule comes round.

    An ``events.Schedule`` becomes a rule; a ``scheduler.ScheduleExpression`` a schedule of EventBridge Scheduler,
    which knows time zones and flexible time windows.

    With ``tells_tick`` the scheduled time is put beside the input, at ``$.tick.time``. It is the same at every delivery
    of one tick:
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html

    Raises:
        ConfigurationError: the expression is malformed, a time window is asked of a rule, or the input has a text that
            a rule would take for a placeholder.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        schedule: ScheduleLike,
        state_machine: sfn.IStateMachine,
        input: Mapping[str, Any],
        tells_tick: bool,
        dead_letters: sqs.IQueue,
        name: str | None,
        enabled: bool,
        time_window: scheduler.TimeWindow | None,
        retry_attempts: int,
        max_event_age: Duration,
    ) -> None:
        super().__init__(scope, id_)
        self.rule: events.Rule | None = None
        self.schedule: scheduler.Schedule | None = None
        require_whole_number(scope, "retry_attempts", retry_attempts, at_least=0, at_most=185)
        require_duration(
            scope, "max_event_age", max_event_age, at_least=Duration.minutes(1), at_most=Duration.hours(24)
        )
        check_expression(scope, schedule)
        if isinstance(schedule, events.Schedule):
            if time_window is not None:
                raise invalid(
                    scope,
                    "time_window",
                    "needs EventBridge Scheduler",
                    "events.Schedule",
                    "Pass schedule=scheduler.ScheduleExpression.… instead of events.Schedule.…",
                )
            if tells_tick:
                _require_no_placeholder(scope, input)
                input = {**input, TICK: {"time": events.EventField.from_path("$.time")}}
            self.rule = events.Rule(
                self,
                "Rule",
                rule_name=name,
                schedule=schedule,
                enabled=enabled,
                targets=[
                    targets.SfnStateMachine(
                        state_machine,
                        input=events.RuleTargetInput.from_object(input),
                        dead_letter_queue=dead_letters,
                        retry_attempts=retry_attempts,
                        max_event_age=max_event_age,
                    )
                ],
            )
        else:
            if tells_tick:
                input = {**input, TICK: {"time": scheduler.ContextAttribute.scheduled_time}}
            self.schedule = scheduler.Schedule(
                self,
                "Schedule",
                schedule_name=name,
                schedule=schedule,
                enabled=enabled,
                time_window=time_window,
                target=scheduler_targets.StepFunctionsStartExecution(
                    state_machine,
                    input=scheduler.ScheduleTargetInput.from_object(input),
                    dead_letter_queue=dead_letters,
                    retry_attempts=retry_attempts,
                    max_event_age=max_event_age,
                ),
            )


def _require_no_placeholder(scope: Construct, input: Mapping[str, Any]) -> None:
    """Where a rule fills in the time, it looks for what to fill in everywhere in the input."""
    # Tokens are not JSON yet.
    found = _PLACEHOLDER.search(json.dumps(input, default=lambda token: None))
    if found:
        raise invalid(
            scope,
            "input",
            "must have no text in angle brackets, which a rule that tells the tick takes for a placeholder",
            found[0],
            "Take the brackets away, or pass schedule=scheduler.ScheduleExpression.… instead of events.Schedule.…",
        )


def check_expression(scope: Construct, schedule: ScheduleLike, *, argument: str = "schedule") -> None:
    """Refuses an expression that EventBridge would refuse at deployment. A token passes.

    Raises:
        ConfigurationError: with what is wrong in it.
    """
    remedy = "Pass for example events.Schedule.rate(Duration.hours(1))."
    require_type(scope, argument, schedule, (events.Schedule, scheduler.ScheduleExpression), remedy)
    expression = schedule.expression_string
    if Token.is_unresolved(expression):
        return
    problem = _problem(expression, once_allowed=not isinstance(schedule, events.Schedule))
    if problem:
        raise invalid(
            scope,
            argument,
            f"must be a schedule expression: {problem}",
            expression,
            "Write for example rate(5 minutes) or cron(0 3 * * ? *).",
        )


def _problem(expression: str, *, once_allowed: bool) -> str | None:
    if rate := _RATE.fullmatch(expression):
        number = int(rate["number"])
        if number < 1:
            return "a rate is 1 or more"
        if (number == 1) == bool(rate["plural"]):
            return "the unit is singular for 1 and plural otherwise"
        return None
    if cron := _CRON.fullmatch(expression):
        return _cron_problem(cron["fields"].split())
    if expression.startswith("at("):
        return _at_problem(expression) if once_allowed else "at(…) needs EventBridge Scheduler"
    return "neither rate(…), cron(…) nor at(…)"


def _at_problem(expression: str) -> str | None:
    try:
        datetime.strptime(expression, "at(%Y-%m-%dT%H:%M:%S)")
    except ValueError:
        return "at takes a time like 2030-12-31T23:59:59"
    return None


def _cron_problem(fields: list[str]) -> str | None:
    if len(fields) != len(_CRON_FIELDS):
        return f"cron takes {len(_CRON_FIELDS)} fields, not {len(fields)}"
    for text, (name, least, greatest, names, special) in zip(fields, _CRON_FIELDS, strict=True):
        if text == "?" and name.startswith("day"):
            continue
        for item in text.split(","):
            if not re.fullmatch(special, item) and not _is_value(item, least, greatest, names):
                return f"{name} {item!r} is not within {least}-{greatest}"
    if (fields[2] == "?") == (fields[4] == "?"):
        return "exactly one of day of month and day of week is ?"
    return None


def _is_value(item: str, least: int, greatest: int, names: list[str]) -> bool:
    """``*``, a number or name, a range of them, each with an optional step."""
    span, _, step = item.partition("/")
    if step and not _number(step, 0, []):
        return False
    if span == "*":
        return True
    numbers = [_number(part, least, names) for part in span.split("-")]
    return len(numbers) <= 2 and all(number is not None and least <= number <= greatest for number in numbers)


def _number(text: str, least: int, names: list[str]) -> int | None:
    if text.upper() in names:
        return names.index(text.upper()) + least
    return int(text) if text.isascii() and text.isdigit() else None

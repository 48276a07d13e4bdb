"""Amazon EventBridge: when rules and schedules fire, and what their targets get."""

import json
from datetime import UTC, datetime
from typing import Any

from ministack.core.responses import new_uuid
from ministack.services import eventbridge, lambda_svc, scheduler

from embedded_aws.corrections.registry import AnyFunction, correction

_TICK = 1.0
"""Seconds between two looks at what is due. Stock looks every 10 s; AWS fires within the minute."""

_made: dict[Any, Any] = {}
"""When each schedule was made, as far as it was seen."""


@correction(eventbridge, "start_scheduler", "()")
def rules_are_looked_at_every_second(stock: AnyFunction) -> None:
    """Stock: a rule may fire 10 s late.

    AWS: "rate(1 minute)" fires a minute after the rule was made.
    Document: EventBridge User Guide, "Setting a schedule pattern for scheduled rules".
    """
    eventbridge._SCHEDULER_TICK_INTERVAL = _TICK
    stock()


@correction(scheduler, "start_scheduler", "()")
def schedules_are_looked_at_every_second(stock: AnyFunction) -> None:
    """Stock: a schedule may fire 10 s late.

    AWS: within the minute it is set to.
    Document: EventBridge Scheduler User Guide, "Schedule types in EventBridge Scheduler".
    """
    scheduler._SCHEDULE_TICK_INTERVAL = _TICK
    stock()


@correction(scheduler, "_tick_schedules", "()")
def a_rate_starts_at_once(stock: AnyFunction) -> None:
    """Stock: the first invocation of a schedule with a rate comes one interval after it was made.

    AWS: at its `StartDate`, and at once where it has none. (A rule with a rate does wait one interval.)
    Document: EventBridge Scheduler User Guide, "Schedule types in EventBridge Scheduler".
    """
    for key, schedule in list(scheduler._schedules._data.items()):
        if _made.get(key) != schedule["CreationDate"]:  # New, or made again under the name of an older one.
            _made[key] = schedule["CreationDate"]
            scheduler._schedule_last_fired.pop(key, None)
            if schedule["ScheduleExpression"].startswith("rate("):
                scheduler._schedule_last_fired[key] = 0
    stock()


@correction(eventbridge, "_invoke_target", "(target, event, rule, view)")
def schedules_fill_in_their_context(
    stock: AnyFunction, target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any], view: Any = None
) -> Any:
    """Stock: `<aws.scheduler.scheduled-time>` and its like reach the target as they are.

    AWS: replaced by their values.
    Document: EventBridge Scheduler User Guide, "Adding context attributes in EventBridge Scheduler".
    """
    if event.get("Source") != "aws.scheduler" or "<aws.scheduler." not in target.get("Input", ""):
        return stock(target, event, rule, view)
    due = datetime.fromtimestamp(event["Time"], UTC).strftime("%Y-%m-%dT%H:%M:00Z")
    values = {"schedule-arn": rule["Arn"], "scheduled-time": due, "execution-id": new_uuid(), "attempt-number": "1"}
    text = target["Input"]
    for name, value in values.items():
        text = text.replace(f"<aws.scheduler.{name}>", json.dumps(value)[1:-1])
    return stock({**target, "Input": text}, event, rule, view)


@correction(eventbridge, "_dispatch_to_lambda", "(arn, payload)")
def functions_are_invoked_asynchronously(stock: AnyFunction, arn: str, payload: str) -> None:
    """Stock: calls the function once; a failure is lost.

    AWS: an asynchronous invocation: two retries (or as many as configured), then the dead-letter queue or the failure
    destination of the function.
    Document: Lambda Developer Guide, "How Lambda handles errors and retries with asynchronous invocation".
    """
    function, configuration, _ = lambda_svc._get_func_record_for_ref(arn)
    if function and configuration:
        record = lambda_svc._execution_record_for_config(function, configuration)
        lambda_svc.invoke_async_with_retry(record, json.loads(payload))

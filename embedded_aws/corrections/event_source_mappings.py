"""AWS Lambda: event source mappings, their states, and what a function's answer means for its batch."""

import contextvars
import time
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import lambda_svc

from embedded_aws.corrections.registry import AnyFunction, correction

_A_CHANGE_TAKES = 1.0
"""Seconds. On AWS it is up to a minute."""

_changing: dict[str, tuple[str, float]] = {}
"""What a mapping is on its way to, and when it will be there, by its UUID."""

_batch: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("batch", default=None)
"""The ids of the messages whose failures are reported one by one."""


@correction(lambda_svc, "_esm_response", "(esm)")
def a_mapping_says_its_state(stock: AnyFunction, mapping: dict[str, Any]) -> Any:
    """Stock: what CloudFormation makes with `Enabled: false` says that it is `Enabled`; there is nothing in between.

    AWS: `Disabled`; and `Enabling`, `Disabling` or `Updating` until a change is done.
    Document: AWS Lambda API Reference, "GetEventSourceMapping".
    """
    answer = stock(mapping)
    if mapping["State"] != "Deleting":
        answer["State"] = _on_its_way(mapping["UUID"]) or ("Enabled" if mapping["Enabled"] else "Disabled")
    return answer


@correction(lambda_svc, "_update_esm", "(esm_id, data)")
def a_change_of_a_mapping_takes_its_time(stock: AnyFunction, uuid: str, data: dict[str, Any]) -> Any:
    """Stock: a change is done at once, and another one may follow.

    AWS: the answer says `Enabling`, `Disabling` or `Updating`; until that is done, the next change is refused with
    ResourceInUseException.
    Document: AWS Lambda API Reference, "UpdateEventSourceMapping".
    """
    mapping = lambda_svc._esms.get(uuid)
    if mapping is None:
        return stock(uuid, data)
    if _on_its_way(uuid):
        return error_response_json(
            "ResourceInUseException", "Cannot update the event source mapping because it is in use.", 400
        )
    before = mapping["Enabled"]
    answer = stock(uuid, data)
    if answer[0] != 200:
        return answer
    state = "Updating" if mapping["Enabled"] == before else "Enabling" if mapping["Enabled"] else "Disabling"
    _changing[uuid] = state, time.monotonic() + _A_CHANGE_TAKES
    return json_response(lambda_svc._esm_response(mapping))


def _on_its_way(uuid: str) -> str | None:
    state, done = _changing.get(uuid, ("", 0.0))
    return state if time.monotonic() < done else None


@correction(lambda_svc, "_run_sqs_batch", "(esm, func_rec, event, batch, queue_url, queue_name)")
def a_batch_is_known_to_its_invocation(
    stock: AnyFunction, mapping: dict[str, Any], function: Any, event: Any, batch: Any, *queue: str
) -> None:
    """Stock: reads the function's answer by itself.

    AWS: see `an_answer_that_makes_no_sense_fails_its_batch`.
    Document: Lambda Developer Guide, "Handling errors for an SQS event source in Lambda".
    """
    reported = "ReportBatchItemFailures" in mapping["FunctionResponseTypes"]
    token = _batch.set([message["id"] for message in batch] if reported else None)
    try:
        stock(mapping, function, event, batch, *queue)
    finally:
        _batch.reset(token)


@correction(lambda_svc, "_execute_function", "(func, event)")
def an_answer_that_makes_no_sense_fails_its_batch(stock: AnyFunction, function: Any, event: Any) -> Any:
    """Stock: an item without an identifier counts for nothing, so that the whole batch is deleted; a list that is null
    breaks off, so that the whole batch comes back.

    AWS: where an `itemIdentifier` is empty, null or has another name, the whole batch has failed; a list that is null
    means that all is well.
    Document: Lambda Developer Guide, "Handling errors for an SQS event source in Lambda", on partial batch responses.
    """
    result = stock(function, event)
    ids, answer = _batch.get(), result.get("body")
    if ids is None or not isinstance(answer, dict):
        return result
    failures = answer.get("batchItemFailures") or []
    if not all(isinstance(item, dict) and item.get("itemIdentifier") for item in failures):
        failures = [{"itemIdentifier": each} for each in ids]
    return {**result, "body": {**answer, "batchItemFailures": failures}}

"""Amazon SQS: long queues, and the errors that Step Functions makes of those of SQS."""

import time
from itertools import islice
from typing import Any

from ministack.services import sqs
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.registry import AnyFunction, correction


@correction(sqs, "_collect_msgs", "(q, max_n, vis_timeout)")
def a_long_queue_is_as_quick_as_a_short_one(
    stock: AnyFunction, queue: dict[str, Any], most: int, visibility_timeout: int
) -> Any:
    """Stock: each receive goes through all messages several times: 50 ms in a queue of 20,000.

    Here: it ends at the last message that it takes. Document: none, this is not about AWS.
    """
    if queue["is_fifo"]:
        return stock(queue, most, visibility_timeout)
    now = time.time()
    visible = (message for message in queue["messages"] if message.get("visible_at", 0) <= now)
    return stock({**queue, "messages": list(islice(visible, most))}, most, visibility_timeout)


_NAMED_ERRORS = {
    "InvalidAddress",
    "InvalidMessageContents",
    "InvalidSecurity",
    "KmsAccessDenied",
    "KmsDisabled",
    "KmsInvalidKeyUsage",
    "KmsInvalidState",
    "KmsNotFound",
    "KmsOptInRequired",
    "KmsThrottled",
    "QueueDoesNotExist",
    "RequestThrottled",
    "UnsupportedOperation",
}
"""Of SendMessage. The SDK for Java has an exception for each of them, and the general one for the others."""


@correction(sfn, "_invoke_sqs_send_message", "(resource, input_data)")
def an_error_of_sqs_is_an_exception(stock: AnyFunction, resource: str, input_data: Any) -> Any:
    """Stock: the code of SQS itself, such as `SQS.QueueDoesNotExist` or `SQS.InvalidParameterValue`.

    AWS: the exception of the SDK for Java: `SQS.QueueDoesNotExistException`, and `SQS.AmazonSQSException` for those
    that have none of their own, such as a message that is too long for its queue.
    Document: AWS SDK for Java API Reference, package "com.amazonaws.services.sqs.model". (Step Functions has no list.)
    """
    try:
        return stock(resource, input_data)
    except sfn._ExecutionError as error:
        code = error.error.removeprefix("SQS.")
        error.error = f"SQS.{code}Exception" if code in _NAMED_ERRORS else "SQS.AmazonSQSException"
        raise

"""Amazon DynamoDB: single operations are atomic."""

import threading
from typing import Any

from ministack.services import dynamodb

from embedded_aws.corrections.registry import AnyFunction, correction

_lock = threading.RLock()


def one_operation_at_a_time(stock: AnyFunction, data: Any) -> Any:
    """Stock: requests and the threads of Step Functions read, change and write the same item at the same time.

    AWS: every write is atomic and serializable with the others on its item.
    Document: DynamoDB Developer Guide, "Working with items" and "DynamoDB Transactions: How it works".
    """
    with _lock:
        return stock(data)


for operation in (
    "_put_item",
    "_get_item",
    "_delete_item",
    "_update_item",
    "_query",
    "_scan",
    "_batch_get_item",
    "_batch_write_item",
    "_transact_get_items",
    "_transact_write_items",
):
    correction(dynamodb, operation, "(data)")(one_operation_at_a_time)

"""Amazon DynamoDB: single operations are atomic, and a query reads no further than it has to."""

import threading
from itertools import islice
from typing import Any

from ministack.services import dynamodb

from embedded_aws.corrections.registry import AnyFunction, correction

_lock = threading.RLock()

_SHORT = 100
"""Items of a partition that are looked through in no time."""


@correction(dynamodb, "_query", "(data)")
def a_long_partition_is_as_quick_as_a_short_one(stock: AnyFunction, data: Any) -> Any:
    """Stock: the condition is parsed and evaluated for each item of the partition, whatever the limit: 0.3 s in 3,000.

    Here: in order, and no further than to the item after the limit. Document: none, this is not about AWS.
    """
    # What is not plain, such as a request with a mistake, is left to stock.
    plain = {"TableName", "ConsistentRead", "Limit", "KeyConditionExpression"}
    expressions = {"ExpressionAttributeNames", "ExpressionAttributeValues"}
    name, table = data.get("TableName"), dynamodb._tables.get(data.get("TableName"))
    if not table or not plain <= set(data) <= plain | expressions or not table["sk_name"]:
        return stock(data)
    condition = data["KeyConditionExpression"]
    values, names = (data.get(f"ExpressionAttribute{kind}", {}) for kind in ("Values", "Names"))
    key = dynamodb._extract_pk_from_condition(condition, values, names, table["pk_name"])
    partition = table["items"].get(key, {})
    if len(partition) <= _SHORT:
        return stock(data)
    kind = dynamodb._get_attr_type(table, table["sk_name"])
    in_order = sorted(partition.items(), key=lambda pair: dynamodb._sort_key_value(pair[1].get(table["sk_name"]), kind))
    found = (
        pair
        for pair in in_order
        if dynamodb._evaluate_condition(condition, pair[1], values, names, slot="KeyConditionExpression")
    )
    dynamodb._tables[name] = {**table, "items": {key: dict(islice(found, int(data["Limit"]) + 1))}}
    try:
        return stock(data)
    finally:
        dynamodb._tables[name] = table


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

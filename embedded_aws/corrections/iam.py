"""AWS IAM: what a policy is told about a request."""

import contextlib
import json
from typing import Any

from ministack.core import iam_actions, iam_evaluator

from embedded_aws.corrections.registry import AnyFunction, correction


@correction(iam_evaluator, "_resolve_condition_key", "(key, ctx)")
def every_request_counts_as_encrypted(stock: AnyFunction, key: str, request: Any) -> Any:
    """Stock: requests come over HTTP, so with `enforce_iam` a policy that denies what is not encrypted denies all.

    AWS: requests of the SDKs come over HTTPS, and `aws:SecureTransport` is true.
    Document: IAM User Guide, "AWS global condition context keys".
    """
    return "true" if key.lower() == "aws:securetransport" else stock(key, request)


@correction(iam_actions, "_lambda_action", "(method, path)")
def a_mapping_takes_permissions_of_its_own(stock: AnyFunction, method: str, path: str) -> str | None:
    """Stock: with `enforce_iam`, whoever gets one event source mapping needs the permission to list them all, and
    whoever updates or deletes one needs none.

    AWS: `lambda:GetEventSourceMapping`, `lambda:UpdateEventSourceMapping`, `lambda:DeleteEventSourceMapping` on it.
    Document: Service Authorization Reference, "Actions, resources, and condition keys for AWS Lambda".
    """
    collection, _, mapping = path.strip("/").partition("/event-source-mappings/")
    if mapping and "/" not in collection:
        verbs = {"GET": "Get", "PUT": "Update", "DELETE": "Delete"}
        return f"{verbs[method]}EventSourceMapping" if method in verbs else None
    return str(found) if (found := stock(method, path)) else None


@correction(iam_actions, "extract_iam_action", "(service, method, path, headers, body, query_params)")
def a_batch_takes_the_permission_of_its_entries(stock: AnyFunction, service: str, *request: Any) -> str | None:
    """Stock: with `enforce_iam`, SendMessageBatch, DeleteMessageBatch and ChangeMessageVisibilityBatch of SQS take
    permissions of those names, which do not exist.

    AWS: `sqs:SendMessage`, `sqs:DeleteMessage`, `sqs:ChangeMessageVisibility`.
    Document: Amazon SQS Developer Guide, "Amazon SQS API permissions: Actions and resource reference".
    """
    action = stock(service, *request)
    return str(action).removesuffix("Batch") if service == "sqs" and action else action


@correction(
    iam_actions, "extract_resource_arn", "(service, method, path, headers, body, query_params, region, account_id)"
)
def a_map_run_takes_permissions_of_its_own(
    stock: AnyFunction, service: str, method: str, path: str, headers: Any, body: bytes, *rest: Any
) -> Any:
    """Stock: with `enforce_iam`, DescribeMapRun and UpdateMapRun are checked against the resource `*`, so a policy that
    names map runs denies them.

    AWS: against the map run.
    Document: Service Authorization Reference, "Actions, resources, and condition keys for AWS Step Functions".
    """
    if service == "states":
        with contextlib.suppress(ValueError, AttributeError):
            if map_run := json.loads(body).get("mapRunArn"):
                return map_run
    return stock(service, method, path, headers, body, *rest)

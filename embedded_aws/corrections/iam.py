"""AWS IAM: what a policy is told about a request."""

from typing import Any

from ministack.core import iam_evaluator

from embedded_aws.corrections.registry import AnyFunction, correction


@correction(iam_evaluator, "_resolve_condition_key", "(key, ctx)")
def every_request_counts_as_encrypted(stock: AnyFunction, key: str, request: Any) -> Any:
    """Stock: requests come over HTTP, so with `enforce_iam` a policy that denies what is not encrypted denies all.

    AWS: requests of the SDKs come over HTTPS, and `aws:SecureTransport` is true.
    Document: IAM User Guide, "AWS global condition context keys".
    """
    return "true" if key.lower() == "aws:securetransport" else stock(key, request)

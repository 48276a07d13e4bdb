"""What the runs of a map have left: their accounts, and what their children got. And the function for operators."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from embedded_aws import EmbeddedAws


class MapRuns:
    """A deployed map, as its operators see it.

    Args:
        aws: Where it is.
        results: The bucket of its results.
        operator: The name of its function for operators.
    """

    def __init__(self, aws: EmbeddedAws, results: str, operator: str) -> None:
        self._s3: Any = aws.client("s3")
        self._lambda: Any = aws.client("lambda")
        self._results, self._operator = results, operator

    def summary(self, execution: str) -> Mapping[str, Any]:
        """The account of an execution, by its ARN."""
        return dict(json.loads(self._read(f"{_folder(execution)}summary.json")))

    def named_failures(self, execution: str) -> dict[str, str]:
        """The errors of all failed objects that the account lists, by their keys."""
        lines = self._read(f"{_folder(execution)}failures.jsonl").splitlines()
        return {line["item"]["Key"]: line["error"] for line in map(json.loads, lines)}

    def children(self, execution: str) -> list[list[str]]:
        """The keys of the objects that each child got that was started, as Step Functions noted them."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._results, Prefix=f"{_folder(execution)}map/"
        )
        keys = [str(each["Key"]) for page in pages for each in page.get("Contents", [])]
        told = [key for key in keys if key.rpartition("/")[2].startswith(("SUCCEEDED_", "FAILED_"))]
        return [child for key in told for child in batches(self._read(key))]

    def run_again(self, execution: str) -> str:
        """Has what failed processed again, and returns the ARN of the execution that does it.

        Raises:
            RuntimeError: nothing was started.
        """
        request = {"action": "rerun", "execution": execution}
        reply = self._lambda.invoke(FunctionName=self._operator, Payload=json.dumps(request))
        answer = json.loads(reply["Payload"].read())
        if not answer.get("started"):
            raise RuntimeError(f"{request}: {answer}")
        return str(answer["started"])

    def _read(self, key: str) -> bytes:
        content: bytes = self._s3.get_object(Bucket=self._results, Key=key)["Body"].read()
        return content


def batches(results: bytes) -> Iterator[list[str]]:
    """The keys of the objects in each child's input, read from a file of results."""
    for child in json.loads(results):
        yield [item["Key"] for item in json.loads(child["Input"])["Items"]]


def _folder(execution: str) -> str:
    return f"runs/{execution.rsplit(':', 1)[-1]}/"

"""What is read of the runs of a map."""

import json
import uuid
from typing import Any

import pytest

from demo.map_runs import MapRuns, batches
from embedded_aws import EmbeddedAws

RUN = "arn:aws:states:us-east-1:000000000000:execution:map:night"


def child(*keys: str) -> dict[str, Any]:
    given = {"Items": [{"Key": key, "Size": 1} for key in keys], "BatchInput": {}}
    return {"Input": json.dumps(given), "Status": "SUCCEEDED"}


@pytest.fixture
def results(embedded_aws: EmbeddedAws) -> str:
    name = f"results-{uuid.uuid4()}"
    embedded_aws.client("s3").create_bucket(Bucket=name)
    return name


def test_what_each_child_got_is_read_from_the_results() -> None:
    content = json.dumps([child("a", "b"), child("\N{CARD FILE BOX}")]).encode()
    assert list(batches(content)) == [["a", "b"], ["\N{CARD FILE BOX}"]]


def test_the_children_of_a_run_are_those_that_were_started(embedded_aws: EmbeddedAws, results: str) -> None:
    for key, content in {
        "night/map/1/manifest.json": {"ResultFiles": {}},
        "night/map/1/SUCCEEDED_0.json": [child("a"), child("b")],
        "night/map/1/FAILED_0.json": [child("c")],
        "night/map/1/PENDING_0.json": [child("d")],
        "day/map/2/SUCCEEDED_0.json": [child("of another run")],
    }.items():
        embedded_aws.client("s3").put_object(Bucket=results, Key=f"runs/{key}", Body=json.dumps(content).encode())
    assert sorted(MapRuns(embedded_aws, results, "none").children(RUN)) == [["a"], ["b"], ["c"]]


def test_failures_are_named_by_their_keys(embedded_aws: EmbeddedAws, results: str) -> None:
    lines = [{"item": {"Key": key}, "error": error} for key, error in (("a", "WrongName"), ("b\u2028", "TargetExists"))]
    for name, content in {
        "failures.jsonl": "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines),
        "summary.json": json.dumps({"counts": {"failed": 2}}),
    }.items():
        embedded_aws.client("s3").put_object(Bucket=results, Key=f"runs/night/{name}", Body=content.encode())
    runs = MapRuns(embedded_aws, results, "none")
    assert runs.named_failures(RUN) == {"a": "WrongName", "b\u2028": "TargetExists"}
    assert runs.summary(RUN)["counts"]["failed"] == 2

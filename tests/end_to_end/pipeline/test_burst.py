"""Hundreds of objects at once; ``python -m benchmarks pipeline --sizes 5000`` sends more."""

from collections import Counter
from collections.abc import Iterator

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_stepfunctions as sfn

from embedded_aws import EmbeddedAws
from tests.end_to_end.pipeline.account import Pipeline, deployed, make_pipeline, surroundings
from tests.end_to_end.test_definition_on_embedded_aws import eventually

OBJECTS = 400
LIMIT = 50


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Burst")
    # The shortest work, so that all the time goes to the pipeline.
    work = sfn.Wait(stack, "Shortly", time=sfn.WaitTime.duration(Duration.seconds(0)))
    make_pipeline(surroundings(stack), "Burst", job=work, max_concurrency=LIMIT)
    return stack


@pytest.fixture
def burst(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with deployed(embedded_aws, make_stack, tmp_path_factory.mktemp("burst")) as account:
        yield account.pipeline("Burst")


def test_of_hundreds_of_objects_none_is_lost_or_done_twice(burst: Pipeline) -> None:
    keys = [f"{number:04d}.csv" for number in range(OBJECTS)]
    burst.put_all(keys)
    in_use = []

    def is_over() -> bool:
        in_use.append(burst.usage()[0])
        return burst.is_idle()

    eventually(is_over, "the end of all work", within=600)
    assert max(in_use) <= LIMIT
    # The work is tried once in an execution.
    done = burst.objects_of(burst.executions("SUCCEEDED"))
    assert Counter(one["key"] for one in done) == Counter(keys)
    assert len(burst.executions()) == OBJECTS
    burst.assert_nothing_is_lost()
    assert burst.usage() == (0, 0)

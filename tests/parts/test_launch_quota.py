"""Warnings with their arithmetic, and none where all is well."""

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ecs as ecs

from constructs_lib import Semaphore
from tests.pipelines import fargate_job, pipeline
from tests.scheduled import template_of

RATE = (
    " that Fargate starts: the others are throttled, and launched again after a pause. Pass max_starts_per_second=20 "
    "or less. https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html"
)


def warnings(stack: cdk.Stack, about: str = "constructs-lib:") -> list[str]:
    """The texts of this library's warnings, once everything is synthesized."""
    template_of(stack)
    entries = [str(entry.data) for one in stack.node.find_all() for entry in one.node.metadata]
    return [entry.split(" [ack: ")[0] for entry in entries if f" [ack: {about}" in entry]


def test_more_vcpu_than_the_quota_is_told_with_the_arithmetic(stack: cdk.Stack) -> None:
    pipeline(stack, job=fargate_job(stack, cpu=2048), max_concurrency=60, vcpu_quota=100)
    assert warnings(stack) == [
        "60 tasks at once with 2 vCPU each need 120 vCPU, and vcpu_quota is 100: from the task number 51 on, Fargate "
        "refuses them for lack of capacity, and they are launched again and again. Let 50 or fewer run at once, or "
        "have the quota raised."
    ]


def test_vcpu_may_be_written_as_such(stack: cdk.Stack) -> None:
    task = ecs.TaskDefinition(stack, "Sized", compatibility=ecs.Compatibility.FARGATE, cpu="2 vCPU", memory_mib="4 GB")
    assert fargate_job(stack, task_definition=task).vcpu == 2


@pytest.mark.parametrize(("units", "expected"), [(256, 0), (1024, 1)])
def test_the_vcpu_of_the_task_definition_count(units: int, expected: int, stack: cdk.Stack) -> None:
    task = ecs.FargateTaskDefinition(stack, "Sized", cpu=units)
    task.add_container("app", image=ecs.ContainerImage.from_registry("busybox"))
    pipeline(stack, job=fargate_job(stack, task_definition=task), max_concurrency=40, vcpu_quota=10)
    assert len(warnings(stack)) == expected


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (
            {"max_concurrency": 101},
            "101 tasks may start at once: more than the 100 at once, and then 20 per second,",
        ),
        (
            {"max_concurrency": 5, "max_starts_per_second": 25},
            "25 starts per second are more than the 20 per second",
        ),
    ],
)
def test_more_launches_than_fargate_takes_are_told(options: dict[str, Any], what: str, stack: cdk.Stack) -> None:
    pipeline(stack, job=fargate_job(stack), **options)
    assert warnings(stack) == [what + RATE]


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": 100},
        {"max_concurrency": 5000, "max_starts_per_second": 20},
        {"max_concurrency": 400, "max_starts_per_second": 20, "vcpu_quota": 100},
    ],
)
def test_what_fits_is_not_told(options: dict[str, Any], stack: cdk.Stack) -> None:
    pipeline(stack, job=fargate_job(stack), **options)
    assert warnings(stack) == []


@pytest.mark.parametrize(("pace", "expected"), [(None, 1), (20, 0)])
def test_the_limit_of_a_shared_semaphore_counts(pace: float | None, expected: int, stack: cdk.Stack) -> None:
    quota = Semaphore(stack, "Quota", limit=500, max_starts_per_second=pace)
    pipeline(stack, job=fargate_job(stack), semaphore=quota)
    assert len(warnings(stack)) == expected


def test_a_function_has_no_such_quota(stack: cdk.Stack) -> None:
    pipeline(stack, max_concurrency=5000)
    assert warnings(stack) == []


def test_vcpu_that_only_the_deployment_tells_are_not_reckoned_with(stack: cdk.Stack) -> None:
    units = cdk.CfnParameter(stack, "Cpu", type="Number").value_as_number
    pipeline(stack, job=fargate_job(stack, cpu=units), max_concurrency=50, vcpu_quota=1)
    assert warnings(stack) == []

"""Warns at synthesis where so many tasks at once, or so fast, are more than Fargate allows."""

from aws_cdk import Annotations
from constructs import Construct

from .fargate_job import FargateJob

# RunTask on Fargate, for each account and region: a burst, and then so many each second.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html
_BURST = 100
_STARTS_PER_SECOND = 20


def warn_of_vcpu_quota(where: Construct, job: FargateJob, *, limit: int, quota: float) -> None:
    """Warns if so many tasks at once need more vCPU than the account may use."""
    vcpu = job.vcpu
    if vcpu is None or limit * vcpu <= quota:
        return
    Annotations.of(where).add_warning_v2(
        "constructs-lib:vcpuQuota",
        f"{limit} tasks at once with {vcpu:g} vCPU each need {limit * vcpu:g} vCPU, and vcpu_quota is {quota:g}: "
        f"from the task number {int(quota / vcpu) + 1} on, Fargate refuses them for lack of capacity, and they are "
        f"launched again and again. Let {int(quota / vcpu)} or fewer run at once, or have the quota raised.",
    )


def warn_of_launch_rate(where: Construct, *, limit: int, pace: float | None) -> None:
    """Warns if so many tasks may be launched within a moment that ECS would throttle the launches."""
    if pace is not None and pace > _STARTS_PER_SECOND:
        what = f"{pace:g} starts per second are more than the {_STARTS_PER_SECOND} per second"
    elif pace is None and limit > _BURST:
        allowed = f"{_BURST} at once, and then {_STARTS_PER_SECOND} per second,"
        what = f"{limit} tasks may start at once: more than the {allowed}"
    else:
        return
    Annotations.of(where).add_warning_v2(
        "constructs-lib:launchRate",
        f"{what} that Fargate starts: the others are throttled, and launched again after a pause. "
        f"Pass max_starts_per_second={_STARTS_PER_SECOND} or less. "
        "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html",
    )

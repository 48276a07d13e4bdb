"""AWS CDK constructs for batch work that must not fail in silence."""

from .parts.alert_function import AlertFunction
from .parts.fargate_job import Capacity
from .parts.retry import NO_RETRY, RETRY_LIKE_THE_ORIGINAL, LaunchRetry, RetryPolicy
from .parts.semaphore import Semaphore, SharedSemaphore
from .parts.validation import ConfigurationError
from .scheduled_step_functions_fargate_task import Overlap, ScheduledStepFunctionsFargateTask

__all__ = [
    "NO_RETRY",
    "RETRY_LIKE_THE_ORIGINAL",
    "AlertFunction",
    "Capacity",
    "ConfigurationError",
    "LaunchRetry",
    "Overlap",
    "RetryPolicy",
    "ScheduledStepFunctionsFargateTask",
    "Semaphore",
    "SharedSemaphore",
]

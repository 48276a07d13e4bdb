"""AWS CDK constructs for batch work that must not fail in silence."""

from .parts.alert_function import AlertFunction
from .parts.fargate_job import Capacity, FargateJob
from .parts.retry import NO_RETRY, RETRY_LIKE_THE_ORIGINAL, LaunchRetry, RetryPolicy
from .parts.semaphore import Semaphore, SharedSemaphore
from .parts.validation import ConfigurationError
from .s3_triggered_throttled_pipeline import S3TriggeredThrottledPipeline
from .scheduled_step_functions_fargate_task import Overlap, ScheduledStepFunctionsFargateTask

__all__ = [
    "NO_RETRY",
    "RETRY_LIKE_THE_ORIGINAL",
    "AlertFunction",
    "Capacity",
    "ConfigurationError",
    "FargateJob",
    "LaunchRetry",
    "Overlap",
    "RetryPolicy",
    "S3TriggeredThrottledPipeline",
    "ScheduledStepFunctionsFargateTask",
    "Semaphore",
    "SharedSemaphore",
]

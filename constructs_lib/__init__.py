"""AWS CDK constructs for batch work that must not fail in silence."""

from .distributed_map_processor import DistributedMapProcessor
from .error_spool_reprocessor import ErrorSpoolReprocessor
from .parts.alert_function import AlertFunction
from .parts.batch import Batch
from .parts.error_spool import ErrorSpool
from .parts.failure_tolerance import FailureTolerance
from .parts.fargate_job import Capacity, FargateJob
from .parts.hold import Hold, MaintenanceWindow
from .parts.item_source import (
    CsvItems,
    InputItems,
    InventoryItems,
    ItemSource,
    JsonItems,
    JsonLinesItems,
    ParquetItems,
    S3Objects,
)
from .parts.retry import NO_RETRY, RETRY_LIKE_THE_ORIGINAL, RETRY_ONCE_EXCEPT_TIMEOUTS, LaunchRetry, RetryPolicy
from .parts.semaphore import Semaphore, SharedSemaphore
from .parts.validation import ConfigurationError
from .s3_triggered_throttled_pipeline import S3TriggeredThrottledPipeline
from .scheduled_step_functions_fargate_task import Overlap, ScheduledStepFunctionsFargateTask

__all__ = [
    "NO_RETRY",
    "RETRY_LIKE_THE_ORIGINAL",
    "RETRY_ONCE_EXCEPT_TIMEOUTS",
    "AlertFunction",
    "Batch",
    "Capacity",
    "ConfigurationError",
    "CsvItems",
    "DistributedMapProcessor",
    "ErrorSpool",
    "ErrorSpoolReprocessor",
    "FailureTolerance",
    "FargateJob",
    "Hold",
    "InputItems",
    "InventoryItems",
    "ItemSource",
    "JsonItems",
    "JsonLinesItems",
    "LaunchRetry",
    "MaintenanceWindow",
    "Overlap",
    "ParquetItems",
    "RetryPolicy",
    "S3Objects",
    "S3TriggeredThrottledPipeline",
    "ScheduledStepFunctionsFargateTask",
    "Semaphore",
    "SharedSemaphore",
]

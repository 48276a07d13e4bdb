"""What MiniStack does differently from AWS, put right in its own process. Nothing on disk changes.

One module per AWS service. Importing a module only registers its corrections; `apply` puts them in place.
"""

import importlib
from importlib.metadata import version

from embedded_aws.corrections.registry import CORRECTIONS, StaleCorrectionError

MINISTACK_VERSION = "1.5.33"
"""The one version these corrections were written for: they replace private functions."""

MODULES = (
    "cloudformation",
    "cloudwatch",
    "dynamodb",
    "ecs",
    "event_source_mappings",
    "eventbridge",
    "iam",
    "lambda_functions",
    "s3",
    "sqs",
    "step_functions_branches",
    "step_functions_ecs",
    "step_functions_endings",
    "step_functions_errors",
    "step_functions_history",
    "step_functions_map_runs",
    "step_functions_paths",
    "step_functions_redrive",
    "step_functions_tokens",
)


def apply() -> None:
    """Puts every correction in place. Raises `StaleCorrectionError` where MiniStack is not what they expect."""
    installed = version("ministack")
    if installed != MINISTACK_VERSION:
        raise StaleCorrectionError(f"ministack must be {MINISTACK_VERSION} for these corrections, got {installed}")
    for module in MODULES:
        importlib.import_module(f"{__name__}.{module}")
    for correction in CORRECTIONS:
        correction.apply()

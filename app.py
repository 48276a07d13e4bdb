"""The example app: composes the stacks and has cdk-nag check them.

Context (``cdk deploy -c schedule="rate(1 hour)"``): ``schedule`` and ``timeout_seconds`` of the scheduled example;
``folder`` of the inventories; ``image`` of
all tasks; ``time_zone`` of the dated folders.
"""

import json
from pathlib import Path

from supported_node import use_supported_node

use_supported_node()

from aws_cdk import App, Duration, TimeZone, Validations
from cdk_nag import AwsSolutionsChecks

from stacks import inventory_job, pipeline_example
from stacks.dated_folders_example import DatedFoldersExample
from stacks.pipeline_example import PipelineExample
from stacks.scheduled_example import ScheduledExample
from stacks.semaphore_example import SemaphoreExample
from stacks.spool_example import SpoolExample

# The CLI passes cdk.json's context, a bare `python app.py` does not: both must synthesize the same.
app = App(
    context=json.loads(Path(__file__).with_name("cdk.json").read_text())["context"],
    analytics_reporting=False,
)


def context(key: str, default: str) -> str:
    return str(app.node.try_get_context(key) or default)


folder, image = context("folder", inventory_job.FOLDER), context("image", inventory_job.IMAGE)
ScheduledExample(
    app,
    "ScheduledExample",
    schedule=context("schedule", "cron(0 3 * * ? *)"),
    timeout=Duration.seconds(int(context("timeout_seconds", "900"))),
    folder=folder,
    image=image,
)
SemaphoreExample(app, "SemaphoreExample", folder=folder, image=image)
PipelineExample(app, "PipelineExample", image=context("image", pipeline_example.IMAGE))
SpoolExample(app, "SpoolExample")
DatedFoldersExample(app, "DatedFoldersExample", time_zone=TimeZone.of(context("time_zone", "Asia/Tokyo")))
Validations.of(app).add_plugins(AwsSolutionsChecks(app))
app.synth()

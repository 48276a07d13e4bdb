"""The example app: composes the stacks and has cdk-nag check them.

Context (``cdk deploy -c schedule="rate(1 hour)"``): ``schedule``, ``timeout_seconds``, ``folder`` and
``image`` of the example.
"""

import json
from pathlib import Path

from supported_node import use_supported_node

use_supported_node()

from aws_cdk import App, Duration, Validations
from cdk_nag import AwsSolutionsChecks

from stacks.scheduled_example import ScheduledExample

# The CLI passes cdk.json's context, a bare `python app.py` does not: both must synthesize the same.
app = App(
    context=json.loads(Path(__file__).with_name("cdk.json").read_text())["context"],
    analytics_reporting=False,
)


def context(key: str, default: str) -> str:
    return str(app.node.try_get_context(key) or default)


ScheduledExample(
    app,
    "ScheduledExample",
    schedule=context("schedule", "cron(0 3 * * ? *)"),
    timeout=Duration.seconds(int(context("timeout_seconds", "900"))),
    folder=context("folder", "/usr/local/lib/python3.13"),
    image=context("image", "public.ecr.aws/docker/library/python:3.13-alpine"),
)
Validations.of(app).add_plugins(AwsSolutionsChecks(app))
app.synth()

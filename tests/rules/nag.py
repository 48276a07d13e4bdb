"""cdk-nag as a function: what it finds in an app."""

import json
from collections.abc import Callable
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import Validations
from cdk_nag import AwsSolutionsChecks

from tests.templates import FLAGS

Finding = tuple[str, str]
"""The rule, with its finding in brackets where it has one, and the path of the construct."""


def findings(build: Callable[[cdk.App], object], outdir: Path) -> list[Finding]:
    """The findings of AwsSolutionsChecks that nobody acknowledged."""
    # Without the key a finding fails the synthesis, and only the first report would be seen.
    context = {**FLAGS, "@aws-cdk/core:failSynthOnValidationErrors": False}
    app = cdk.App(outdir=str(outdir), context=context, analytics_reporting=False)
    build(app)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    report = json.loads((outdir / "validation-report.json").read_text())
    return sorted(
        (violation["ruleName"], construct["constructPath"])
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        if violation["ruleName"].startswith("AwsSolutions-")
        for construct in violation["violatingConstructs"]
    )

"""The Lambda functions of this library, made one way."""

from collections.abc import Mapping
from pathlib import Path

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

_PACKAGE = Path(__file__).resolve().parent.parent
_HOMES = (_PACKAGE / "_lambda_src", _PACKAGE.parent / "lambda_src")
"""Where the handlers lie: inside the installed package, or beside it in a checkout."""


def lambda_source() -> Path:
    """The folder of all handlers, which is one asset.

    Raises:
        FileNotFoundError: the installation is not complete.
    """
    for home in _HOMES:
        if home.is_dir():
            return home
    raise FileNotFoundError(f"constructs_lib is incomplete: no Lambda sources at {' or at '.join(map(str, _HOMES))}")


def make_function(
    scope: Construct,
    id_: str,
    *,
    handler: str,
    description: str,
    environment: Mapping[str, str],
    dead_letter_queue: sqs.IQueue | None,
    log_retention: logs.RetentionDays,
    timeout: Duration = Duration.seconds(30),
    memory_size: int = 256,
) -> lambda_.Function:
    """A function from `lambda_src`, with a log group of its own and a role that may write there and no more.

    Without a dead-letter queue where nothing is lost with an event: the next one does the same.
    """
    log_group = logs.LogGroup(scope, f"{id_}Logs", retention=log_retention, removal_policy=RemovalPolicy.DESTROY)
    role = iam.Role(scope, f"{id_}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    log_group.grant_write(role)
    return lambda_.Function(
        scope,
        id_,
        description=description,
        runtime=lambda_.Runtime.PYTHON_3_14,
        architecture=lambda_.Architecture.ARM_64,
        handler=handler,
        # What Python leaves behind would change the asset's hash without a change of code.
        code=lambda_.Code.from_asset(str(lambda_source()), exclude=["**/__pycache__", "**/*.pyc"]),
        environment=dict(environment),
        role=role,
        log_group=log_group,
        logging_format=lambda_.LoggingFormat.JSON,
        timeout=timeout,
        memory_size=memory_size,
        dead_letter_queue=dead_letter_queue,
    )

"""The unreliable neighbour that the example of the spool depends on, and where it counts what it did."""

from pathlib import Path

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_ssm as ssm
from constructs import Construct

_CODE = Path(__file__).parent / "sample_job" / "neighbour.py"


class Neighbour(Construct):
    """A function that books what it is given. Its `mood` is to be switched: ``{"down": true, "seconds": 2}``.

    Args:
        scope: The parent.
        id_: Unique within the scope.
    """

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(scope, id_)
        self.mood = ssm.StringParameter(self, "Mood", string_value='{"down": false, "seconds": 0}')
        self.bookings = dynamodb.Table(
            self,
            "Bookings",
            partition_key=dynamodb.Attribute(name="name", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            removal_policy=RemovalPolicy.DESTROY,
        )
        log_group = logs.LogGroup(
            self, "Log", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        )
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log_group.grant_write(role)
        self.mood.grant_read(role)
        self.bookings.grant(role, "dynamodb:UpdateItem")
        self.function = lambda_.Function(
            self,
            "Function",
            runtime=lambda_.Runtime.PYTHON_3_14,
            handler="index.handle",
            # All of it travels in the template: nothing to upload.
            code=lambda_.Code.from_inline(_CODE.read_text()),
            environment={"MOOD": self.mood.parameter_name, "BOOKINGS": self.bookings.table_name},
            role=role,
            log_group=log_group,
            timeout=Duration.seconds(30),
        )

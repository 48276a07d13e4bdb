"""The function that moves files from one folder of a bucket to another."""

from pathlib import Path

from aws_cdk import Acknowledgment, Duration, RemovalPolicy, Stack, Validations
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

_CODE = Path(__file__).parent / "sample_job" / "move.py"


class Mover(Construct):
    """A function that may move what is in one folder of a bucket to another, and no more.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        bucket: Where both folders are; made in this stack.
        source: What it may take from, such as ``incoming/``.
        target: What it may write to, such as ``archive/``.
    """

    def __init__(self, scope: Construct, id_: str, *, bucket: s3.Bucket, source: str, target: str) -> None:
        super().__init__(scope, id_)
        log_group = logs.LogGroup(
            self, "Log", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        )
        self._role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log_group.grant_write(self._role)
        # Without it S3 does not tell what is not there from what must not be seen.
        self._role.add_to_policy(iam.PolicyStatement(actions=["s3:ListBucket"], resources=[bucket.bucket_arn]))
        # The tags of a file go with it.
        self._allow(bucket, source, "s3:GetObject", "s3:GetObjectTagging", "s3:DeleteObject")
        self._allow(bucket, target, "s3:GetObject", "s3:PutObject", "s3:PutObjectTagging")
        self.function = lambda_.Function(
            self,
            "Function",
            runtime=lambda_.Runtime.PYTHON_3_14,
            handler="index.handle",
            # All of it travels in the template: nothing to upload.
            code=lambda_.Code.from_inline(_CODE.read_text()),
            role=self._role,
            log_group=log_group,
            memory_size=512,
            timeout=Duration.minutes(5),
        )

    def _allow(self, bucket: s3.Bucket, folder: str, *actions: str) -> None:
        objects = bucket.arn_for_objects(f"{folder}*")
        self._role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=[objects]))
        arn = ".".join(Stack.of(self).resolve(bucket.bucket_arn)["Fn::GetAtt"])
        Validations.of(self._role).acknowledge(
            Acknowledgment(
                id=f"AwsSolutions-IAM5[Resource::<{arn}>/{folder}*]",
                reason="Which files will come, nobody knows before.",
            )
        )

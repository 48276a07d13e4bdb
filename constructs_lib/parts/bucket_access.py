"""What a role may do with some of the objects of a bucket, and with its key where it has one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn

from .wildcard_acknowledgement import acknowledge_wildcard

READ = ("s3:GetObject",)

# Large objects are written in parts: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
READ_AND_WRITE = ("s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject")


@dataclass(frozen=True, kw_only=True)
class BucketAccess:
    """Access to objects of one bucket. Unlike CDK's own grants, for these actions only.

    Args:
        bucket: Of this account.
        objects: The keys, with ``*`` for what is not known. Default: none.
        actions: What may be done with them. Default `READ`.
        listing: The prefixes that may be listed, with ``*`` for what is not known. Only with ``"*"``, all of them, does
            a key that is not there look otherwise than one that may not be read. Default: none.
        reason: Why a key is not known, as a sentence. Needed where ``objects`` has a ``*``.
    """

    bucket: s3.IBucket
    objects: str | None = None
    actions: Sequence[str] = READ
    listing: str | None = None
    reason: str = ""

    def connect(self, state_machine: sfn.StateMachine) -> None:
        """Allows it the role of a state machine."""
        self.allow(state_machine.role)

    def allow(self, role: iam.IRole | None) -> None:
        """Allows it a role."""
        # Only an imported function or state machine has none.
        assert role is not None
        if self.listing is not None:
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/amazon-s3-policy-keys.html
            only = None if self.listing == "*" else {"StringLike": {"s3:prefix": self.listing}}
            self._add(role, ["s3:ListBucket"], self.bucket.bucket_arn, only)
        if self.objects is None:
            return
        arn = self.bucket.arn_for_objects(self.objects)
        self._add(role, self.actions, arn)
        if "*" in self.objects:
            acknowledge_wildcard(role, arn, self.reason)
        key = self.bucket.encryption_key
        if key is not None:
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
            writing = ["kms:GenerateDataKey"] if "s3:PutObject" in self.actions else []
            self._add(role, ["kms:Decrypt", *writing], key.key_arn)

    def _add(
        self, role: iam.IRole, actions: Sequence[str], resource: str, conditions: Mapping[str, Any] | None = None
    ) -> None:
        role.add_to_principal_policy(
            iam.PolicyStatement(actions=list(actions), resources=[resource], conditions=conditions)
        )

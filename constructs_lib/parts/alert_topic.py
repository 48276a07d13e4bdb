"""The topic of the alerts: encrypted, and yet within reach of alarms and rules."""

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct


class AlertTopic(Construct):
    """An SNS topic with a key of its own, to which this account's alarms and rules may publish, too.

    The key that AWS manages for SNS would cost nothing, but alarms and rules cannot use it, and then fail in
    silence: https://repost.aws/knowledge-center/cloudwatch-receive-sns-for-alarm-trigger
    """

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(scope, id_)
        services = [iam.ServicePrincipal(f"{name}.amazonaws.com") for name in ("cloudwatch", "events")]
        of_this_account = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
        self.key = kms.Key(
            self,
            "Key",
            description=f"Alerts of {scope.node.path}",
            enable_key_rotation=True,
            # Nothing is kept in the topic that a lost key would make unreadable.
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                principals=services,
                resources=["*"],
                conditions=of_this_account,
            )
        )
        self.topic = sns.Topic(self, "Resource", enforce_ssl=True, master_key=self.key)
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sns:Publish"],
                principals=services,
                resources=[self.topic.topic_arn],
                conditions=of_this_account,
            )
        )

    def grant_publish(self, grantee: iam.IGrantable) -> None:
        """Like that of the topic, but for the two actions on the key that publishing takes, without a wildcard.

        https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
        """
        for actions, resource in (
            (["sns:Publish"], self.topic.topic_arn),
            (["kms:Decrypt", "kms:GenerateDataKey"], self.key.key_arn),
        ):
            grantee.grant_principal.add_to_principal_policy(iam.PolicyStatement(actions=actions, resources=[resource]))

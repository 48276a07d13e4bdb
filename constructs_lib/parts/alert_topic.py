"""The topic of the alerts: encrypted, and yet within reach of alarms and rules."""

from collections.abc import Sequence

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct


class AlertTopic(Construct):
    """An SNS topic with a key of its own, so that this account's alarms may publish there, too.

    The key that AWS manages for SNS would cost nothing, but alarms and rules cannot use it, and then fail in
    silence: https://repost.aws/knowledge-center/cloudwatch-receive-sns-for-alarm-trigger
    """

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(scope, id_)
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
                principals=[iam.ServicePrincipal(f"{name}.amazonaws.com") for name in ("cloudwatch", "events")],
                # This key. Who may publish with it is for the topic's policy to say.
                resources=["*"],
            )
        )
        self.topic = sns.Topic(self, "Resource", enforce_ssl=True, master_key=self.key)
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sns:Publish"],
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                resources=[self.topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )


def publishing(topic: sns.ITopic) -> Sequence[iam.PolicyStatement]:
    """What publishing to `topic` takes. Unlike CDK's own grant, without a wildcard for the actions on its key.

    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    """
    statements = [iam.PolicyStatement(actions=["sns:Publish"], resources=[topic.topic_arn])]
    if topic.master_key is not None:
        actions = ["kms:Decrypt", "kms:GenerateDataKey"]
        statements.append(iam.PolicyStatement(actions=actions, resources=[topic.master_key.key_arn]))
    return statements

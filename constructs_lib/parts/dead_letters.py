"""The queue for what could not be delivered: no trigger and no alert is dropped in silence."""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from .acknowledgements import acknowledge
from .alarms import alarm_on


class DeadLetters(Construct):
    """An encrypted queue that keeps messages for 14 days (the most SQS allows), with an alarm on the first one."""

    def __init__(self, scope: Construct, id_: str, *, alarm_actions: Sequence[cloudwatch.IAlarmAction] = ()) -> None:
        super().__init__(scope, id_)
        self.queue = sqs.Queue(
            self,
            "Resource",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
            retention_period=Duration.days(14),
        )
        acknowledge(self.queue, {"AwsSolutions-SQS3": "This queue is itself the dead-letter queue."})
        self.alarm = alarm_on(
            self,
            "Alarm",
            self.queue.metric_approximate_number_of_messages_visible(period=Duration.minutes(1), statistic="Maximum"),
            description=f"{scope.node.path}: something could not be delivered and waits in the dead-letter queue.",
            actions=alarm_actions,
        )

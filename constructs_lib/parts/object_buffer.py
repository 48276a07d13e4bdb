"""The queue between a bucket and the work: what arrives is kept until the work comes to it."""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from .alarms import alarm_on
from .dead_letters import DeadLetters
from .object_filter import ObjectFilter

_MINUTE = Duration.minutes(1)

# What SQS allows at the most: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LONGEST_RETENTION = Duration.days(14)


class ObjectBuffer(Construct):
    """A queue that gets an event for each new object of a bucket that counts.

    Has the bucket send its events to EventBridge. Creates the rule, the queue (encrypted, TLS only), a dead-letter
    queue and an alarm on the oldest object. What is in the queue for 14 days is lost; the alarm rings long before.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        bucket: In the account and region of the stack.
        objects: Which objects count.
        reader_timeout: The timeout of the function that reads the queue.
        oldest_object_alarm: The alarm rings when an object waits for so long.
        alarm_actions: What the alarms do.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        bucket: s3.IBucket,
        objects: ObjectFilter,
        reader_timeout: Duration,
        oldest_object_alarm: Duration,
        alarm_actions: Sequence[cloudwatch.IAlarmAction],
    ) -> None:
        super().__init__(scope, id_)
        self.dead_letters = DeadLetters(self, "DeadLetters", alarm_actions=alarm_actions)
        self.queue = sqs.Queue(
            self,
            "Resource",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=LONGEST_RETENTION,
            # "At least six times": https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
            visibility_timeout=Duration.seconds(6 * int(reader_timeout.to_seconds())),
            # What cannot be read is put away by the reader at once. What is received so often, the most that SQS
            # allows, is so because of an outage.
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters.queue, max_receive_count=1000),
        )
        bucket.enable_event_bridge_notification()
        self.rule = events.Rule(
            self,
            "Rule",
            description=f"New objects for {scope.node.path}.",
            event_pattern=objects.event_pattern(bucket),
            targets=[targets.SqsQueue(self.queue, dead_letter_queue=self.dead_letters.queue)],
        )
        self.alarm = alarm_on(
            self,
            "OldestObject",
            self.metric_oldest_object(period=_MINUTE),
            description=f"{scope.node.path}: an object has waited for {oldest_object_alarm.to_human_string()}.",
            threshold=int(oldest_object_alarm.to_seconds()),
            actions=alarm_actions,
        )

    def metric_waiting(self, *, period: Duration, statistic: str = "Maximum") -> cloudwatch.Metric:
        """How many objects wait in the queue."""
        return self.queue.metric_approximate_number_of_messages_visible(period=period, statistic=statistic)

    def metric_oldest_object(self, *, period: Duration, statistic: str = "Maximum") -> cloudwatch.Metric:
        """For how many seconds the object that waits longest has been in the queue."""
        return self.queue.metric_approximate_age_of_oldest_message(period=period, statistic=statistic)

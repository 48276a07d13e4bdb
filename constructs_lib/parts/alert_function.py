"""The function that turns a failure into a message a person can act on."""

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from .alarms import alarm_on
from .alert_topic import AlertTopic, publishing
from .dead_letters import DeadLetters
from .functions import make_function
from .handlers import FunctionHandler, Message
from .job import Job
from .validation import require_free_id


class AlertFunction(Construct, FunctionHandler):
    """Tells what failed: which job, what kind of failure, why, how often it was tried, where to look.

    It publishes the message to an SNS topic and logs it as JSON, with the last lines of the failed
    container's log. One alert function can serve many jobs.

    Creates the function with its role and log group, the topic unless one is given, a dead-letter queue
    for what could not be told, and two alarms.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        topic: Where the message goes. Default: a new `AlertTopic`; subscribe to it as ``alert.topic``, which alarms
            may use as well.
        alarm_actions: What the alarms of the function itself do. Default: nothing; they are still visible.
        log_retention: How long the function's log is kept. Default 3 months.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        topic: sns.ITopic | None = None,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
        log_retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
    ) -> None:
        require_free_id(scope, id_)
        Construct.__init__(self, scope, id_)
        self.topic = topic or AlertTopic(self, "Topic").topic
        self.dead_letters = DeadLetters(self, "DeadLetters", alarm_actions=alarm_actions)
        self.function = make_function(
            self,
            "Function",
            handler="alert.handler.handle",
            description=f"Alerts of {self.node.path}",
            environment={"ALERT_TOPIC_ARN": self.topic.topic_arn},
            dead_letter_queue=self.dead_letters.queue,
            log_retention=log_retention,
        )
        FunctionHandler.__init__(self, self.function)
        for statement in publishing(self.topic):
            self.function.add_to_role_policy(statement)
        self.alarm = alarm_on(
            self,
            "Failing",
            self.function.metric_errors(),
            description=f"{self.node.path}: the alert function itself fails.",
            actions=alarm_actions,
        )

    def prepare(self, scope: Construct, job: Job) -> None:
        """Allows the function to read the job's log. The policy lies beside the job, so that no cycle arises
        between its stack and that of the function."""
        arns = job.log_group_arns()
        if arns and self.function.role is not None:
            iam.Policy(
                scope,
                "ReadLog",
                roles=[self.function.role],
                statements=[iam.PolicyStatement(actions=["logs:GetLogEvents"], resources=list(arns))],
            )

    def _payload(self, message: Message, job: Mapping[str, Any]) -> Message:
        return {**message, "Job": job}

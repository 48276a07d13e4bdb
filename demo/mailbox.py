"""An inbox for alerts: a queue that is subscribed to the alert topic, as a pager would be."""

import json
import re
import threading
import time
from dataclasses import dataclass
from typing import Any

from embedded_aws import EmbeddedAws


@dataclass(frozen=True)
class Alert:
    """An alert as it was delivered."""

    subject: str
    kind: str
    text: str

    @property
    def exit_code(self) -> str:
        found = re.search(r"^Exit code: +(\d+)$", self.text, re.MULTILINE)
        return found[1] if found else "none"

    @property
    def log(self) -> str:
        """The last log lines in it, or what it says in their place."""
        found = re.search(r"^Last log lines:\n(.*?)\n\nInput of the execution:$", self.text, re.MULTILINE | re.DOTALL)
        return found[1] if found else "none"


def alert_from_notification(body: str) -> Alert:
    """Reads what SNS puts into a queue."""
    notification = json.loads(body)
    kind = notification.get("MessageAttributes", {}).get("kind", {}).get("Value", "none")
    return Alert(subject=notification.get("Subject", ""), kind=kind, text=notification["Message"])


class Mailbox:
    """Subscribes to a topic and keeps what arrives. May be asked from several threads."""

    def __init__(self, aws: EmbeddedAws, topic: str) -> None:
        self._sqs: Any = aws.client("sqs")
        self._queue = self._sqs.create_queue(QueueName=f"alerts-of-{topic.rsplit(':', 1)[-1]}"[:80])["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])
        aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["Attributes"]["QueueArn"])
        self._alerts: list[Alert] = []
        self._lock = threading.Lock()

    def alert_about(self, execution: str, *, within: float = 30) -> Alert:
        """Waits for the alert about an execution, by its ARN.

        Raises:
            TimeoutError: none came `within` so many seconds.
        """
        return self.alerts_about(execution, within=within)[0]

    def alerts_about(self, execution: str, *, within: float = 30) -> list[Alert]:
        """All alerts about an execution, as soon as there is one.

        Raises:
            TimeoutError: none came `within` so many seconds.
        """
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            self._collect()
            if found := [alert for alert in list(self._alerts) if execution in alert.text]:
                return found
            time.sleep(0.2)
        raise TimeoutError(f"no alert arrived within {within:.0f} s")

    def _collect(self) -> None:
        with self._lock:
            answer = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                self._alerts.append(alert_from_notification(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

"""The spool and the quarantine: queues whose messages are looked at, given back, moved and deleted."""

import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import boto3
from botocore.config import Config

from pipeline.patience import ONE_REQUEST, Patience, TimeIsOverError
from spool.decide import Message
from spool.metrics import log
from spool.parallel import batches, side_by_side

BATCH = 10
"""Messages in one request, the most that SQS takes."""

MOST_BYTES = 64 * 1024 * 1024
"""How much of a queue is held at once; the function has to have the memory."""

LONGEST_MESSAGE = 1024 * 1024
"""Bytes, with its attributes:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""

MOST_ATTRIBUTES = 10
MOST_RECEIVES = 500
"""After so many a message is replaced by a copy: to look at a queue must not bring its messages to the dead letters."""

LONGEST_ATTRIBUTE = 8_000
WORKERS, MOST_RECEIVING = 16, 8
"""Requests under way at once, and how many of them receive: near the end of a queue most of these find nothing."""


@cache
def sqs() -> Any:
    return boto3.client("sqs", config=ONE_REQUEST.merge(Config(max_pool_connections=WORKERS)))


class Queue:
    """A queue of SQS.

    Args:
        client: A boto3 client of SQS.
        url: The queue's URL.
        patience: How long a request is repeated.
        workers: How many requests are under way at once.
    """

    def __init__(self, client: Any, url: str, patience: Patience, *, workers: int = WORKERS) -> None:
        self._client = client
        self._url = url
        self._patience = patience
        self._workers = workers

    def count(self) -> int:
        """How many messages are to be had, as far as SQS knows: those of the last minute may be missing."""
        name = "ApproximateNumberOfMessages"
        reply = self._patience.ask(lambda: self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=[name]))
        return int(reply["Attributes"][name])

    def receive(self, most: int, *, seconds: int, enough: int | None = None) -> list[Message]:
        """All messages that are to be had, up to `most` and `MOST_BYTES`; each once. Nobody else sees them for a while.

        What time is left for decides how many.

        Args:
            most: How many at the most.
            seconds: For how long nobody else sees them.
            enough: It stops when it has so many, and does not look whether there are more, which takes a second.
        """
        found: dict[str, Message] = {}
        received, size, is_empty = 0, 0, False
        at_once = 1 if enough is None else MOST_RECEIVING
        wanted = most if enough is None else min(most, enough)
        while not is_empty and received < most and len(found) < wanted and size < MOST_BYTES:
            needed = -(-(wanted - len(found)) // BATCH)
            try:
                pages = side_by_side(lambda _: self._page(seconds), range(min(at_once, needed)), workers=self._workers)
            except TimeIsOverError:
                break
            for message in (message for page in pages for message in page):
                received += 1
                size += len(message.body)
                # The later handle of the same message is the one that counts.
                found[message.id] = message
            is_empty = not all(pages)
            at_once = min(at_once * 2, MOST_RECEIVING)
        return list(found.values())

    def _page(self, seconds: int) -> list[Message]:
        reply = self._patience.ask(
            lambda: self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=BATCH,
                VisibilityTimeout=seconds,
                # With a wait SQS asks all of its servers, so that an empty answer means an empty queue.
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
                MessageAttributeNames=["All"],
            )
        )
        return [
            Message(
                id=each["MessageId"],
                body=each["Body"],
                handle=each["ReceiptHandle"],
                sent_at=int(each["Attributes"]["SentTimestamp"]) / 1000,
                receives=int(each["Attributes"]["ApproximateReceiveCount"]),
                attributes=each.get("MessageAttributes", {}),
            )
            for each in reply.get("Messages", [])
        ]

    def delete(self, messages: Sequence[Message]) -> None:
        """Deletes messages. One that cannot be deleted comes again, and then finds what was done for it."""
        for batch in batches(messages, BATCH):
            entries = [{"Id": str(number), "ReceiptHandle": each.handle} for number, each in enumerate(batch)]
            self._all_of("delete_message_batch", entries)

    def give_back(self, messages: Sequence[Message]) -> None:
        """Shows messages to others at once. Where that fails they come back by themselves, later."""
        old = [each for each in messages if each.receives >= MOST_RECEIVES]
        young = [each for each in messages if each.receives < MOST_RECEIVES]
        for each in old:
            try:
                self._renew(each)
            except Exception as problem:
                log("WARN", "a message that was received often was not replaced", message_id=each.id, error=problem)
        side_by_side(self._give_back, batches(young, BATCH), workers=self._workers)

    def _give_back(self, batch: Sequence[Message]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": each.handle, "VisibilityTimeout": 0}
            for number, each in enumerate(batch)
        ]
        self._all_of("change_message_visibility_batch", entries)

    def _renew(self, message: Message) -> None:
        self._send(message.body, message.attributes)
        self.delete([message])

    def _all_of(self, operation: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Makes a request for a batch, and again for what was not accepted of it, while there is time."""
        missing, attempt = list(entries), 0
        try:
            while missing:
                request = partial(getattr(self._client, operation), QueueUrl=self._url, Entries=missing)
                reply: Mapping[str, Any] = self._patience.ask(request)
                failed = {each["Id"]: each for each in reply.get("Failed", [])}
                again = {name for name, each in failed.items() if not each["SenderFault"]}
                if refused := [each for each in failed.values() if each["SenderFault"]]:
                    # For one: the message has been deleted, or the handle is too old.
                    log("WARN", f"{operation} was refused", refused=refused)
                missing = [entry for entry in missing if entry["Id"] in again]
                if missing:
                    self._patience.pause(attempt)
                    attempt += 1
        except Exception as problem:
            log("WARN", f"{operation} did not succeed", entries=len(missing), error=problem)

    def send(self, message: Message, notes: Mapping[str, str]) -> None:
        """Sends a message's body, with its attributes and notes beside them. Raises what SQS refuses."""
        ours = {name: {"DataType": "String", "StringValue": _plain(text)} for name, text in notes.items() if text}
        attributes = {**message.attributes, **ours}
        if len(attributes) > MOST_ATTRIBUTES:
            attributes = ours
        if _size(message.body, attributes) > LONGEST_MESSAGE:
            attributes = {}
        self._send(message.body, attributes)

    def _send(self, body: str, attributes: Mapping[str, Any]) -> None:
        request = {
            name: {part: value for part, value in each.items() if part in ("DataType", "StringValue", "BinaryValue")}
            for name, each in attributes.items()
        }
        self._patience.ask(
            lambda: self._client.send_message(QueueUrl=self._url, MessageBody=body, MessageAttributes=request)
        )


def _plain(text: str) -> str:
    """One line of printable ASCII: SQS refuses some characters in an attribute."""
    line = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    return re.sub(r"[^\x20-\x7e]", "?", line)[:LONGEST_ATTRIBUTE]


def _size(body: str, attributes: Mapping[str, Any]) -> int:
    parts = [body]
    for name, value in attributes.items():
        parts += [name, value.get("DataType", ""), value.get("StringValue", "")]
    binary = sum(len(value.get("BinaryValue", b"")) for value in attributes.values())
    return sum(len(part.encode()) for part in parts) + binary

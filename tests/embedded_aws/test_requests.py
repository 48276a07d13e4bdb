"""Requests to the services: counted, refused, carried out with the answer lost or with the caller dead."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from embedded_aws import EmbeddedAws, RequestFault
from tests.embedded_aws.machines import make_function


@pytest.fixture(autouse=True)
def _healed(aws: EmbeddedAws) -> Iterator[None]:
    yield
    aws.heal_requests()


@pytest.fixture
def queue(aws: EmbeddedAws) -> str:
    return str(aws.client("sqs").create_queue(QueueName=uuid.uuid4().hex)["QueueUrl"])


def send(aws: EmbeddedAws, queue: str) -> str:
    """What comes of sending a message: the name of the error, or `sent`."""
    try:
        aws.client("sqs").send_message(QueueUrl=queue, MessageBody="hello")
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "sent"


def messages(aws: EmbeddedAws, queue: str) -> int:
    found: dict[str, Any] = aws.client("sqs").get_queue_attributes(
        QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(found["Attributes"]["ApproximateNumberOfMessages"])


def test_requests_are_counted_by_their_names_in_policies(aws: EmbeddedAws, queue: str) -> None:
    before = aws.requests()
    send(aws, queue)
    aws.client("sns").list_topics()
    aws.client("s3").list_buckets()
    aws.client("stepfunctions").list_state_machines()
    assert aws.requests() - before == {
        "sqs:SendMessage": 1,
        "sns:ListTopics": 1,
        "s3:GET": 1,
        "states:ListStateMachines": 1,
    }


def test_a_refused_request_does_nothing(aws: EmbeddedAws, queue: str) -> None:
    aws.fail_requests("sqs:SendMessage", RequestFault.error("ThrottlingException"))
    assert send(aws, queue) == "ThrottlingException"
    assert messages(aws, queue) == 0
    aws.heal_requests()
    assert send(aws, queue) == "sent"


@pytest.mark.parametrize(
    ("service", "operation", "name"), [("s3", "list_buckets", "GET"), ("sns", "list_topics", "ListTopics")]
)
def test_a_refusal_in_xml_has_its_code(aws: EmbeddedAws, service: str, operation: str, name: str) -> None:
    aws.fail_requests(f"{service}:{name}", RequestFault.error("SlowDown", status=503))
    with pytest.raises(ClientError) as caught:
        getattr(aws.client(service), operation)()
    assert caught.value.response["Error"]["Code"] == "SlowDown"


def test_a_share_of_requests_fails_evenly(aws: EmbeddedAws, queue: str) -> None:
    aws.fail_requests("sqs:SendMessage", RequestFault.error("ThrottlingException"), share=0.3)
    outcomes = [send(aws, queue) for _ in range(10)]
    assert [place for place, outcome in enumerate(outcomes, start=1) if outcome != "sent"] == [4, 7, 10]


def test_a_fault_may_happen_so_many_times(aws: EmbeddedAws, queue: str) -> None:
    aws.fail_requests("sqs:SendMessage", RequestFault.error("ThrottlingException"), times=2)
    assert [send(aws, queue) for _ in range(3)] == ["ThrottlingException", "ThrottlingException", "sent"]


def test_what_was_asked_is_done_though_the_answer_is_lost(aws: EmbeddedAws, queue: str) -> None:
    aws.fail_requests("sqs:SendMessage", RequestFault.answer_lost(), times=1)
    assert send(aws, queue) == "InternalServerError"
    assert messages(aws, queue) == 1


def test_what_was_received_and_not_deleted_comes_back_when_it_is_told_to(aws: EmbeddedAws, queue: str) -> None:
    send(aws, queue)
    queues = aws.client("sqs")
    [first] = queues.receive_message(QueueUrl=queue, VisibilityTimeout=900)["Messages"]
    assert "Messages" not in queues.receive_message(QueueUrl=queue)
    assert aws.end_visibility_timeouts(queue) == 1
    [second] = queues.receive_message(QueueUrl=queue)["Messages"]
    assert second["MessageId"] == first["MessageId"]
    queues.delete_message(QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"])
    assert aws.end_visibility_timeouts(queue) == 0


def test_a_function_dies_between_two_of_its_steps(aws: EmbeddedAws, queue: str) -> None:
    steps = (
        'queues = boto3.client("sqs")\nfor _ in range(2):\n    queues.send_message(QueueUrl=event, MessageBody="step")'
    )
    function = make_function(aws, steps)
    aws.fail_requests("sqs:SendMessage", RequestFault.killed(function), times=1)

    def invoke() -> bool:
        reply = aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(queue))
        return "FunctionError" not in reply

    assert not invoke()
    assert messages(aws, queue) == 1
    assert invoke()
    assert messages(aws, queue) == 3

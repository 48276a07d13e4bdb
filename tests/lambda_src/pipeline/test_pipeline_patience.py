"""How long a function goes on trying."""

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from pipeline.patience import MARGIN, Patience, TimeIsOverError, is_passing
from tests.lambda_src.pipeline.events import Time


def refused(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "StartExecution",
    )


class Service:
    """Raises what it was given, one after the other, and the last for ever; `None` is an answer."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.requests = 0

    def request(self) -> str:
        self.requests += 1
        outcome = self.outcomes[min(self.requests, len(self.outcomes)) - 1]
        if outcome is not None:
            raise outcome
        return "answer"


@pytest.fixture
def time_left(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


PASSING = [
    refused("ThrottlingException"),
    refused("ExecutionLimitExceeded"),
    refused("ProvisionedThroughputExceededException"),
    refused("TooManyRequests", 429),
    refused("InternalServerException", 500),
    refused("ServiceUnavailable", 503),
    ConnectTimeoutError(endpoint_url="x"),
    ReadTimeoutError(endpoint_url="x"),
    EndpointConnectionError(endpoint_url="x"),
]
LASTING = [
    refused("AccessDeniedException"),
    refused("StateMachineDoesNotExist"),
    refused("ExecutionAlreadyExists"),
    refused("InvalidName"),
    refused("ValidationException"),
    ValueError("a bug"),
]


@pytest.mark.parametrize("problem", PASSING, ids=str)
def test_a_problem_that_passes_is_outlived(problem: Exception, time_left: Time) -> None:
    service = Service(problem, problem, None)

    assert Patience.of(time_left).ask(service.request) == "answer"

    assert service.requests == 3
    assert len(time_left.slept) == 2


@pytest.mark.parametrize("problem", LASTING, ids=str)
def test_a_problem_that_lasts_is_raised_at_once(problem: Exception, time_left: Time) -> None:
    service = Service(problem)

    with pytest.raises(type(problem)):
        Patience.of(time_left).ask(service.request)

    assert service.requests == 1
    assert not is_passing(problem)


def test_no_request_begins_after_the_margin(time_left: Time) -> None:
    service = Service(refused("ThrottlingException"))

    with pytest.raises(TimeIsOverError, match=r"the function's time is over: .*ThrottlingException"):
        Patience.of(time_left).ask(service.request)

    assert time_left.left == pytest.approx(MARGIN)
    # 0.1, 0.2, … 3.2 are 6.3 seconds, then 5, 5, 5 and the rest of 22.
    assert service.requests == 10
    assert max(time_left.slept) == 5


def test_without_time_nothing_is_requested(time_left: Time) -> None:
    service = Service(None)
    time_left.left = MARGIN

    with pytest.raises(TimeIsOverError):
        Patience.of(time_left).ask(service.request)

    assert service.requests == 0


def test_pauses_are_of_random_length(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    patience = Patience(lambda: 1000)

    for _ in range(200):
        patience.pause(3)

    assert 0 <= min(slept) < 0.1
    assert 0.7 < max(slept) <= 0.8

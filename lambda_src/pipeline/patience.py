"""Repeats what AWS refuses for the moment, as long as the function may run."""

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

ONE_REQUEST = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
"""For the clients: a request ends within seconds, and only `Patience` repeats it."""

MARGIN = 8.0
"""Seconds: no request begins later than this before the function's end, so that it also ends in time."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds; the first is doubled with every attempt, and a random part of it is waited."""

BUSY = (
    "ExecutionLimitExceeded",
    "KmsThrottlingException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
)
"""Errors that come with status 400 and go away; those with status 429 and 5xx do as well."""

NO_ANSWER = (ConnectionError, HTTPClientError)
"""What is raised where the service was not reached, or did not answer in time."""

Reply = TypeVar("Reply")


class TimeIsOverError(Exception):
    """The function's time was over before AWS agreed."""


class Patience:
    """How long a function goes on trying.

    Args:
        remaining: The seconds that are left to the function.
    """

    def __init__(self, remaining: Callable[[], float]) -> None:
        self._remaining = remaining

    @classmethod
    def of(cls, context: Any) -> "Patience":
        """As long as the function's own timeout allows."""
        return cls(lambda: context.get_remaining_time_in_millis() / 1000)

    def check(self, because: object = "AWS was not asked") -> None:
        """Raises `TimeIsOverError` where there is no time for another request."""
        if self._remaining() <= MARGIN:
            raise TimeIsOverError(f"the function's time is over: {because}")

    def pause(self, attempt: int) -> None:
        """Waits before the next attempt; the first is number 0."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt, 10))
        time.sleep(min(random.uniform(0, longest), max(0.0, self._remaining() - MARGIN)))

    def ask(self, request: Callable[[], Reply]) -> Reply:
        """Makes a request, again and again while AWS is busy or does not answer.

        Raises:
            TimeIsOverError: there was no time left for a request, or for one more.
            ClientError: AWS refuses it for another reason.
        """
        self.check()
        attempt = 0
        while True:
            try:
                return request()
            except (ClientError, *NO_ANSWER) as problem:
                if not is_passing(problem):
                    raise
                self.pause(attempt)
                attempt += 1
                self.check(problem)


def is_passing(problem: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if not isinstance(problem, ClientError):
        return isinstance(problem, NO_ANSWER)
    status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return problem.response["Error"]["Code"] in BUSY or status == 429 or status >= 500

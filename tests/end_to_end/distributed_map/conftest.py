from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import count

import pytest

from embedded_aws import EmbeddedAws
from tests.end_to_end.distributed_map.account import LEFT_NOTICES, Account, deployed

_numbers = count()


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """One deployment for all tests. The permissions of all functions are enforced."""
    with (
        EmbeddedAws(wait_scale=0.01, enforce_iam=True) as aws,
        deployed(aws, tmp_path_factory.mktemp("maps")) as account,
    ):
        yield account
        # Of each attempt one failure at the most, also where nobody waited for another one.
        for run, alerts in account.alerts().items():
            failures = [alert for alert in alerts if LEFT_NOTICES not in alert["Subject"]]
            redrives = aws.client("stepfunctions").describe_execution(executionArn=run)["redriveCount"]
            assert len(failures) <= redrives + 1, failures


@pytest.fixture
def new_day() -> Callable[[], str]:
    """Days that no other test has."""
    return lambda: (date(2026, 1, 1) + timedelta(days=next(_numbers))).isoformat()


@pytest.fixture
def day(new_day: Callable[[], str]) -> str:
    """A day that no other test has."""
    return new_day()

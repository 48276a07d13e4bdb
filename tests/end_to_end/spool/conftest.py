from collections.abc import Iterator

import pytest

from embedded_aws import EmbeddedAws
from tests.end_to_end.spool.account import Account, Spool, deployed


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """One deployment for all tests. The permissions of all functions are enforced."""
    with (
        EmbeddedAws(wait_scale=0.01, enforce_iam=True) as aws,
        deployed(aws, tmp_path_factory.mktemp("spooling")) as account,
    ):
        yield account


@pytest.fixture
def spool(account: Account) -> Iterator[Spool]:
    """The spool, which is empty again afterwards."""
    spool = Spool(account)
    yield spool
    account.aws.heal_requests()
    spool.empty()


@pytest.fixture
def group(request: pytest.FixtureRequest) -> str:
    """What a test calls its orders, and no other."""
    name: str = request.node.name
    return name

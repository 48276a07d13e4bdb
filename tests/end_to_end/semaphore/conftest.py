from collections.abc import Iterator

import pytest

from embedded_aws import EmbeddedAws
from tests.end_to_end.semaphore.account import Account, deployed, make_limited_stack


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """One deployment for all tests of a module, as each has a key of its own."""
    with deployed(embedded_aws, make_limited_stack, tmp_path_factory.mktemp("semaphore")) as account:
        yield account


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test has."""
    name: str = request.node.name
    return name

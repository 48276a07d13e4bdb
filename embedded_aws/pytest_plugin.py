"""The emulator as a fixture: `pytest_plugins = ["embedded_aws.pytest_plugin"]`."""

from collections.abc import Iterator

import pytest

from embedded_aws import EmbeddedAws


@pytest.fixture(scope="session")
def embedded_aws() -> Iterator[EmbeddedAws]:
    """One account per pytest-xdist worker; tasks are local processes and pauses take a hundredth of their time."""
    with EmbeddedAws(tasks="process", wait_scale=0.01) as aws:
        yield aws

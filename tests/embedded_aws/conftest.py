from collections.abc import Iterator

import pytest

from embedded_aws import EmbeddedAws
from embedded_aws.containers import DockerContainers
from embedded_aws.engine import DockerEngine, docker_host


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "container: runs real containers; needs a Docker engine, or dockerd and root")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("container")]
    if marked and not DockerContainers.answers() and not DockerEngine.can_start():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no Docker engine answers and none can be started here"))


@pytest.fixture(scope="session")
def aws() -> Iterator[EmbeddedAws]:
    """An account with corrections, short pauses and short stop time-outs."""
    with EmbeddedAws(wait_scale=0.01, stop_timeout=1.0) as aws:
        yield aws


@pytest.fixture(scope="session")
def stock() -> Iterator[EmbeddedAws]:
    """An account on MiniStack as it is."""
    with EmbeddedAws(wait_scale=0.01, corrections=False) as stock:
        yield stock


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[None]:
    """The engine that answers, or one started for these tests."""
    if DockerContainers.answers():
        yield
        return
    with DockerEngine() as engine, docker_host(engine.host):
        yield

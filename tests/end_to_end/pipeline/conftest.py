import pytest


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """What the keys of a test begin with, and those of no other."""
    name: str = request.node.name
    return f"{name}/"

"""The world that the functions of a distributed map work on."""

import random
import time

import pytest

from distributed_map import operate, runs, store
from tests.lambda_src.distributed_map.world import MACHINE, RESULTS, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    here = World()
    monkeypatch.setattr(store, "s3", lambda: here)
    for module in (runs, operate):
        monkeypatch.setattr(module, "stepfunctions", lambda: here)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(random, "uniform", lambda _least, most: most)
    monkeypatch.setenv("STATE_MACHINE_ARN", MACHINE)
    monkeypatch.setenv("RESULTS_BUCKET", RESULTS)
    return here

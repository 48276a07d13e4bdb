"""A pipeline where the permissions of its functions are enforced. Those of state machines never are."""

from collections.abc import Iterator

import aws_cdk as cdk
import pytest

from embedded_aws import EmbeddedAws
from tests.end_to_end.pipeline.account import Pipeline, deployed, make_pipeline, surroundings
from tests.end_to_end.test_definition_on_embedded_aws import eventually


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Enforced")
    make_pipeline(surroundings(stack), "Enforced", one_at_a_time_per_key=True, drop_stale_events=True, max_waiting=1)
    return stack


@pytest.fixture(scope="module")
def enforced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with (
        EmbeddedAws(wait_scale=0.01, enforce_iam=True) as aws,
        deployed(aws, make_stack, tmp_path_factory.mktemp("enforced")) as account,
    ):
        yield account.pipeline("Enforced")


def test_an_object_goes_through(enforced: Pipeline, prefix: str) -> None:
    enforced.put(f"{prefix}a.csv")
    enforced.assert_each_ran_once([f"{prefix}a.csv"], prefix)
    assert enforced.usage() == (0, 0)


def test_a_failure_is_told(enforced: Pipeline, prefix: str) -> None:
    enforced.put(f"{prefix}broken.csv")
    [alert] = enforced.alerts(1)
    assert f"{prefix}broken.csv" in alert["Message"]
    enforced.settle()


def test_what_cannot_be_read_is_put_away(enforced: Pipeline) -> None:
    enforced.send("not JSON {")
    [dead] = eventually(enforced.dead_letters, "the dead letter")
    assert dead["Body"] == "not JSON {"
    enforced.settle()


def test_the_valve_closes_and_opens(enforced: Pipeline, prefix: str) -> None:
    enforced.ask("pause", key="default")
    enforced.put(f"{prefix}a.csv")
    eventually(lambda: enforced.usage() == (0, 1), "the one that waits")
    assert enforced.valve()["open"] is False
    enforced.wait_for_mapping()
    assert enforced.mapping() == "Disabled"
    enforced.ask("resume", key="default")
    eventually(lambda: enforced.usage() == (0, 0), "its end")
    assert enforced.valve()["open"] is True
    enforced.wait_for_mapping()
    assert enforced.mapping() == "Enabled"
    enforced.assert_each_ran_once([f"{prefix}a.csv"], prefix)


def test_a_backfill_lists_and_sends(enforced: Pipeline, prefix: str) -> None:
    key = f"{prefix}a.csv"
    enforced.put(key)
    enforced.assert_each_ran_once([key], prefix)
    # What came by its event as well is run once more.
    assert enforced.fill(prefix=prefix, before="2999-01-01T00:00:00Z")["sent"] == 1
    runs = enforced.assert_each_ran_once([key] * 2, prefix)
    assert [run.reason for run in runs] == ["PutObject", "Backfill"]
    # When the buffer was made is asked for.
    assert enforced.fill(prefix=prefix)["sent"] == 0

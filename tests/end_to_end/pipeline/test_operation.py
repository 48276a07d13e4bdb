"""Jobs that fail or are aborted, a semaphore without its table, the limit, the valve and the pause."""

from collections.abc import Iterator

import aws_cdk as cdk
import pytest
from aws_cdk import Duration

from embedded_aws import EmbeddedAws, RequestFault
from tests.end_to_end.pipeline.account import (
    LIMIT,
    Account,
    Pipeline,
    deployed,
    make_pipeline,
    make_work,
    peak,
    surroundings,
)
from tests.end_to_end.test_definition_on_embedded_aws import eventually

MOST_WAITING = 4

# Seconds: the timeout of a function, and so how long its permit is kept after an abort.
SHORT_TIMEOUT = 10


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Operation")
    around = surroundings(stack)
    make_pipeline(around, "Plain", max_waiting=MOST_WAITING)
    make_pipeline(around, "Paused", paused=True)
    short = make_work(stack, "Short", around.runs, timeout=Duration.seconds(SHORT_TIMEOUT))
    make_pipeline(around, "Single", job=short, max_concurrency=1)
    return stack


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with deployed(embedded_aws, make_stack, tmp_path_factory.mktemp("operation")) as account:
        yield account


@pytest.fixture(scope="module")
def plain(account: Account) -> Pipeline:
    return account.pipeline("Plain")


@pytest.fixture(autouse=True)
def _healed(account: Account) -> Iterator[None]:
    yield
    account.aws.heal_requests()


def test_never_more_are_at_work_than_allowed(plain: Pipeline, prefix: str) -> None:
    keys = [f"{prefix}{number} takes-0.3s" for number in range(4 * LIMIT)]
    plain.put_all(keys)
    assert peak(plain.assert_each_ran_once(keys, prefix)) == LIMIT
    assert plain.usage() == (0, 0)


def test_of_each_object_whose_job_failed_somebody_is_told(plain: Pipeline, prefix: str) -> None:
    broken = [f"{prefix}broken {number}.csv" for number in range(4)]
    good = [f"{prefix}good {number}.csv" for number in range(8)]
    plain.put_all([*broken, *good])
    plain.assert_each_ran_once(good, prefix)
    alerts = plain.alerts(len(broken))
    assert len(alerts) == len(broken)
    for key in broken:
        [alert] = [alert for alert in alerts if f'"{key}"' in alert["Message"]]
        assert f"cannot read {key}" in alert["Message"]
    failed = plain.executions("FAILED")
    assert len(failed) == len(broken)
    assert plain.usage() == (0, 0)


def test_without_the_table_of_the_semaphore_objects_wait(plain: Pipeline, prefix: str) -> None:
    before = plain.aws.requests()["dynamodb:Query"]
    for request in ("TransactWriteItems", "Query"):
        fault = RequestFault.error("ProvisionedThroughputExceededException")
        plain.aws.fail_requests(f"dynamodb:{request}", fault)
    keys = [f"{prefix}{number}.csv" for number in range(2 * LIMIT)]
    plain.put_all(keys)
    eventually(lambda: plain.aws.requests()["dynamodb:Query"] > before + len(keys), "refused requests")
    assert plain.runs(prefix) == []
    plain.aws.heal_requests()
    plain.assert_each_ran_once(keys, prefix)
    assert plain.usage() == (0, 0)


def test_an_abort_is_told_and_its_permit_comes_back_when_the_job_must_be_over(account: Account, prefix: str) -> None:
    single = account.pipeline("Single")
    # Its function is warm then.
    single.put(f"{prefix}first")
    single.assert_each_ran_once([f"{prefix}first"], prefix)
    slow, following = f"{prefix}slow takes-4s", [f"{prefix}{number}" for number in range(3)]
    single.put(slow)
    eventually(lambda: single.usage() == (1, 0), "its permit")
    [execution] = single.executions("RUNNING")
    eventually(lambda: single.has_entered(execution, "Call the function"), "the call")
    single.aws.client("stepfunctions").stop_execution(executionArn=execution["executionArn"])
    [alert] = single.alerts(1)
    assert execution["executionArn"] in alert["Message"]
    assert "aborted" in alert["Subject"]
    single.put_all(following)
    eventually(lambda: single.usage() == (1, 3), "those who wait")
    # The function is still at work.
    single.ask("sweep")
    assert single.usage() == (1, 3)

    def nobody_waits() -> bool:
        single.ask("sweep")
        return single.usage()[1] == 0

    eventually(nobody_waits, "the return of the permit")
    runs = single.assert_each_ran_once([f"{prefix}first", slow, *following], prefix)
    assert peak(runs) == 1
    assert single.usage() == (0, 0)


def test_the_valve_leaves_in_the_buffer_what_would_wait_for_too_long(plain: Pipeline, prefix: str) -> None:
    keys = [f"{prefix}{number}.csv" for number in range(MOST_WAITING + 6)]
    assert plain.valve()["open"] is True
    plain.ask("pause", key="default")
    plain.put_all(keys[:MOST_WAITING])
    eventually(lambda: plain.usage() == (0, MOST_WAITING), "as many as may wait")
    assert plain.valve() == {"state": "Enabled", "open": False, "waiting": MOST_WAITING}
    # Until that is done, no other change is possible, and none is tried.
    assert plain.valve() == {"state": "Disabling"}
    plain.wait_for_mapping()
    plain.put_all(keys[MOST_WAITING:])
    assert plain.valve() == {"state": "Disabled", "open": False, "waiting": MOST_WAITING}
    eventually(lambda: plain.in_buffer() == (6, 0), "those that wait in the buffer")

    plain.ask("resume", key="default")
    eventually(lambda: plain.usage() == (0, 0), "the end of those that waited")
    # What waits in the buffer was never received, so it comes no nearer to the dead letters.
    assert plain.receive_counts() == [0] * 6
    assert len(plain.runs(prefix)) == MOST_WAITING
    assert plain.valve() == {"state": "Disabled", "open": True, "waiting": 0}
    plain.wait_for_mapping()
    plain.assert_each_ran_once(keys, prefix)


def test_a_paused_pipeline_keeps_its_objects_until_it_is_told_to_go_on(account: Account, prefix: str) -> None:
    paused = account.pipeline("Paused")
    keys = [f"{prefix}{number}.csv" for number in range(5)]
    paused.put_all(keys)
    eventually(lambda: paused.in_buffer() == (5, 0), "the objects in the buffer")
    assert paused.valve() == {"state": "Disabled", "open": False, "waiting": 0}
    assert paused.receive_counts() == [0] * 5
    assert paused.runs(prefix) == []

    # What the next deployment changes, with paused=False.
    functions, name = paused.aws.client("lambda"), paused.output("Valve")
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": {**variables, "PAUSED": ""}})
    assert paused.valve() == {"state": "Disabled", "open": True, "waiting": 0}
    paused.wait_for_mapping()
    paused.assert_each_ran_once(keys, prefix)

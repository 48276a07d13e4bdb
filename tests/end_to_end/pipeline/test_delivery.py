"""Events that come twice, late, or cannot be read, and functions that die in between: each object is processed once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import aws_cdk as cdk
import pytest

from embedded_aws import EmbeddedAws, RequestFault
from tests.end_to_end.pipeline.account import LIMIT, Account, Pipeline, deployed, make_pipeline, peak, surroundings
from tests.end_to_end.test_definition_on_embedded_aws import eventually

MANY = 30


def make_stack(app: cdk.App) -> cdk.Stack:
    stack = cdk.Stack(app, "Delivery")
    around = surroundings(stack)
    make_pipeline(around, "Plain")
    make_pipeline(around, "Newest", versioned=True, drop_stale_events=True)
    make_pipeline(around, "Turns", versioned=True, one_at_a_time_per_key=True)
    cdk.CfnOutput(stack, "CopiesOutput", value=cdk.aws_sqs.Queue(stack, "Copies").queue_url)
    return stack


@pytest.fixture(scope="module")
def account(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with deployed(embedded_aws, make_stack, tmp_path_factory.mktemp("delivery")) as account:
        yield account


@pytest.fixture(scope="module")
def plain(account: Account) -> Pipeline:
    return account.pipeline("Plain")


@pytest.fixture(scope="module")
def newest(account: Account) -> Pipeline:
    return account.pipeline("Newest")


@pytest.fixture(autouse=True)
def _healed(account: Account) -> Iterator[None]:
    yield
    account.aws.heal_requests()


def some_keys(prefix: str, count: int = MANY, name: str = "object") -> list[str]:
    return [f"{prefix}{name} {number}.csv" for number in range(count)]


@contextmanager
def second_rule(pipeline: Pipeline, target_arn: str) -> Iterator[None]:
    """One with the pattern of the pipeline's own."""
    events = pipeline.aws.client("events")
    pattern = events.describe_rule(Name=pipeline.output("Rule"))["EventPattern"]
    events.put_rule(Name="second", EventPattern=pattern, State="ENABLED")
    events.put_targets(Rule="second", Targets=[{"Id": "target", "Arn": target_arn}])
    try:
        yield
    finally:
        events.remove_targets(Rule="second", Ids=["target"])
        events.delete_rule(Name="second")


def events_of(pipeline: Pipeline, puts: list[tuple[str, bytes]]) -> list[str]:
    """Writes objects, and takes the messages about them away before they come to the buffer."""
    queues, copies = pipeline.aws.client("sqs"), pipeline.account.outputs["Copies"]
    arn = queues.get_queue_attributes(QueueUrl=copies, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    own = pipeline.output("Rule")
    bodies: list[str] = []

    def taken() -> bool:
        for message in queues.receive_message(QueueUrl=copies, MaxNumberOfMessages=10).get("Messages", []):
            queues.delete_message(QueueUrl=copies, ReceiptHandle=message["ReceiptHandle"])
            bodies.append(message["Body"])
        return len(bodies) >= len(puts)

    with second_rule(pipeline, arn):
        pipeline.aws.client("events").disable_rule(Name=own)
        try:
            for key, body in puts:
                pipeline.put(key, body)
            eventually(taken, "the events")
        finally:
            pipeline.aws.client("events").enable_rule(Name=own)
    return sorted(bodies, key=lambda body: str(json.loads(body)["detail"]["object"]["sequencer"]))


# --- duplicates ----------------------------------------------------------------------------------------------


def test_an_event_that_is_delivered_twice_is_processed_once(plain: Pipeline, prefix: str) -> None:
    before = plain.metric("Started") + plain.metric("Duplicates")
    keys = some_keys(prefix)
    with second_rule(plain, plain.output("BufferArn")):
        plain.put_all(keys)
        plain.assert_each_ran_once(keys, prefix)
    # Both deliveries were read. Beside a running execution, the second one counts as started as well.
    assert plain.metric("Started") + plain.metric("Duplicates") - before == 2 * MANY


def test_an_event_that_comes_again_after_the_end_of_its_run_is_recognised(plain: Pipeline, prefix: str) -> None:
    [body] = events_of(plain, [(f"{prefix}a.csv", b"some bytes")])
    plain.send(body)
    plain.assert_each_ran_once([f"{prefix}a.csv"], prefix)
    duplicates = plain.metric("Duplicates")
    for _ in range(3):
        plain.send(body)
    eventually(lambda: plain.metric("Duplicates") == duplicates + 3, "the duplicates")
    plain.assert_each_ran_once([f"{prefix}a.csv"], prefix)


# --- the order of a key ----------------------------------------------------------------------------------------------


def test_a_stale_event_is_dropped_and_a_newer_one_is_not(newest: Pipeline, prefix: str) -> None:
    key = f"{prefix}a.csv"
    first, second, third = events_of(newest, [(key, b"1"), (key, b"22"), (key, b"333")])
    newest.send(second)
    newest.assert_each_ran_once([key], prefix)
    stale, duplicates = newest.metric("Stale"), newest.metric("Duplicates")
    newest.send(first)
    eventually(lambda: newest.metric("Stale") == stale + 1, "a stale event")
    # The newest one so far is not stale when it comes again.
    newest.send(second)
    eventually(lambda: newest.metric("Duplicates") == duplicates + 1, "a duplicate")
    newest.send(third)
    runs = newest.assert_each_ran_once([key] * 2, prefix)
    assert [run.size for run in runs] == [2, 3]
    assert newest.metric("Stale") == stale + 1


def test_an_older_event_of_another_key_is_not_stale(newest: Pipeline, prefix: str) -> None:
    keys = [f"{prefix}a.csv", f"{prefix}b.csv"]
    for body in reversed(events_of(newest, [(key, b"1") for key in keys])):
        newest.send(body)
    newest.assert_each_ran_once(keys, prefix)


def test_without_the_table_of_sequences_objects_wait(newest: Pipeline, prefix: str) -> None:
    fault = RequestFault.error("ProvisionedThroughputExceededException")
    before = newest.aws.requests()["dynamodb:UpdateItem"]
    newest.aws.fail_requests("dynamodb:UpdateItem", fault)
    keys = some_keys(prefix, 5)
    newest.put_all(keys)
    eventually(lambda: newest.aws.requests()["dynamodb:UpdateItem"] > before + 5, "refused requests")
    assert newest.runs(prefix) == []
    newest.aws.heal_requests()
    newest.assert_each_ran_once(keys, prefix)


def test_a_death_between_the_sequence_and_the_start_loses_nothing(newest: Pipeline, prefix: str) -> None:
    newest.set_visibility_timeout()
    newest.aws.fail_requests("dynamodb:UpdateItem", RequestFault.killed(newest.output("Starter")), times=2)
    keys = some_keys(prefix, 5)
    newest.put_all(keys)
    newest.assert_each_ran_once(keys, prefix)


def test_versions_of_a_key_take_turns_and_keys_do_not_wait_for_each_other(account: Account, prefix: str) -> None:
    turns = account.pipeline("Turns")
    keys = [f"{prefix}{name} takes-0.5s" for name in "abc"]
    with turns.closed():
        for key in keys * 3:
            turns.put(key)
    runs = turns.assert_each_ran_once(keys * 3, prefix)
    for key in keys:
        own = [run for run in runs if run.key == key]
        assert len({run.version_id for run in own}) == 3
        assert all(earlier.ended <= later.began for earlier, later in pairwise(own))
    assert peak(runs) == LIMIT


# --- the starter -----------------------------------------------------------------------------------------------------


def test_throttled_starts_are_made_again(plain: Pipeline, prefix: str) -> None:
    before = plain.aws.requests()["states:StartExecution"]
    plain.aws.fail_requests("states:StartExecution", RequestFault.error("ThrottlingException"), share=0.3)
    keys = some_keys(prefix)
    plain.put_all(keys)
    plain.assert_each_ran_once(keys, prefix)
    assert plain.aws.requests()["states:StartExecution"] - before > MANY * 1.2


def test_starts_whose_answer_was_lost_start_nothing_twice(plain: Pipeline, prefix: str) -> None:
    plain.aws.fail_requests("states:StartExecution", RequestFault.answer_lost(), share=0.3)
    keys = some_keys(prefix)
    plain.put_all(keys)
    plain.assert_each_ran_once(keys, prefix)


def test_a_starter_that_dies_before_it_says_what_it_did_starts_nothing_twice(plain: Pipeline, prefix: str) -> None:
    plain.set_visibility_timeout()
    before = plain.aws.requests()["states:StartExecution"]
    fault = RequestFault.killed(plain.output("Starter"))
    plain.aws.fail_requests("states:StartExecution", fault, share=0.25, times=3)
    keys = some_keys(prefix)
    plain.put_all(keys)
    plain.assert_each_ran_once(keys, prefix)
    # What was started before a death was asked for again.
    assert plain.aws.requests()["states:StartExecution"] - before > MANY


def test_what_cannot_be_read_is_put_away_and_its_neighbours_are_processed(plain: Pipeline, prefix: str) -> None:
    keys = some_keys(prefix, 6)
    poison = {
        "not JSON {": "the message must be JSON",
        json.dumps({"detail-type": "Object Deleted"}): 'detail-type must be "Object Created", got "Object Deleted"',
        json.dumps({"Event": "s3:TestEvent"}): 'detail-type must be "Object Created", got nothing',
    }
    with plain.closed():
        plain.put_all(keys[:3])
        for body in poison:
            plain.send(body)
        plain.put_all(keys[3:])
    eventually(lambda: len(plain.runs(prefix)) == len(keys), "all runs")
    plain.settle()
    found = plain.dead_letters()
    attributes = {
        message["Body"]: {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
        for message in found
    }
    assert attributes.keys() == poison.keys()
    assert len(found) == len(poison)
    for body, reason in poison.items():
        assert attributes[body]["reason"].startswith(reason)
        assert attributes[body]["from"] == "starter"
    plain.assert_each_ran_once(keys, prefix)


def test_what_was_mended_may_be_sent_to_the_buffer_again(plain: Pipeline, prefix: str) -> None:
    [body] = events_of(plain, [(f"{prefix}a.csv", b"some bytes")])
    plain.send(body[:-1])
    [dead] = eventually(plain.dead_letters, "the dead letter")
    plain.send(dead["Body"] + "}")
    plain.assert_each_ran_once([f"{prefix}a.csv"], prefix)

"""The ledger against the embedded DynamoDB: the first one settles, and nothing is spooled twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.stub import Stubber

from embedded_aws import EmbeddedAws
from pipeline.patience import MARGIN, Patience, TimeIsOverError
from spool.decide import Way
from spool.envelope import Envelope
from spool.ledger import KEPT, STILL_SPOOLING, BeingSpooledError, Ledger
from tests.lambda_src.spool.tables import spool_table
from tests.lambda_src.spool.test_spool_envelope import envelope

NOW = 5000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def client(embedded_aws: EmbeddedAws) -> Any:
    return embedded_aws.client("dynamodb")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(client: Any, clock: Clock) -> Iterator[Ledger]:
    with spool_table(client) as name:
        yield Ledger(client, name, Patience(lambda: 60), clock=clock)


def failures(number: int) -> list[Envelope]:
    return [envelope(execution=f"execution-{each}", error="\ud800Down", cause="x" * 1000) for each in range(number)]


def wanted(envelopes: list[Envelope], way: Way) -> list[tuple[Envelope, Way]]:
    return [(each, way) for each in envelopes]


def test_the_first_one_settles_the_way(ledger: Ledger) -> None:
    here = failures(10)

    assert ledger.settle(wanted(here[2:5], "redrive")) == ["redrive"] * 3
    assert ledger.settle(wanted(here[4:6], "drop")) == ["redrive", "drop"]

    assert ledger.settle(wanted(here, "restart")) == [
        "restart", "restart", "redrive", "redrive", "redrive", "drop", *["restart"] * 4
    ]  # fmt: skip
    assert ledger.settle(wanted(here[:2], "drop")) == ["restart", "restart"]
    assert ledger.settle([]) == []


def test_many_at_once_agree(ledger: Ledger) -> None:
    here = failures(10)
    ways: list[Way] = ["restart", "redrive", "drop"] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda way: ledger.settle(wanted(here, way)), ways))

    assert all(answer == answers[0] for answer in answers)


def test_what_failed_before_is_told_oldest_first(ledger: Ledger) -> None:
    line = [envelope(redrive_count=count, error=f"Error{count}") for count in range(4)]
    ledger.settle(wanted(line[:3], "redrive"))

    assert [each["error"] for each in ledger.history(line[3])] == ["Error0", "Error1", "Error2"]
    assert [each["error"] for each in ledger.history(line[3], after=2)] == ["Error2"]
    assert ledger.history(line[0]) == []


def test_what_is_kept_is_short_and_expires(ledger: Ledger, client: Any) -> None:
    ledger.settle(wanted(failures(1), "restart"))

    (item,) = client.scan(TableName=ledger._name)["Items"]
    assert item["expires"]["N"] == str(int(NOW) + KEPT)
    assert len(item["cause"]["S"]) == 500
    assert item["error"]["S"] == "\N{REPLACEMENT CHARACTER}Down"


def test_a_pardon_only_grows(ledger: Ledger) -> None:
    assert ledger.pardoned("a") == 0
    ledger.pardon("a", 3)
    ledger.pardon("a", 2)
    assert ledger.pardoned("a") == 3
    ledger.pardon("a", 6)
    assert ledger.pardoned("a") == 6
    assert ledger.pardoned("b") == 0


def test_a_failure_is_spooled_once(ledger: Ledger) -> None:
    assert ledger.begin("e", 0)
    ledger.done("e", 0)

    assert not ledger.begin("e", 0)
    assert ledger.begin("e", 1)
    assert ledger.unknown([("e", 0), ("e", 1), ("f", 0)]) == [("e", 1), ("f", 0)]
    assert ledger.unknown([]) == []
    assert len(ledger.unknown([(f"x{number}", 0) for number in range(250)])) == 250


def test_who_died_while_spooling_is_followed_later(ledger: Ledger, clock: Clock) -> None:
    assert ledger.begin("e", 0)

    with pytest.raises(BeingSpooledError):
        ledger.begin("e", 0)
    clock.now += STILL_SPOOLING + 1
    assert ledger.begin("e", 0)
    with pytest.raises(BeingSpooledError):
        ledger.begin("e", 0)


def cancelled(*codes: str) -> dict[str, Any]:
    return {"CancellationReasons": [{"Code": code} for code in codes]}


def test_transactions_that_meet_are_made_again(ledger: Ledger, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with Stubber(client) as stub:
        for _ in range(2):
            stub.add_client_error(
                "transact_write_items",
                "TransactionCanceledException",
                http_status_code=400,
                modeled_fields=cancelled("TransactionConflict", "None"),
            )
        stub.add_response("transact_write_items", {})

        assert ledger.settle(wanted(failures(2), "restart")) == ["restart", "restart"]


def test_a_transaction_that_is_refused_for_good_is_raised(ledger: Ledger, client: Any) -> None:
    with Stubber(client) as stub:
        stub.add_client_error(
            "transact_write_items",
            "TransactionCanceledException",
            http_status_code=400,
            modeled_fields=cancelled("ValidationError"),
        )

        with pytest.raises(client.exceptions.TransactionCanceledException):
            ledger.settle(wanted(failures(1), "restart"))


def test_conflicts_end_with_the_function_s_time(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [MARGIN + 1]
    monkeypatch.setattr("time.sleep", lambda seconds: left.__setitem__(0, left[0] - seconds - 0.1))
    ledger = Ledger(client, "any", Patience(lambda: left[0]))
    with Stubber(client) as stub:
        for _ in range(20):
            stub.add_client_error(
                "transact_write_items",
                "TransactionCanceledException",
                http_status_code=400,
                modeled_fields=cancelled("TransactionConflict"),
            )

        with pytest.raises(TimeIsOverError):
            ledger.settle(wanted(failures(1), "restart"))

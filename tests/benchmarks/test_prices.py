import pytest

from benchmarks.prices import priced


def test_prices_are_per_million() -> None:
    assert priced({"transition": 1_000_000, "queue request": 500_000}) == pytest.approx(25.20)


def test_what_has_no_price_is_refused() -> None:
    with pytest.raises(KeyError):
        priced({"transitions": 1})

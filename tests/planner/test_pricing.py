"""What tokens cost."""

from decimal import Decimal

import pytest

from planner.analyst.pricing import Prices

PRICES = Prices((0.15, 0.6), (("large", 2.5, 10.0), ("local", 0.0, 0.0)))


@pytest.mark.parametrize(
    ("model", "prompt", "completion", "dollars"),
    [
        ("large", 1_000_000, 1_000_000, "12.5"),
        ("large", 900, 60, "0.00285"),
        ("small", 900, 60, "0.000171"),
        (None, 1_000_000, 0, "0.15"),
        ("local", 10**9, 10**9, "0"),
        ("small", 1, 0, "0"),
        ("large", 0, 0, "0"),
    ],
)
def test_each_model_costs_by_its_own_price(model: str | None, prompt: int, completion: int, dollars: str) -> None:
    assert PRICES.cost_of(model, prompt, completion) == Decimal(dollars)

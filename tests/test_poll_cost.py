"""What a look costs: a constant share for the end of the whole, a falling one for early knowledge, within bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async.syncing._poll_cost import poll_cost_when_idle, poll_cost_while_starting

SPACING = 60.0 / 900


def test_for_the_end_of_the_whole_a_look_costs_the_same_whenever_it_is_made() -> None:
    prices = [
        poll_cost_while_starting("throughput", started, 1000 - started, SPACING) for started in (1, 300, 600, 999)
    ]
    assert prices == [pytest.approx(prices[0])] * 4


def test_for_early_knowledge_a_look_costs_less_the_fewer_starts_are_left() -> None:
    prices = [poll_cost_while_starting("latency", started, 1000 - started, SPACING) for started in (1, 300, 600, 999)]
    assert prices == sorted(prices, reverse=True)
    assert prices[0] > 3 * prices[-1]


@pytest.mark.parametrize("left", [1, 100, 10_000])
def test_a_look_costs_less_for_early_knowledge_than_for_the_end_of_the_whole(left: int) -> None:
    early, whole = (poll_cost_while_starting(order, 0, left, SPACING) for order in ("latency", "throughput"))
    assert early < whole
    # It puts off so many starts by one request each, and is worth a few hundredths of that.
    assert 0.01 * left * SPACING < early < 0.1 * left * SPACING


def test_a_look_costs_more_where_requests_are_rarer() -> None:
    rare = poll_cost_while_starting("throughput", 500, 500, 1.0)
    assert rare == pytest.approx(poll_cost_while_starting("throughput", 500, 500, 0.1) * 10)
    assert poll_cost_while_starting("throughput", 500, 500, 0.0) == poll_cost_when_idle(500)


def test_an_input_without_an_end_in_sight_goes_on_for_as_long_as_it_has() -> None:
    assert poll_cost_while_starting("throughput", 500, None, SPACING) == poll_cost_while_starting(
        "throughput", 500, 500, SPACING
    )


@given(st.sampled_from(["latency", "throughput"]), st.integers(0, 10**7), st.integers(0, 10**7), st.floats(0.0, 10.0))
def test_a_price_has_bounds_however_long_the_input(order: str, started: int, left: int, spacing: float) -> None:
    price = poll_cost_while_starting("latency" if order == "latency" else "throughput", started, left, spacing)
    least = poll_cost_when_idle(started)
    assert least <= price <= max(100.0, least)

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.selection.orders.cheapest import cheapest_order, order_cost


def turned(order):
    return sum(a > b for a, b in combinations(order, 2))


@given(st.integers(1, 5), st.integers(0, 2**32), st.integers(0, 6))
def test_the_order_is_that_of_a_search_through_all(units, seed, tie_bits):
    costs = np.random.default_rng(seed).integers(0, 6, (units, 1 << units)).astype(float)
    every = {order: order_cost(costs, order) for order in permutations(range(units))}
    least = min(every.values())
    tied = [order for order, bits in every.items() if bits <= least + tie_bits]
    assert cheapest_order(costs, tie_bits) == min(tied, key=lambda order: (turned(order), order))


def test_costs_that_differ_by_rounding_are_equal():
    costs = np.zeros((3, 8))
    costs[0] += 1e-14
    assert cheapest_order(costs) == (0, 1, 2)
    costs[0, 0] = 1e-6  # the first unit is cheaper after another one
    assert cheapest_order(costs) == (1, 0, 2)


def test_sixteen_units_are_ordered():
    order = tuple(np.random.default_rng(0).permutation(16).tolist())
    costs = np.ones((16, 1 << 16))
    placed = 0
    for unit in order:
        every = np.arange(1 << 16)
        costs[unit, every & placed == placed] = 0.0  # free once all before it are there
        placed |= 1 << unit
    assert cheapest_order(costs) == order


@pytest.mark.parametrize(
    "costs,tie_bits,words",
    [
        (np.zeros((17, 2)), 0.0, "17 units were given, expected at most 16.*strategy learned"),
        (np.zeros((2, 4)), -1.0, "tie_bits is -1.0; use 0 or more"),
        (np.zeros((2, 3)), 0.0, r"shape \(2, 3\), expected finite ones of shape \(2, 4\)"),
        (np.full((2, 4), np.nan), 0.0, "expected finite ones"),
    ],
)
def test_what_cannot_be_ordered_is_refused(costs, tie_bits, words):
    with pytest.raises(ValueError, match=words):
        cheapest_order(costs, tie_bits)

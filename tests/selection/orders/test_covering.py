"""Orders that have every unit after every set of the others."""

from math import comb

import pytest

from pretrain.selection.orders.covering import covering_orders


@pytest.mark.parametrize("units", range(1, 8))
def test_every_unit_stands_after_every_set_and_no_fewer_orders_do(units):
    orders = covering_orders(units).tolist()
    seen = set()
    for order in orders:
        assert sorted(order) == list(range(units))
        seen |= {(unit, frozenset(order[:place])) for place, unit in enumerate(order)}
    assert len(seen) == units * 2 ** (units - 1)
    assert len(orders) == units * comb(units - 1, (units - 1) // 2)
    assert orders == covering_orders(units).tolist()

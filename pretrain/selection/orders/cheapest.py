"""The order that costs least, where what a unit costs depends on which units are before it.

Dynamic programming over sets of units (Held and Karp, 1962), in whole numbers, so that equal costs
are equal.
"""

from __future__ import annotations

import numpy as np

from pretrain.compiled import compiled
from pretrain.selection.orders.strategies import Order

MOST_UNITS = 16
GRID = 2.0**40
"""Steps of a bit: costs are rounded to them."""
NEVER = np.int64(1) << 62


def cheapest_order(costs: np.ndarray, tie_bits: float = 0.0) -> Order:
    """Of the orders that cost at most `tie_bits` more than the cheapest, the nearest to natural.

    The nearest: fewest pairs of units stand the other way round (Kendall's distance); of equals,
    the one whose first unit comes first in natural order, then its second, and so on.

    Args:
        costs: [U, 2^U] bits of each unit after each set of units, bit b of the set's number being
            unit b; what is there for sets that hold the unit itself does not count.
        tie_bits: bits that an order may cost more, in all.

    Raises:
        ValueError: there are more than 16 units, `tie_bits` is below 0, or the costs are not one
            for each set, finite and below a million bits.
    """
    units = len(costs)
    check_units(units)
    if tie_bits < 0.0:
        raise ValueError(f"tie_bits is {tie_bits}; use 0 or more")
    if costs.shape != (units, 1 << units) or not (np.abs(costs) < 1e6).all():
        raise ValueError(
            f"costs have shape {costs.shape}, expected finite ones of shape {(units, 1 << units)}"
        )
    whole = np.rint(costs * GRID).astype(np.int64)
    rest = _least(whole)
    spare = int(rest[0].min()) + round(tie_bits * GRID)
    turned = int(np.flatnonzero(rest[0] <= spare)[0])
    order: list[int] = []
    placed = 0
    while len(order) < units:
        for unit in range(units):
            behind = turned - (placed >> (unit + 1)).bit_count()
            if placed >> unit & 1 or behind < 0:
                continue
            left = spare - int(whole[unit, placed])
            if rest[placed | 1 << unit, behind] <= left:
                break
        order.append(unit)
        placed, turned, spare = placed | 1 << unit, behind, left
    return tuple(order)


def check_units(units: int) -> None:
    """Check that all sets of units can be gone through.

    Raises:
        ValueError: there are more than 16.
    """
    if units > MOST_UNITS:
        raise ValueError(
            f"{units} units were given, expected at most {MOST_UNITS}, whose sets can be gone "
            "through; use strategy learned for longer targets"
        )


def order_cost(costs: np.ndarray, order: Order) -> float:
    """Bits of all units in an order; `costs` as of :func:`cheapest_order`."""
    placed, total = 0, 0.0
    for unit in order:
        total += float(costs[unit, placed])
        placed |= 1 << unit
    return total


@compiled
def _least(costs: np.ndarray) -> np.ndarray:
    """[2^U, pairs + 1] least cost of the units that are not in a set, placed after it so that so
    many pairs of all of these and the set's units stand the other way round."""
    units = len(costs)
    pairs = units * (units - 1) // 2
    rest = np.full((1 << units, pairs + 1), NEVER)
    rest[(1 << units) - 1, 0] = 0
    for placed in range((1 << units) - 2, -1, -1):
        for unit in range(units):
            if placed >> unit & 1:
                continue
            turned = 0
            for other in range(unit + 1, units):
                turned += placed >> other & 1
            after = placed | 1 << unit
            for behind in range(pairs + 1 - turned):
                if rest[after, behind] < NEVER:
                    cost = rest[after, behind] + costs[unit, placed]
                    if cost < rest[placed, behind + turned]:
                        rest[placed, behind + turned] = cost
    return rest

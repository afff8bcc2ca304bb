"""Orders that together put every unit after every set of the others.

What a unit costs after a set of units is asked along whole orders, each of which asks it of every
unit once. Of pairs of a unit and a set of half the others there are U times (U - 1) choose
(U - 1) / 2, and an order has one of them, so that no fewer orders will do.
"""

from __future__ import annotations

import numpy as np


def covering_orders(units: int) -> np.ndarray:
    """[orders, U] orders in which every unit stands after every set of the others at least once.

    The same every time: through the first pair of a unit and a set that is missing, down and up
    along the pairs that have been there the fewest times. Up to 10 units (1,260 orders) they are as
    few as can be.

    Args:
        units: U, 1 or more.
    """
    every = np.arange(1 << units)
    times = np.zeros((units, 1 << units), dtype=np.int64)
    never = np.iinfo(np.int64).max
    times[every[None, :] >> np.arange(units)[:, None] & 1 == 1] = never  # the set has the unit
    orders = []
    while (missing := np.argwhere(times == 0)).size:
        unit, before = (int(number) for number in missing[0])
        orders.append(_through(times, unit, before))
        placed = 0
        for unit in orders[-1]:
            times[unit, placed] += 1
            placed |= 1 << unit
    return np.array(orders)


def _through(times: np.ndarray, unit: int, before: int) -> list[int]:
    """An order with `unit` right after the set of units `before`."""
    order = [unit]
    placed = before
    while placed:
        inside = [u for u in range(len(times)) if placed >> u & 1]
        order.insert(0, min(inside, key=lambda u: int(times[u, placed ^ 1 << u])))
        placed ^= 1 << order[0]
    placed = before | 1 << unit
    while len(order) < len(times):
        order.append(int(times[:, placed].argmin()))
        placed |= 1 << order[-1]
    return order

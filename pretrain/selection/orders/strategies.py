"""Orders of target units. Units are numbered in natural order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Order = tuple[int, ...]
GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""By which splitmix64 goes from state to state."""


def order_by_bits(bits: Sequence[float], tie_bits: float, largest_first: bool = True) -> Order:
    """Units by mutual information.

    Again and again the best of the remaining units is taken; among those within `tie_bits` of it,
    the last in natural order.
    """
    sign = 1.0 if largest_first else -1.0
    remaining = list(range(len(bits)))
    order = []
    while remaining:
        best = max(sign * bits[unit] for unit in remaining)
        chosen = max(unit for unit in remaining if sign * bits[unit] >= best - tie_bits)
        remaining.remove(chosen)
        order.append(chosen)
    return tuple(order)


def choose_order(
    strategy: str,
    units: int,
    bits: Sequence[float] | None = None,
    tie_bits: float = 0.005,
    seed: int = 0,
    fixed: Sequence[int] | None = None,
) -> Order:
    """Order in which `units` target units are predicted.

    Args:
        strategy: ntp, reverse, random, max_mi, min_mi or fixed.
        units: number of units.
        bits: MI of each unit; needed by max_mi and min_mi.
        tie_bits: see :func:`order_by_bits`.
        seed: of the permutation of `random`, one for all examples.
        fixed: the permutation of `fixed`.

    Raises:
        ValueError: the strategy is unknown, or what it needs is missing or of the wrong length.
    """
    if strategy == "ntp":
        return tuple(range(units))
    if strategy == "reverse":
        return tuple(reversed(range(units)))
    if strategy == "random":
        return tuple(np.random.default_rng(seed).permutation(units).tolist())
    if strategy in ("max_mi", "min_mi"):
        if bits is None or len(bits) != units:
            raise ValueError(
                f"strategy {strategy} needs the bits of {units} units, found "
                f"{'none' if bits is None else len(bits)}"
            )
        return order_by_bits(bits, tie_bits, largest_first=strategy == "max_mi")
    if strategy == "fixed":
        if fixed is None or sorted(fixed) != list(range(units)):
            raise ValueError(
                f"selection.fixed {None if fixed is None else list(fixed)} is not a permutation of "
                f"the {units} units 0 to {units - 1}"
            )
        return tuple(fixed)
    raise ValueError(
        f"unknown strategy {strategy!r}; use ntp, reverse, random, max_mi, min_mi or fixed"
    )


def choose_at_random(lengths: np.ndarray, places: np.ndarray, seed: int) -> np.ndarray:
    """One candidate of each example, all alike likely; a pure function of seed and place.

    The finaliser of splitmix64 (Steele, Lea and Flood, 2014), of the seed and then of the place.

    Args:
        lengths: [examples] candidates of each.
        places: [examples] numbers that tell the examples apart.
        seed: of the draw.

    Returns:
        [examples] int64 number of the candidate in its example; -1 for an example without any.
    """
    drawn = _mixed(_mixed(np.array([seed])) + places.astype(np.uint64))
    within = drawn % np.maximum(lengths, 1).astype(np.uint64)
    return np.where(lengths > 0, within.astype(np.int64), -1)


def hashed(key: Sequence[int], places: np.ndarray, columns: int) -> np.ndarray:
    """Random bits, a pure function of key and place, [places, columns] uint64; see
    :func:`choose_at_random`."""
    found = np.zeros(1, dtype=np.uint64)
    for part in key:
        found = _mixed(found + np.uint64(part))
    rows = _mixed(found + places.astype(np.uint64))
    return _mixed(rows[:, None] + GAMMA * np.arange(columns, dtype=np.uint64))


def _mixed(values: np.ndarray) -> np.ndarray:
    mixed = values.astype(np.uint64) + GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def choose_candidates(
    scores: np.ndarray,
    offsets: np.ndarray,
    tie_bits: float = 0.005,
    largest_first: bool = True,
) -> np.ndarray:
    """The best candidate of each example: of those within `tie_bits` of the best, the last.

    Args:
        scores: [candidates] bits, example after example in natural order.
        offsets: [examples + 1] where each example's candidates begin.
        largest_first: whether the best is the largest.

    Returns:
        [examples] int64 positions in `scores`; -1 for an example without candidates.
    """
    chosen = np.full(len(offsets) - 1, -1, dtype=np.int64)
    some = np.flatnonzero(np.diff(offsets))
    if len(some) == 0:
        return chosen
    signed = scores if largest_first else -scores
    starts = offsets[:-1][some]
    best = np.repeat(np.maximum.reduceat(signed, starts), np.diff(offsets)[some])
    positions = np.where(signed >= best - tie_bits, np.arange(len(scores)), -1)
    chosen[some] = np.maximum.reduceat(positions, starts)
    return chosen

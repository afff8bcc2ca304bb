"""Bits of mutual information of each unit, one row per strategy that was fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST = 30


@dataclass(frozen=True)
class HeatMap:
    """Bits by strategy and unit.

    Attributes:
        units: numbers of the units shown: all in natural order, or of many the most informative,
            best first.
        names: of these units.
        rows: bits of these units by strategy.
        estimators: behind each row; empty where the strategy's name says it.
        left_out: number of units not shown.
    """

    units: tuple[int, ...]
    names: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    estimators: dict[str, str]
    left_out: int

    def shares(self, name: str) -> list[float]:
        """Where each of a strategy's values lies between its least and its greatest; estimators
        have scales of their own, so that each strategy is tinted by itself."""
        return share_of(self.rows[name])


def share_of(values: Sequence[float]) -> list[float]:
    """Each value from 0 for the least to 1 for the greatest; 1 where all are the same."""
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 1.0 for value in values]


def heat_map(summary: dict[str, Any]) -> HeatMap | None:
    """The fitted strategies' bits; None where nothing was fitted."""
    fitted = {n: e["bits"] for n, e in summary["strategies"].items() if e["bits"]}
    if not fitted:
        return None
    names = summary["unit_names"]
    units = tuple(range(len(names)))
    if len(units) > MOST:
        columns = zip(*(share_of(bits) for bits in fitted.values()), strict=True)
        totals = [sum(column) for column in columns]
        units = tuple(sorted(units, key=lambda unit: (-totals[unit], unit))[:MOST])
    return HeatMap(
        units,
        tuple(names[unit] for unit in units),
        {name: tuple(bits[unit] for unit in units) for name, bits in fitted.items()},
        {name: _estimator(name, summary["strategies"][name]["estimator"]) for name in fitted},
        len(names) - len(units),
    )


def _estimator(strategy: str, estimator: str | None) -> str:
    return "" if estimator is None or estimator in strategy else estimator

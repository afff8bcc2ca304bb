"""How each strategy is drawn, and how far the axes of the learning curves reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.report.measures import Measure
from tools.report.results import Comparison


@dataclass(frozen=True)
class Look:
    """How a strategy is drawn. Dash and marker tell it apart where colour does not."""

    light: str
    """Colour on white."""
    dark: str
    """Colour on black."""
    dash: tuple[float, ...]
    """Dash pattern in line widths; empty for a solid line."""
    marker: str
    """Matplotlib's letter of the marker."""


# Okabe and Ito's colours, darkened where they would be too pale for a line on white.
LOOKS = (
    Look("#474f5c", "#d3dae3", (5, 2), "s"),
    Look("#0072b2", "#4aa8e8", (), "o"),
    Look("#d55e00", "#ff8c42", (), "^"),
    Look("#009e73", "#2fc79a", (6, 2, 1, 2), "D"),
    Look("#c765a2", "#d264a8", (2, 1.5), "v"),
    Look("#6b4a00", "#f0d860", (8, 2), "P"),
    Look("#2aa5e0", "#9ad4ff", (4, 1, 1, 1, 1, 1), "X"),
)
# A strategy keeps its look from one report to the next.
KNOWN = ("ntp", "max_mi", "reverse", "frequency", "random", "min_mi", "fixed")


def looks_of(strategies: Iterable[str]) -> dict[str, int]:
    """Index into `LOOKS` of each strategy; only more than seven strategies share one."""
    names = list(strategies)
    chosen = {name: KNOWN.index(name) for name in names if name in KNOWN}
    free = [index for index in range(len(LOOKS)) if index not in chosen.values()]
    unknown = [name for name in names if name not in chosen]
    for number, name in enumerate(unknown):
        chosen[name] = free[number] if number < len(free) else number % len(LOOKS)
    return chosen


def token_limit(comparison: Comparison) -> float:
    """End of the axis of trained tokens."""
    return float(max(1, *(run.tokens[-1] for run in comparison.runs)))


def limits(measure: Measure, curves: Iterable[Sequence[float]]) -> tuple[float, float]:
    """Ends of a metric's axis: for shares from 0 to 1 or to a round number where all curves stay
    low; else a little beyond the least and the greatest value."""
    values = [value for curve in curves for value in curve]
    low, high = min(values), max(values)
    if measure.is_share:
        return 0.0, next((top for top in (0.05, 0.1, 0.2, 0.5) if high <= 0.95 * top), 1.0)
    if measure.is_logarithmic and low > 0:
        return low / 1.1, high * 1.1
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def distance_limits(curves: Iterable[Sequence[float]]) -> tuple[float, float]:
    """Ends of an axis of differences; 0 is on it."""
    values = [0.0, *(value for curve in curves for value in curve)]
    margin = 0.06 * (max(values) - min(values)) or 0.01
    return min(values) - margin, max(values) + margin

"""Metrics: which are shares, which way is better, how their values are written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

# Words in the name of a metric that say which way is better, and that it is a fraction from 0 to
# 1, shown in percent. What has none of them is a number that is neither good nor bad.
HIGHER_WORDS = {"match", "accuracy", "f1", "precision", "recall", "rouge1", "rouge2", "rougeL"}
LOWER_WORDS = {"nll", "bits", "nats", "loss", "perplexity", "entropy", "error"}
SHARE_WORDS = HIGHER_WORDS | {"coverage", "share", "fraction", "distinct", "repetition"}
# What inserted tokens cost, or give away, differs by strategy: no lead in these is a win.
NOT_COMPARABLE = ("plan_", "mark_", "conditional_")


@dataclass(frozen=True)
class Measure:
    """A metric and how it is written.

    Attributes:
        name: as the task calls it.
        higher_is_better: None where neither way is.
    """

    name: str
    higher_is_better: bool | None

    @property
    def words(self) -> str:
        """The name for people."""
        return self.name.replace("_", " ")

    @property
    def is_share(self) -> bool:
        """Whether values are fractions from 0 to 1."""
        return not SHARE_WORDS.isdisjoint(self.name.split("_"))

    @property
    def is_logarithmic(self) -> bool:
        """Whether equal ratios, not equal differences, are equal steps."""
        return "perplexity" in self.name.split("_")

    @property
    def unit(self) -> str:
        """Of differences."""
        return " points" if self.is_share else ""

    @property
    def better(self) -> str:
        """Which way is better, in words; empty where neither is."""
        if self.higher_is_better is None:
            return ""
        return "higher is better" if self.higher_is_better else "lower is better"

    def bare(self, value: float) -> str:
        """A value without its unit: percent, or about four figures."""
        return f"{100 * value:.1f}" if self.is_share else f"{value:,.{_decimals(value)}f}"

    def value(self, value: float) -> str:
        """A value with its unit."""
        return f"{self.bare(value)} %" if self.is_share else self.bare(value)

    def tick(self, value: float) -> str:
        """A value beside an axis."""
        return f"{100 * value:.4g} %" if self.is_share else f"{value:.4g}"

    def size(self, difference: float) -> str:
        """The size of a difference."""
        return self.bare(abs(difference))

    def difference(self, difference: float | None, minus: str = "-") -> str:
        """A difference with its sign; zero has none."""
        if difference is None:
            return "n/a"
        size = self.size(difference)
        if float(size.replace(",", "")) == 0:
            return size
        return ("+" if difference > 0 else minus) + size

    def interval(self, ends: list[float], minus: str = "-") -> str:
        """Both ends of an interval of differences."""
        low, high = (self.difference(end, minus) for end in ends)
        return f"{low} to {high}"

    def gain(self, difference: float) -> float:
        """A difference with the sign of what is better; as it is where neither way is."""
        return -difference if self.higher_is_better is False else difference


def measure(name: str) -> Measure:
    """A metric known by its name only."""
    words = set(name.split("_"))
    if name.startswith(NOT_COMPARABLE):
        return Measure(name, None)
    if words & LOWER_WORDS:
        return Measure(name, False)
    return Measure(name, True if words & HIGHER_WORDS else None)


def headline_measure(summary: dict[str, Any]) -> Measure:
    """The metric that counts."""
    return Measure(summary["metric"], summary["higher_is_better"])


def other_measures(summary: dict[str, Any]) -> list[Measure]:
    """Every other metric that a strategy has."""
    names: dict[str, None] = {}
    for entry in summary["strategies"].values():
        names |= dict.fromkeys(entry["metrics"])
    return [measure(name) for name in names if name != summary["metric"]]


def _decimals(value: float) -> int:
    """Decimals for about four figures, at most four."""
    if value == 0:
        return 4
    return min(4, max(0, 3 - math.floor(math.log10(abs(value)))))

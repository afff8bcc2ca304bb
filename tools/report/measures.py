"""Metrics as reports write them, by what runs say of each: unit, which way is better.

A run's files describe its metrics in `measures`: name -> {better, unit, comparable}. Units:

- share: a fraction from 0 to 1, shown in percent; differences are points.
- perplexity: equal ratios are equal steps, drawn on a logarithmic axis.
- bits, nats, ratio, or what is counted: plain numbers of about four figures.
- "" (of a run that does not say): a plain number too.

`better` is "higher", "lower" or None. What is not `comparable` between strategies is shown as
neither better nor worse, whatever `better` says: what inserted tokens cost differs by strategy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measure:
    """A metric and how it is written.

    Attributes:
        name: as the task calls it.
        higher_is_better: None where neither way is.
        kind: its unit, as in the docstring of the module.
    """

    name: str
    higher_is_better: bool | None
    kind: str = ""

    @classmethod
    def of(cls, name: str, described: Mapping[str, Any] | None) -> Measure:
        """A metric by its description; one without is neither better nor worse."""
        described = described or {}
        better = described.get("better") if described.get("comparable", True) else None
        return cls(name, None if better is None else better == "higher", described.get("unit", ""))

    @property
    def words(self) -> str:
        """The name for people."""
        return self.name.replace("_", " ")

    @property
    def is_share(self) -> bool:
        """Whether values are fractions from 0 to 1."""
        return self.kind == "share"

    @property
    def is_logarithmic(self) -> bool:
        """Whether equal ratios, not equal differences, are equal steps."""
        return self.kind == "perplexity"

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


def headline_measure(summary: dict[str, Any]) -> Measure:
    """The metric that counts."""
    name = summary["metric"]
    unit = summary["measures"].get(name, {}).get("unit", "")
    return Measure(name, summary["higher_is_better"], unit)


def other_measures(summary: dict[str, Any]) -> list[Measure]:
    """Every other metric that a strategy has."""
    names: dict[str, None] = {}
    for entry in summary["strategies"].values():
        names |= dict.fromkeys(entry["metrics"])
    described = summary["measures"]
    return [Measure.of(name, described.get(name)) for name in names if name != summary["metric"]]


def _decimals(value: float) -> int:
    """Decimals for about four figures, at most four."""
    if value == 0:
        return 4
    return min(4, max(0, 3 - math.floor(math.log10(abs(value)))))

"""What is drawn against trained tokens: metrics, and distances to the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tools.report.look import distance_limits, limits
from tools.report.measures import Measure, headline_measure, other_measures
from tools.report.summary import ranked
from tools.report.words import si

SECONDARY = 6
MARKERS = 10
"""About so many on a curve."""


@dataclass(frozen=True)
class Line:
    """One strategy's curve: the mean over seeds, and each seed."""

    name: str
    look: int
    tokens: Sequence[int]
    mean: Sequence[float]
    per_seed: Sequence[Sequence[float]]

    @property
    def marked(self) -> list[int]:
        """Numbers of the evaluations that have a marker, the last one among them."""
        step = max(1, len(self.mean) // MARKERS)
        return list(range(len(self.mean) - 1, -1, -step))[::-1]


@dataclass(frozen=True)
class Chart:
    """What is drawn: curves, the ends of the axis, and how values are written."""

    lines: Sequence[Line]
    bounds: tuple[float, float]
    title: str
    tick: Callable[[float], str]
    value: Callable[[float], str]
    logarithmic: bool = False

    def words(self, line: Line) -> list[str]:
        """What each marker of a curve stands for."""
        return [
            f"{line.name}, {si(line.tokens[index])} tokens: {self.value(line.mean[index])}"
            for index in line.marked
        ]

    @property
    def moves(self) -> bool:
        """Whether there is anything to see: facts of the data stay the same."""
        return len({value for line in self.lines for row in line.per_seed for value in row}) > 1


def metric_chart(summary: dict[str, Any], looks: dict[str, int], measure: Measure) -> Chart:
    """The curves of one metric, the best strategy first."""
    lines = []
    for name, entry in ranked(summary).items():
        curves = entry["curves"]
        if curve := curves["metrics"].get(measure.name):
            tokens = curves["tokens"]
            lines.append(Line(name, looks[name], tokens, curve["mean"], curve["per_seed"]))
    bounds = limits(measure, [values for line in lines for values in line.per_seed])
    logarithmic = measure.is_logarithmic and bounds[0] > 0
    better = "" if measure.higher_is_better is not False else ", lower is better"
    return Chart(
        lines, bounds, f"{measure.words}{better}", measure.tick, measure.value, logarithmic
    )


def distance_chart(summary: dict[str, Any], looks: dict[str, int]) -> Chart | None:
    """How the difference to the baseline changes as training goes on; None without pairs."""
    measure = headline_measure(summary)
    lines = [
        Line(name, looks[name], curve["tokens"], curve["mean"], curve["per_seed"])
        for name in ranked(summary)
        if name in summary["paired"] and (curve := summary["paired"][name]["curve"])["tokens"]
    ]
    if not lines:
        return None
    factor = 100 if measure.is_share else 1
    unit = measure.unit and f",{measure.unit}"
    return Chart(
        lines,
        distance_limits([values for line in lines for values in line.per_seed]),
        f"difference to {summary['baseline']} in {measure.words}{unit}",
        lambda value: f"{factor * value:+.4g}" if value else "0",
        lambda value: measure.difference(value, "−"),
    )


def other_charts(summary: dict[str, Any], looks: dict[str, int]) -> list[tuple[Measure, Chart]]:
    """The curves of the first other metrics that change as training goes on."""
    charts = [(m, metric_chart(summary, looks, m)) for m in other_measures(summary)]
    return [(measure, chart) for measure, chart in charts if chart.moves][:SECONDARY]

"""Curves against trained tokens as inline SVG: metrics, and distances to the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import LogLocator, MaxNLocator

from tools.report.look import distance_limits, limits, token_limit
from tools.report.marks import dashes, marker, swatch
from tools.report.markup import Html, note, section, tag, text
from tools.report.measures import Measure, headline_measure, other_measures
from tools.report.results import Comparison
from tools.report.summary import ranked
from tools.report.words import clip, held_out, order_words, seeds_note, si

SECONDARY = 6
NAME_LENGTH = 30
LETTER = 8.3
"""Pixels of a letter beside a curve, about."""


@dataclass(frozen=True)
class Line:
    """One strategy's curve: the mean over seeds, and each seed."""

    name: str
    look: int
    tokens: Sequence[int]
    mean: Sequence[float]
    per_seed: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Chart:
    """What is drawn: curves, the ends of the axis, and how values are written."""

    lines: Sequence[Line]
    bounds: tuple[float, float]
    title: str
    tick: Callable[[float], str]
    value: Callable[[float], str]
    logarithmic: bool = False


@dataclass(frozen=True)
class Frame:
    """Geometry of a chart: data to pixels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_max: float
    y_ends: tuple[float, float]
    logarithmic: bool = False

    def x(self, tokens: float) -> float:
        """Pixels from the left edge."""
        inner = self.width - self.left - self.right
        return round(self.left + inner * tokens / self.x_max, 1)

    def y(self, value: float) -> float:
        """Pixels from the upper edge."""
        inner = self.height - self.top - self.bottom
        low, high, value = (self._place(v) for v in (*self.y_ends, value))
        return round(self.height - self.bottom - inner * (value - low) / (high - low), 1)

    def ticks(self) -> list[float]:
        """Round values between the ends of the y axis."""
        low, high = self.y_ends
        locator = LogLocator(subs=(1, 2, 5)) if self.logarithmic else MaxNLocator(5)
        slack = 1e-9 * (high - low)
        values = locator.tick_values(low, high)
        return [float(v) for v in values if low - slack <= v <= high + slack]

    def _place(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def curves_section(comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]) -> Html:
    """Legend and curves of the metric that counts: wide with names at the ends, and for phones."""
    measure = headline_measure(summary)
    items = []
    for name, entry in ranked(summary).items():
        names = summary["unit_names"]
        order = f" {order_words(entry['order'], names, ' → ')}" if names else ""
        words = tag("span", tag("b", text(name)), text(order))
        items.append(tag("li", swatch(looks[name]), words))
    chart = metric_chart(summary, looks, measure)
    return section(
        "Learning curves",
        tag("ul", *items, class_="legend"),
        *_both_sizes(chart, token_limit(comparison)),
        note(
            f"Upwards: {chart.title}, on {held_out(summary)}. {seeds_note(summary).capitalize()}. "
            "Hover over a marker for its value."
        ),
    )


def distance_section(
    comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]
) -> Html:
    """How the difference to the baseline changes as training goes on; empty without pairs."""
    measure, baseline = headline_measure(summary), summary["baseline"]
    lines = [
        Line(name, looks[name], curve["tokens"], curve["mean"], curve["per_seed"])
        for name in ranked(summary)
        if name in summary["paired"] and (curve := summary["paired"][name]["curve"])["tokens"]
    ]
    if not lines:
        return Html("")
    factor = 100 if measure.is_share else 1
    chart = Chart(
        lines,
        distance_limits([values for line in lines for values in line.per_seed]),
        f"difference to {baseline} in {measure.words}{measure.unit and f',{measure.unit}'}",
        lambda value: f"{factor * value:+.4g}" if value else "0",
        lambda value: measure.difference(value, "−"),
    )
    below = "" if measure.higher_is_better else f" Below the line is better ({measure.better})."
    return section(
        "Distance to the baseline",
        *_both_sizes(chart, token_limit(comparison)),
        note(
            f"Upwards: {chart.title}, at the same number of trained tokens and the same seed; "
            f"the line at 0 is {baseline}.{below} {seeds_note(summary).capitalize()}."
        ),
    )


def other_curves_section(
    comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]
) -> Html:
    """Small curves of the other metrics; empty where there is none."""
    charts = [(m, metric_chart(summary, looks, m)) for m in other_measures(summary)]
    moving = [(measure, chart) for measure, chart in charts if _moves(chart)][:SECONDARY]
    if not moving:
        return Html("")
    figures = []
    for measure, chart in moving:
        frame = Frame(
            430, 250, 58, 14, 12, 40, token_limit(comparison), chart.bounds, chart.logarithmic
        )
        better = f" ({measure.better})" if measure.better else ""
        caption = tag("figcaption", tag("b", text(measure.words)), text(better))
        figures.append(tag("figure", caption, _draw(chart, frame, "curves small")))
    return section(
        "Other metrics as training goes on",
        tag("div", *figures, class_="figures"),
        note(f"{seeds_note(summary).capitalize()}. Colours as above."),
    )


def _moves(chart: Chart) -> bool:
    """Whether there is anything to see: facts of the data stay the same."""
    return len({value for line in chart.lines for values in line.per_seed for value in values}) > 1


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


def _both_sizes(chart: Chart, tokens: float) -> list[Html]:
    letters = max(len(_end_name(line)) + len(_end_value(line, chart)) for line in chart.lines)
    right = 24 + round(LETTER * letters)
    wide = Frame(900, 400, 58, right, 14, 46, tokens, chart.bounds, chart.logarithmic)
    narrow = Frame(360, 300, 58, 16, 12, 44, tokens, chart.bounds, chart.logarithmic)
    return [
        _draw(chart, wide, "curves wide", end_labels=True),
        _draw(chart, narrow, "curves narrow"),
    ]


def _end_name(line: Line) -> str:
    return clip(line.name, NAME_LENGTH)


def _end_value(line: Line, chart: Chart) -> str:
    return chart.value(line.mean[-1])


def _draw(chart: Chart, frame: Frame, class_: str, end_labels: bool = False) -> Html:
    # The best one is drawn last, on top.
    parts = [_curve(line, chart, frame) for line in reversed(chart.lines)]
    if end_labels:
        parts.append(_end_labels(chart, frame))
    return tag(
        "svg",
        _axes(chart, frame),
        *parts,
        viewBox=f"0 0 {frame.width} {frame.height}",
        class_=class_,
        role="img",
        aria_label=f"{chart.title} against trained tokens, one curve per strategy",
    )


def _axes(chart: Chart, frame: Frame) -> Html:
    floor = frame.height - frame.bottom
    end = frame.width - frame.right
    parts = []
    for value in frame.ticks():
        y = frame.y(value)
        class_ = "axis" if value == 0 else "grid"
        parts.append(tag("line", x1=frame.left, x2=end, y1=y, y2=y, class_=class_))
        mark = text(chart.tick(value))
        parts.append(tag("text", mark, x=frame.left - 8, y=y + 4, text_anchor="end"))
    for value in MaxNLocator(5 if frame.width > 500 else 4).tick_values(0, frame.x_max):
        if 0 <= value <= frame.x_max:
            mark = text(si(value))
            parts.append(tag("text", mark, x=frame.x(value), y=floor + 18, text_anchor="middle"))
    middle = (frame.left + end) / 2
    title = text("trained tokens")
    parts.append(
        tag("text", title, x=middle, y=frame.height - 6, text_anchor="middle", class_="title")
    )
    return tag("g", *parts)


def _curve(line: Line, chart: Chart, frame: Frame) -> Html:
    parts = []
    if len(line.per_seed) > 1:
        parts = [_polyline(line.tokens, values, frame, "seed") for values in line.per_seed]
    parts.append(_polyline(line.tokens, line.mean, frame, "mean", dashes(line.look)))
    step = max(1, len(line.mean) // 10)
    for index in range(len(line.mean) - 1, -1, -step):
        tokens, value = line.tokens[index], line.mean[index]
        place = f"{line.name}, {si(tokens)} tokens: {chart.value(value)}"
        mark = marker(line.look, frame.x(tokens), frame.y(value))
        parts.append(tag("g", tag("title", text(place)), mark))
    return tag("g", *parts, class_=f"s{line.look}")


def _polyline(
    tokens: Sequence[int],
    values: Sequence[float],
    frame: Frame,
    class_: str,
    dash: str | None = None,
) -> Html:
    pairs = zip(tokens, values, strict=True)
    points = " ".join(f"{frame.x(token)},{frame.y(value)}" for token, value in pairs)
    return tag("polyline", points=points, class_=class_, stroke_dasharray=dash)


def _end_labels(chart: Chart, frame: Frame) -> Html:
    """Names at the right ends of the curves, pushed apart where they would overlap."""
    lines = sorted(chart.lines, key=lambda line: frame.y(line.mean[-1]))
    places = _spread([frame.y(line.mean[-1]) for line in lines], frame)
    parts = []
    for y, line in zip(places, lines, strict=True):
        x = frame.x(line.tokens[-1]) + 12
        words = text(f"{_end_name(line)} ")
        mean = tag("tspan", text(_end_value(line, chart)), class_="value")
        parts.append(tag("text", words, mean, x=x, y=round(y + 4, 1), class_="end"))
    return tag("g", *parts)


def _spread(places: Sequence[float], frame: Frame, gap: float = 18.0) -> list[float]:
    """Ascending places, at least `gap` apart and above the floor of the frame if they fit."""
    apart: list[float] = []
    for place in places:
        apart.append(max(place, apart[-1] + gap) if apart else place)
    floor: float = frame.height - frame.bottom
    for index in range(len(apart) - 1, -1, -1):
        apart[index] = min(apart[index], floor)
        floor = apart[index] - gap
    return apart

"""The learning curves of the page as inline SVG, with their legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator

from tools.report.look import limits
from tools.report.marks import dashes, marker, swatch
from tools.report.markup import Html, note, section, tag, text
from tools.report.results import Comparison, RunResult, by_strategy
from tools.report.summary import column_means, ranked
from tools.report.words import clip, metric_words, order_words, percent, seeds_note, si


@dataclass(frozen=True)
class Frame:
    """Geometry of the learning curves: data to pixels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_max: float
    y_max: float

    def x(self, tokens: float) -> float:
        """Pixels from the left edge."""
        inner = self.width - self.left - self.right
        return round(self.left + inner * tokens / self.x_max, 1)

    def y(self, fraction: float) -> float:
        """Pixels from the upper edge."""
        inner = self.height - self.top - self.bottom
        return round(self.height - self.bottom - inner * fraction / self.y_max, 1)


def curves_section(comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]) -> Html:
    """Legend and curves, twice: wide with names at the ends, and narrow for phones."""
    items = []
    for name, entry in ranked(summary).items():
        order = order_words(entry["order"], summary["unit_names"], " → ")
        words = tag("span", tag("b", text(name)), text(f" {order}"))
        items.append(tag("li", swatch(looks[name]), words))
    return section(
        "Learning curves",
        tag("ul", *items, class_="legend"),
        _curves(comparison, summary, looks, wide=True),
        _curves(comparison, summary, looks, wide=False),
        note(f"{seeds_note(summary).capitalize()}. Hover over a marker for its value."),
    )


def _curves(
    comparison: Comparison, summary: dict[str, Any], looks: dict[str, int], wide: bool
) -> Html:
    if wide:
        frame = Frame(900, 400, 48, 165, 14, 46, *limits(comparison))
    else:
        frame = Frame(360, 300, 50, 16, 12, 44, *limits(comparison))
    grouped = by_strategy(comparison.runs)
    # The best one is drawn last, on top.
    parts = [_curve(grouped[name], looks[name], frame) for name in reversed(ranked(summary))]
    if wide:
        parts.append(_end_labels(summary, frame))
    return tag(
        "svg",
        _axes(frame, metric_words(summary)),
        *parts,
        viewBox=f"0 0 {frame.width} {frame.height}",
        class_="curves wide" if wide else "curves narrow",
        role="img",
        aria_label=f"{metric_words(summary)} against trained tokens, one curve per strategy",
    )


def _axes(frame: Frame, metric: str) -> Html:
    floor = frame.height - frame.bottom
    end = frame.width - frame.right
    parts = []
    for value in MaxNLocator(5).tick_values(0, 100 * frame.y_max):
        if 0 <= value <= 100 * frame.y_max + 1e-9:
            y = frame.y(value / 100)
            class_ = "axis" if value == 0 else "grid"
            parts.append(tag("line", x1=frame.left, x2=end, y1=y, y2=y, class_=class_))
            mark = text(f"{value:g} %")
            parts.append(tag("text", mark, x=frame.left - 8, y=y + 4, text_anchor="end"))
    for value in MaxNLocator(5).tick_values(0, frame.x_max):
        if 0 <= value <= frame.x_max:
            mark = text(si(value))
            parts.append(tag("text", mark, x=frame.x(value), y=floor + 18, text_anchor="middle"))
    middle = (frame.left + end) / 2
    title = text(f"trained tokens (upwards: {metric})")
    parts.append(
        tag("text", title, x=middle, y=frame.height - 6, text_anchor="middle", class_="title")
    )
    return tag("g", *parts)


def _curve(runs: Sequence[RunResult], look: int, frame: Frame) -> Html:
    tokens = runs[0].tokens
    means = column_means([run.metric for run in runs])
    parts = []
    if len(runs) > 1:
        parts = [_polyline(tokens, run.metric, frame, "seed") for run in runs]
    parts.append(_polyline(tokens, means, frame, "mean", dashes(look)))
    step = max(1, len(means) // 10)
    for index in range(len(means) - 1, -1, -step):
        place = f"{runs[0].strategy}, {si(tokens[index])} tokens: {percent(means[index])} %"
        mark = marker(look, frame.x(tokens[index]), frame.y(means[index]))
        parts.append(tag("g", tag("title", text(place)), mark))
    return tag("g", *parts, class_=f"s{look}")


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


def _end_labels(summary: dict[str, Any], frame: Frame) -> Html:
    """Names at the right ends of the curves, pushed apart where they would overlap."""
    strategies = ranked(summary)
    places = _spread([frame.y(entry["mean"]) for entry in strategies.values()], frame)
    parts = []
    for y, (name, entry) in zip(places, strategies.items(), strict=True):
        x = frame.x(entry["trained_tokens"]) + 12
        words = text(f"{clip(name, 12)} ")
        mean = tag("tspan", text(f"{percent(entry['mean'])} %"), class_="value")
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

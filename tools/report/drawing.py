"""Curves on matplotlib's axes, for the image and for the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tools.report.curves import Chart, Line
from tools.report.look import LOOKS
from tools.report.words import clip, printable, si

# The colours of page.css on white; the page puts its own in their place.
INK, MUTED, RULE, PAPER = "#1d2530", "#566070", "#dde1e7", "#ffffff"
NAME_LENGTH = 30
GAP = 18.0
"""Pixels between the names beside two curves."""


def draw(axes: Axes, chart: Chart, tokens: float, ticks: int = 5) -> list[Line2D]:
    """Draws all curves, the best one on top, with grid and ticks.

    Args:
        axes: of a figure of 100 dots per inch.
        chart: what is drawn.
        tokens: end of the horizontal axis.
        ticks: on the horizontal axis, at most.

    Returns:
        the mean curves in the order of the chart, the first with `gid` curve-0.
    """
    _dress(axes, chart, tokens, ticks)
    drawn = []
    for number, line in enumerate(chart.lines):
        mean = _draw_line(axes, line, 3 + len(chart.lines) - number)
        mean.set_gid(f"curve-{number}")
        drawn.append(mean)
    return drawn


def _draw_line(axes: Axes, line: Line, layer: int) -> Line2D:
    if len(line.per_seed) > 1:
        color = LOOKS[line.look].light
        for values in line.per_seed:
            axes.plot(line.tokens, values, color=color, linewidth=0.9, alpha=0.35, clip_on=False)
    (drawn,) = axes.plot(
        line.tokens, line.mean, markevery=line.marked, zorder=layer, **line_style(line.look)
    )
    return drawn


def line_style(look: int) -> dict[str, Any]:
    """Colour, dashes and markers of a strategy, as matplotlib's lines take them."""
    chosen = LOOKS[look]
    return {
        "color": chosen.light,
        "linewidth": 2.2,
        "linestyle": (0, chosen.dash) if chosen.dash else "-",
        "marker": chosen.marker,
        "markersize": 8 if chosen.marker in "PX" else 6.5,
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.6,
        "clip_on": False,
    }


def _dress(axes: Axes, chart: Chart, tokens: float, ticks: int) -> None:
    """Limits, ticks and grid."""
    axes.set_xlim(0, tokens)
    if chart.logarithmic:
        axes.set_yscale("log")
    axes.set_ylim(*chart.bounds)
    axes.xaxis.set_major_locator(MaxNLocator(ticks))
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5)) if chart.logarithmic else MaxNLocator(5)
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: chart.tick(value)))
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    low, high = chart.bounds
    has_zero = low < 0 < high
    if has_zero:
        axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set_visible(not has_zero)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(which="both", colors=MUTED, labelsize=10, left=False, bottom=False, pad=6)


def name_ends(axes: Axes, chart: Chart) -> None:
    """Names and last values at the right ends of the curves, apart where they would overlap."""
    figure = axes.get_figure()
    assert figure is not None
    width, height = figure.bbox.width, figure.bbox.height
    ends = [(line.tokens[-1], line.mean[-1]) for line in chart.lines]
    points = axes.transData.transform(ends)
    order = sorted(range(len(ends)), key=lambda number: points[number][1])
    places = _spread([points[n][1] for n in order], axes.bbox.y0, axes.bbox.y1)
    for number, y in zip(order, places, strict=True):
        x = points[number][0] + 12
        figure.text(
            x / width,
            y / height,
            end_words(chart, chart.lines[number]),
            va="center_baseline",
            fontsize=10,
            fontweight="bold",
            color=INK,
            parse_math=False,
        )


def end_words(chart: Chart, line: Line) -> str:
    """What stands at the right end of a curve."""
    return f"{clip(printable(line.name), NAME_LENGTH)} {chart.value(line.mean[-1])}"


def _spread(places: Sequence[float], floor: float, ceiling: float) -> list[float]:
    """Ascending places, at least GAP apart, below the ceiling and above the floor if they fit."""
    apart: list[float] = []
    for place in places:
        apart.append(max(place, apart[-1] + GAP if apart else floor))
    for index in reversed(range(len(apart))):
        apart[index] = min(apart[index], ceiling)
        ceiling = apart[index] - GAP
    return apart

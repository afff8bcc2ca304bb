"""The learning curves and the bits of each unit as a PNG image."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from tools.report.curves import Chart, metric_chart
from tools.report.drawing import INK, MUTED, draw
from tools.report.heat import HeatMap, heat_map
from tools.report.look import looks_of, token_limit
from tools.report.measures import headline_measure
from tools.report.results import Comparison
from tools.report.summary import summarise
from tools.report.words import (
    UNITS_SHOWN,
    clip,
    held_out,
    order_words,
    printable,
    seeds_note,
    short_order,
)

CURVES_HEIGHT = 5.5
"""Inches; the heat map comes on top."""


def plot(comparison: Comparison, path: Path) -> None:
    """Draws the metric against trained tokens, 900 by 550 pixels, as PNG; where strategies were
    fitted, the bits of each unit underneath."""
    summary = summarise(comparison)
    heat = heat_map(summary)
    heights = [CURVES_HEIGHT] if heat is None else [CURVES_HEIGHT, _heat_height(heat)]
    figure = Figure(figsize=(9.0, sum(heights)), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    _draw_curves(figure.add_subfigure(panels[0]), comparison, summary)
    if heat is not None:
        _draw_heat(figure.add_subfigure(panels[1]).add_subplot(), heat)
    with path.open("wb") as file:
        canvas.print_figure(file, format="png")


def _draw_curves(figure: SubFigure, comparison: Comparison, summary: dict[str, Any]) -> None:
    axes = figure.add_subplot()
    chart = metric_chart(summary, looks_of(summary["strategies"]), headline_measure(summary))
    drawn = draw(axes, chart, token_limit(comparison))
    for line, curve in zip(chart.lines, drawn, strict=True):
        order = _legend_order(summary, line.name)
        curve.set_label(f"{clip(printable(line.name), 32)}{order and f': {order}'}")
    _label(axes, comparison, summary, chart)
    ordered = 0 < len(summary["unit_names"]) <= UNITS_SHOWN
    _add_legend(figure, "strategy: order of prediction" if ordered else "strategy")


def _legend_order(summary: dict[str, Any], name: str) -> str:
    order, names = summary["strategies"][name]["order"], summary["unit_names"]
    if not 0 < len(names) <= UNITS_SHOWN:
        return ""
    words = order_words(order, names, ", ")
    return words if len(words) <= 40 else short_order(order, names, 40)


def _label(axes: Axes, comparison: Comparison, summary: dict[str, Any], chart: Chart) -> None:
    """Titles of the image and of its axes."""
    _title(axes, comparison.title, 14)
    label = f"{chart.title}, on {held_out(summary)}"
    axes.set_ylabel(label, fontsize=11, color=INK, parse_math=False)
    axes.set_xlabel(f"trained tokens   ({seeds_note(summary)})", fontsize=11, color=INK)


def _title(axes: Axes, words: str, size: int) -> None:
    lines = textwrap.wrap(printable(words), 70, max_lines=2, placeholder=" …")
    axes.set_title(
        "\n".join(lines),
        loc="left",
        fontsize=size,
        fontweight="bold",
        color=INK,
        pad=12,
        parse_math=False,
    )


def _add_legend(figure: SubFigure, title: str) -> None:
    """Underneath the axes, where it covers no curve."""
    legend = figure.legend(
        loc="outside lower left",
        ncols=2,
        fontsize=10,
        frameon=False,
        title=title,
        title_fontsize=10,
        alignment="left",
        handlelength=3.6,
        columnspacing=2.5,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _heat_height(heat: HeatMap) -> float:
    """Inches: a row per strategy, and room for the title and the names of the units."""
    return 1.1 + 0.38 * len(heat.rows) + (1.6 if _turned(heat) else 0.0)


def _turned(heat: HeatMap) -> bool:
    """Whether the names of the units stand upright."""
    return len(heat.names) > 8 or sum(map(len, heat.names)) > 80


def _draw_heat(axes: Axes, heat: HeatMap) -> None:
    shares = np.array([heat.shares(name) for name in heat.rows])
    axes.imshow(0.06 + 0.5 * shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    shown = len(heat.names) <= 12
    for row, values in enumerate(heat.rows.values()):
        for column, value in enumerate(values if shown else ()):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=INK, fontsize=10)
    names = [clip(printable(name), 26) for name in heat.names]
    turn: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    turned = turn if _turned(heat) else {}
    axes.set_xticks(range(len(names)), names, fontsize=9, parse_math=False, **turned)
    rows = [clip(printable(f"{name} {heat.estimators[name]}".strip()), 40) for name in heat.rows]
    axes.set_yticks(range(len(rows)), rows, fontsize=10, parse_math=False)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", colors=MUTED, length=0)
    more = f", the {len(names)} most informative of {len(names) + heat.left_out} units"
    _title(axes, f"bits that the source tells of each unit{more if heat.left_out else ''}", 11)

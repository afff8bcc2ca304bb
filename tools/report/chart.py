"""The learning curves as a PNG image."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tools.report.look import LOOKS, Look, limits, looks_of
from tools.report.results import Comparison, RunResult, by_strategy
from tools.report.summary import column_means, ranked, summarise
from tools.report.words import clip, metric_words, order_words, seeds_note, short_order, si


def plot(comparison: Comparison, path: Path) -> None:
    """Draws the metric against trained tokens, 900 by 550 pixels, as PNG."""
    summary = summarise(comparison)
    figure = Figure(figsize=(9.0, 5.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    grouped = by_strategy(comparison.runs)
    looks = looks_of(grouped)
    for rank, name in enumerate(ranked(summary)):
        label = f"{clip(name, 24)}: {_legend_order(summary, name)}"
        _draw_strategy(axes, grouped[name], LOOKS[looks[name]], label, 3 + len(grouped) - rank)
    _dress(axes, comparison, summary)
    _add_legend(figure)
    with path.open("wb") as file:
        canvas.print_figure(file, format="png")


def _legend_order(summary: dict[str, Any], name: str) -> str:
    order, names = summary["strategies"][name]["order"], summary["unit_names"]
    words = order_words(order, names, ", ")
    return words if len(words) <= 40 else short_order(order, names, 40)


def _draw_strategy(
    axes: Axes, runs: Sequence[RunResult], look: Look, label: str, layer: int
) -> None:
    if len(runs) > 1:
        for run in runs:
            percent = [100 * value for value in run.metric]
            axes.plot(run.tokens, percent, color=look.light, linewidth=0.9, alpha=0.35)
    means = [100 * value for value in column_means([run.metric for run in runs])]
    (line,) = axes.plot(
        runs[0].tokens,
        means,
        label=label,
        color=look.light,
        linewidth=2.2,
        marker=look.marker,
        markersize=8 if look.marker in "PX" else 6.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        markevery=max(1, len(means) // 10),
        clip_on=False,
        zorder=layer,
    )
    if look.dash:
        line.set_dashes(look.dash)


def _dress(axes: Axes, comparison: Comparison, summary: dict[str, Any]) -> None:
    """Title, labels, grid and limits."""
    ink, muted = "#1d2530", "#5b6472"
    title = "\n".join(textwrap.wrap(comparison.title, 70, max_lines=2, placeholder=" …"))
    axes.set_title(
        title, loc="left", fontsize=14, fontweight="bold", color=ink, pad=12, parse_math=False
    )
    label = f"{metric_words(summary)} on held-out problems (%)"
    axes.set_ylabel(label, fontsize=11, color=ink, parse_math=False)
    axes.set_xlabel(f"trained tokens   ({seeds_note(summary)})", fontsize=11, color=ink)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value)))
    tokens, metric = limits(comparison)
    axes.set_xlim(0, tokens)
    axes.set_ylim(0, 100 * metric)
    axes.grid(axis="y", color="#d9dee5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#a9b2bf")
    axes.tick_params(colors=muted, labelsize=10, length=0, pad=6)


def _add_legend(figure: Figure) -> None:
    """Underneath the axes, where it covers no curve."""
    legend = figure.legend(
        loc="outside lower left",
        ncols=2,
        fontsize=10,
        frameon=False,
        title="strategy: order of prediction",
        title_fontsize=10,
        alignment="left",
        handlelength=3.6,
        columnspacing=2.5,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)

"""The sections of the page that show curves."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from tools.report.curves import Chart, distance_chart, metric_chart, other_charts
from tools.report.drawing import MUTED, draw, end_words, name_ends
from tools.report.look import token_limit
from tools.report.marks import swatch
from tools.report.measures import headline_measure
from tools.report.results import Comparison
from tools.report.summary import ranked
from tools.report.svg import inline
from tools.report.templates import render
from tools.report.words import held_out, order_words, seeds_note

LETTER = 8.8
"""Pixels of a bold letter beside a curve, about."""


def curves_section(
    comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]
) -> Markup:
    """Legend and curves of the metric that counts."""
    names = summary["unit_names"]
    chart = metric_chart(summary, looks, headline_measure(summary))
    legend = [
        {
            "swatch": swatch(looks[name]),
            "name": name,
            "order": f" {order_words(entry['order'], names, ' → ')}" if names else "",
        }
        for name, entry in ranked(summary).items()
    ]
    note = (
        f"Upwards: {chart.title}, on {held_out(summary)}. {seeds_note(summary).capitalize()}. "
        "Hover over a marker for its value."
    )
    return render(
        "tools.report:curves.html",
        title="Learning curves",
        legend=legend,
        drawn=_both_sizes(chart, token_limit(comparison)),
        note=note,
    )


def distance_section(
    comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]
) -> Markup:
    """How the difference to the baseline changes as training goes on; empty without pairs."""
    chart = distance_chart(summary, looks)
    if chart is None:
        return Markup()
    measure = headline_measure(summary)
    below = "" if measure.higher_is_better else f" Below the line is better ({measure.better})."
    note = (
        f"Upwards: {chart.title}, at the same number of trained tokens and the same seed; "
        f"the line at 0 is {summary['baseline']}.{below} {seeds_note(summary).capitalize()}."
    )
    return render(
        "tools.report:curves.html",
        title="Distance to the baseline",
        legend=[],
        drawn=_both_sizes(chart, token_limit(comparison)),
        note=note,
    )


def other_curves_section(
    comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]
) -> Markup:
    """Small curves of the other metrics; empty where there is none."""
    figures = [
        {
            "metric": measure.words,
            "better": f" ({measure.better})" if measure.better else "",
            "drawn": _drawn(
                chart, token_limit(comparison), (430, 250), (58, 14, 12, 50), "curves small"
            ),
        }
        for measure, chart in other_charts(summary, looks)
    ]
    if not figures:
        return Markup()
    note = f"{seeds_note(summary).capitalize()}. Colours as above."
    return render("tools.report:figures.html", figures=figures, note=note)


def _both_sizes(chart: Chart, tokens: float) -> list[Markup]:
    """A wide drawing with names at the ends of the curves, and one for phones."""
    letters = max(len(end_words(chart, line)) for line in chart.lines)
    wide = (58, 24 + round(LETTER * letters), 14, 50)
    return [
        _drawn(chart, tokens, (900, 400), wide, "curves wide", named=True),
        _drawn(chart, tokens, (360, 300), (58, 16, 12, 50), "curves narrow"),
    ]


def _drawn(
    chart: Chart,
    tokens: float,
    size: tuple[int, int],
    margins: tuple[int, int, int, int],
    class_: str,
    named: bool = False,
) -> Markup:
    """A chart; size in pixels, margins from left, right, top and bottom."""
    (width, height), (left, right, top, bottom) = size, margins
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    inside = (width - left - right) / width, (height - top - bottom) / height
    axes = figure.add_axes((left / width, bottom / height, *inside))
    draw(axes, chart, tokens, ticks=5 if width > 500 else 4)
    axes.set_xlabel("trained tokens", fontsize=10, color=MUTED)
    if named:
        name_ends(axes, chart)
    titles = {f"curve-{number}": chart.words(line) for number, line in enumerate(chart.lines)}
    label = f"{chart.title} against trained tokens, one curve per strategy"
    return inline(figure, class_, label, titles)

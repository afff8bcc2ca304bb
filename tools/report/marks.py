"""Short pieces of the strategies' curves, for legends and tables."""

from __future__ import annotations

from functools import cache

from markupsafe import Markup
from matplotlib.figure import Figure

from tools.report.drawing import line_style
from tools.report.svg import inline

WIDTH, HEIGHT = 34, 14
"""Pixels."""


@cache
def swatch(look: int) -> Markup:
    """A strategy's colour, dashes and marker."""
    figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, HEIGHT)
    axes.plot([1, WIDTH / 2, WIDTH - 1], [HEIGHT / 2] * 3, markevery=[1], **line_style(look))
    return inline(figure, "swatch")

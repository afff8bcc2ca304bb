"""Markers and line samples of the strategies as SVG."""

from __future__ import annotations

from tools.report.look import LOOKS
from tools.report.markup import Html, tag

# Corners of each marker around its middle, in pixels; the disc has none.
_CORNERS = {
    "s": "-3.6,-3.6 3.6,-3.6 3.6,3.6 -3.6,3.6",
    "^": "0,-4.7 4.3,3.4 -4.3,3.4",
    "v": "0,4.7 4.3,-3.4 -4.3,-3.4",
    "D": "0,-5 5,0 0,5 -5,0",
    "P": "-1.7,-4.6 1.7,-4.6 1.7,-1.7 4.6,-1.7 4.6,1.7 1.7,1.7 1.7,4.6 -1.7,4.6 -1.7,1.7 "
    "-4.6,1.7 -4.6,-1.7 -1.7,-1.7",
    "X": "-4.6,-2.5 -2.5,-4.6 0,-2.1 2.5,-4.6 4.6,-2.5 2.1,0 4.6,2.5 2.5,4.6 0,2.1 "
    "-2.5,4.6 -4.6,2.5 -2.1,0",
}


def marker(look: int, x: float, y: float) -> Html:
    kind, place = LOOKS[look].marker, f"translate({x} {y})"
    if kind in _CORNERS:
        return tag("polygon", points=_CORNERS[kind], transform=place, class_="marker")
    return tag("circle", r=4.2, transform=place, class_="marker")


def dashes(look: int) -> str | None:
    """The dash pattern as SVG's attribute; None for a solid line."""
    return " ".join(f"{2.4 * length:g}" for length in LOOKS[look].dash) or None


def swatch(look: int) -> Html:
    """A short piece of the strategy's curve, for legends and tables."""
    line = tag("polyline", points="1,7 33,7", class_="mean", stroke_dasharray=dashes(look))
    return tag(
        "svg",
        line,
        marker(look, 17, 7),
        viewBox="0 0 34 14",
        class_=f"swatch s{look}",
        aria_hidden="true",
    )

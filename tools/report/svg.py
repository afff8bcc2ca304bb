"""Figures of matplotlib as SVG inside the page: its font and colours, no ids, nothing to load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from tools.report.drawing import INK, MUTED, PAPER, RULE
from tools.report.look import LOOKS

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    **{look.light: f"--s{number}" for number, look in enumerate(LOOKS)},
}


def inline(
    figure: Figure, class_: str, label: str = "", titles: Mapping[str, Sequence[str]] | None = None
) -> Markup:
    """A figure as an element of the page.

    Args:
        figure: all that it shows lies inside its axes: nothing is clipped.
        class_: of the element.
        label: what it shows, for those who cannot see it; empty hides it from them.
        titles: by the `gid` of a line, what a pointer over each of its markers shows.
    """
    root = ElementTree.fromstring(_drawn(figure))
    role = {"role": "img", "aria-label": label} if label else {"aria-hidden": "true"}
    page = ElementTree.Element("svg", {"viewBox": root.get("viewBox", ""), "class": class_, **role})
    markers = {f"#{path.get('id')}": path for path in root.iter(f"{SVG}path") if path.get("id")}
    _copy(root, page, markers, titles or {}, iter(()))
    # ElementTree escapes: the result is markup.
    return Markup(ElementTree.tostring(page, encoding="unicode"))


def _drawn(figure: Figure) -> str:
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    file = StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    return file.getvalue()


def _copy(
    group: ElementTree.Element,
    page: ElementTree.Element,
    markers: Mapping[str, ElementTree.Element],
    titles: Mapping[str, Sequence[str]],
    words: Iterator[str],
) -> None:
    """Copies shapes and texts; a marker, defined once and used by its id, becomes a shape."""
    for child in group:
        kind = child.tag.removeprefix(SVG)
        if kind == "g":
            own = titles.get(child.get("id", ""))
            _copy(child, page, markers, titles, words if own is None else iter(own))
        elif kind == "use":
            path = markers[child.get(LINK, "")]
            style = {**_style(child), **_style(path)}
            place = f"translate({child.get('x')} {child.get('y')})"
            shape = {"d": path.get("d", ""), "transform": place, "style": _written(style)}
            marker = ElementTree.SubElement(page, "path", shape)
            if title := next(words, ""):
                ElementTree.SubElement(marker, "title").text = title
        elif kind in ("path", "text"):
            kept = {name: value for name, value in child.items() if _is_needed(name, value)}
            copied = ElementTree.SubElement(page, kind, kept, style=_written(_style(child)))
            copied.text = child.text


def _style(element: ElementTree.Element) -> dict[str, str]:
    """CSS by property; of a font only size and weight: the family is the page's."""
    pairs = (part.partition(":") for part in element.get("style", "").split(";") if part.strip())
    style = {name.strip(): value.strip() for name, _, value in pairs}
    if font := style.pop("font", ""):
        before, _, _ = font.partition("px")
        *weight, size = before.split()
        style |= {"font-size": f"{size}px"} | ({"font-weight": weight[-1]} if weight else {})
    return {name: _variable(value) for name, value in style.items() if name != "font-family"}


def _is_needed(name: str, value: str) -> bool:
    """Whether a shape keeps an attribute; its style is written anew."""
    return name not in ("id", "clip-path", "style") and not value.startswith("rotate(-0 ")


def _variable(value: str) -> str:
    return f"var({VARIABLES[value]})" if value in VARIABLES else value


def _written(style: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in style.items())

"""HTML elements, escaped by construction."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

# Text that is escaped already. A type of its own, so that a type checker finds what is not.
Html = NewType("Html", str)


def text(value: object) -> Html:
    return Html(html.escape(str(value)))


def tag(element: str, *children: Html, **attributes: object) -> Html:
    """One element. `class_` stands for class; other underscores in names become hyphens."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{element}{written}>{''.join(children)}</{element}>")


def section(title: str, *children: Html) -> Html:
    return tag("section", tag("h2", text(title)), *children)


def note(words: str) -> Html:
    return tag("p", text(words), class_="note")


def table(header: Sequence[str], rows: Iterable[Html], class_: str) -> Html:
    cells = [tag("th", text(title), scope="col") for title in header]
    head = tag("thead", tag("tr", *cells))
    whole = tag("table", head, tag("tbody", *rows), class_=class_)
    return tag("div", whole, class_="scroll")

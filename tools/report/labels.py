"""Predicted sets of labels, in the order in which they were written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.report.markup import Html, tag, text
from tools.report.passages import passage
from tools.report.results import RunResult

BETWEEN = ", "
"""Stands between two labels of a sample."""
LABELS_NOTE = (
    "Labels stand in the order in which the model wrote them, each with its rank. ✓ and a whole "
    "frame mark a label that the text has, ✗ and a broken frame one that it has not; dotted are "
    "the labels that the model missed."
)


def labels_card(sample: dict[str, Any], run: RunResult) -> Html:
    """One text: its verdict, the labels that were written, and those that were missed."""
    true, written = _names(sample["target"]), _names(sample["raw"])
    missed = [label for label in true if label not in written]
    good = bool(sample["correct"])
    right = len(set(written) & set(true))
    words = "✓ right" if good else f"✗ {right} of {len(true)} found"
    return tag(
        "li",
        tag("div", passage(sample["source"]), class_="passage"),
        tag(
            "div",
            tag("span", text(words), class_="verdict"),
            *_chips(written, true),
            class_="chips",
        ),
        _missed(missed),
        class_="good" if good else "bad",
    )


def _names(written: str) -> list[str]:
    return [name for name in str(written).split(BETWEEN) if name]


def _chips(written: Sequence[str], true: Sequence[str]) -> list[Html]:
    chips = []
    for rank, label in enumerate(written, start=1):
        right = label in true and label not in written[: rank - 1]
        mark = "✓" if right else "✗"
        chips.append(
            tag(
                "span",
                tag("i", text(rank)),
                tag("span", text(f"{label} {mark}")),
                class_="chip" if right else "chip off",
                title=None if right else _why(label, true),
            )
        )
    return chips or [tag("span", text("no label written"), class_="note")]


def _why(label: str, true: Sequence[str]) -> str:
    return "written twice" if label in true else "not a label of this text"


def _missed(missed: Sequence[str]) -> Html:
    if not missed:
        return Html("")
    chips = (tag("span", text(label), class_="chip missed") for label in missed)
    return tag("div", tag("span", text("missed"), class_="read"), *chips, class_="chips")

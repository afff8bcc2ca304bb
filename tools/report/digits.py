"""Answers of arithmetic, digit by digit, as they were predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.report.markup import Html, tag, text
from tools.report.results import RunResult
from tools.report.words import abbreviate, ordinal

TILES_SHOWN = 16


def digits_note(names: Sequence[str]) -> str:
    """How to read the tiles."""
    short = zip(abbreviate(names), names, strict=True)
    legend = ", ".join(f"{abbreviation} = {name}" for abbreviation, name in short)
    return (
        "Digits stand in the order in which the model predicted them: above each "
        f"its rank, below it its place in the answer ({legend}). ✗ and a broken frame mark a "
        "wrong digit."
    )


def digits_card(sample: dict[str, Any], run: RunResult) -> Html:
    """One problem: source, verdict, digits, and what they read as."""
    good = bool(sample["correct"])
    verdict = tag("span", text("✓ right" if good else "✗ wrong"), class_="verdict")
    read = tag("span", text(f"read as {sample['prediction']}"))
    truth = Html("") if good else tag("span", text(f"correct {sample['target']}"))
    return tag(
        "li",
        tag("div", tag("code", text(sample["source"])), verdict, class_="problem"),
        tag("div", *_tiles(sample, run), class_="tiles"),
        tag("div", read, truth, class_="read"),
        class_="good" if good else "bad",
    )


def _tiles(sample: dict[str, Any], run: RunResult) -> list[Html]:
    """The digits as they were predicted. A malformed answer has no places, only ranks."""
    raw, target = str(sample["raw"]), str(sample["target"])
    units: list[int | None] = [None] * len(raw)
    if len(raw) == len(target) == len(run.order):
        units = list(run.order)
    tiles = []
    for rank, (digit, unit) in enumerate(zip(raw, units, strict=True), start=1):
        right = sample["correct"] or (unit is not None and target[unit] == digit)
        tiles.append(_tile(rank, digit, run.unit_names, unit, not right))
    if len(tiles) > TILES_SHOWN:
        tiles = [*tiles[:TILES_SHOWN], tag("span", text("…"))]
    return tiles or [tag("span", text("empty answer"), class_="note")]


def _tile(rank: int, digit: str, names: Sequence[str], unit: int | None, wrong: bool) -> Html:
    place = "?" if unit is None else abbreviate(names)[unit]
    meaning = "the answer has the wrong length" if unit is None else names[unit]
    return tag(
        "span",
        tag("i", text(rank)),
        tag("b", text(digit)),
        tag("small", text(f"{place} ✗" if wrong else place)),
        class_="tile off" if wrong else "tile",
        title=f"predicted {ordinal(rank)}: {meaning}",
    )

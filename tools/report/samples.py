"""Problems of the last evaluation with the answers, digit by digit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.report.marks import swatch
from tools.report.markup import Html, note, section, tag, text
from tools.report.results import Comparison, RunResult, by_strategy
from tools.report.summary import featured, ranked
from tools.report.words import abbreviate, ordinal

SAMPLES_SHOWN = 12
TILES_SHOWN = 16


def samples_section(comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]) -> Html:
    grouped = by_strategy(comparison.runs)
    opened = {summary["baseline"], featured(summary) if summary["paired"] else ""}
    blocks = [
        _samples_block(grouped[name][0], looks[name], name in opened) for name in ranked(summary)
    ]
    names = summary["unit_names"]
    short = zip(abbreviate(names), names, strict=True)
    legend = ", ".join(f"{abbreviation} = {name}" for abbreviation, name in short)
    return section(
        "Problems and answers",
        note(
            f"The first {SAMPLES_SHOWN} problems of the last evaluation at most, as they came, "
            "not picked. Digits stand in the order in which the model predicted them: above each "
            f"its rank, below it its place in the answer ({legend}). ✗ and a broken frame mark a "
            "wrong digit."
        ),
        *blocks,
    )


def _samples_block(run: RunResult, look: int, opened: bool) -> Html:
    shown = run.samples[:SAMPLES_SHOWN]
    right = sum(bool(sample["correct"]) for sample in shown)
    count = f" {right} of {len(shown)} right, seed {run.seed}" if shown else " no samples kept"
    head = tag("summary", swatch(look), tag("b", text(run.strategy)), text(count))
    cards = tag("ul", *(_sample(sample, run) for sample in shown), class_="samples")
    # `open` has no value in HTML; an empty one is the same.
    return tag("details", head, cards, open="" if opened else None)


def _sample(sample: dict[str, Any], run: RunResult) -> Html:
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

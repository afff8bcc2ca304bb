"""Examples of the last evaluation with what the models made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.report.digits import digits_card, digits_note
from tools.report.labels import LABELS_NOTE, labels_card
from tools.report.marks import swatch
from tools.report.markup import Html, note, section, tag, text
from tools.report.passages import PASSAGES_NOTE, passage_card
from tools.report.results import SAMPLE_KEYS, Comparison, RunResult, by_strategy
from tools.report.summary import featured, ranked

SAMPLES_SHOWN = 12
TITLES = {"arithmetic": "Problems and answers", "multilabel": "Texts and labels"}

Card = Callable[[dict[str, Any], RunResult], Html]
CARDS: dict[str, Card] = {"arithmetic": digits_card, "multilabel": labels_card}


def samples_section(comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]) -> Html:
    """A block of samples per strategy, of its first seed."""
    grouped = by_strategy(comparison.runs)
    opened = {summary["baseline"], featured(summary) if summary["paired"] else ""}
    blocks = [
        _samples_block(comparison.task, grouped[name][0], looks[name], name in opened)
        for name in ranked(summary)
    ]
    return section(
        TITLES.get(comparison.task, "Samples"),
        note(
            f"The first {SAMPLES_SHOWN} of the last evaluation at most, as they came, not picked. "
            f"{_how_to_read(summary)}"
        ),
        *blocks,
    )


def _how_to_read(summary: dict[str, Any]) -> str:
    if summary["task"] == "arithmetic":
        return digits_note(summary["unit_names"])
    return LABELS_NOTE if summary["task"] == "multilabel" else PASSAGES_NOTE


def _samples_block(task: str, run: RunResult, look: int, opened: bool) -> Html:
    shown = _shown(run)
    head = tag("summary", swatch(look), tag("b", text(run.strategy)), text(_count(run)))
    card = _card_of(task, run)
    narrow = card is digits_card
    cards = (card(sample, run) for sample in shown)
    items = tag("ul", *cards, class_="samples" if narrow else "samples broad")
    # `open` has no value in HTML; an empty one is the same.
    return tag("details", head, items, open="" if opened else None)


def _shown(run: RunResult) -> list[dict[str, Any]]:
    """The first samples of each kind."""
    shown: list[dict[str, Any]] = []
    for kind in dict.fromkeys(sample.get("kind") for sample in run.samples):
        shown += [sample for sample in run.samples if sample.get("kind") == kind][:SAMPLES_SHOWN]
    return shown


def _count(run: RunResult) -> str:
    shown = _shown(run)
    if not shown:
        return " no samples kept"
    if all("correct" in sample for sample in shown):
        right = sum(bool(sample["correct"]) for sample in shown)
        return f" {right} of {len(shown)} right, seed {run.seed}"
    return f" {len(shown)} samples, seed {run.seed}"


def _card_of(task: str, run: RunResult) -> Card:
    """How a run's samples are drawn; a plain list where they lack what a card is made of."""
    whole = all(sample.keys() >= SAMPLE_KEYS for sample in run.samples)
    return CARDS.get(task, passage_card) if whole else passage_card

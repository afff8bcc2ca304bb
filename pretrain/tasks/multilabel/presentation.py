"""Predicted sets of labels, in the order in which they were written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pretrain.tasks.presentation import Presentation, plain

BETWEEN = ", "
"""Stands between two labels of a sample."""
DRAWN = frozenset({"source", "target", "prediction", "raw", "correct"})


class MultilabelPresentation(Presentation):
    """Texts, and a chip for each label."""

    held_out = "texts"
    samples_title = "Texts and labels"
    scoring = "Labels are scored as sets: the order in which they are written does not count."
    template = "pretrain.tasks.multilabel:sample.html"

    def how_to_read(self, unit_names: Sequence[str], short_names: Sequence[str]) -> str:
        """How to read the chips."""
        return (
            "Labels stand in the order in which the model wrote them, each with its rank. ✓ and a "
            "whole frame mark a label that the text has, ✗ and a broken frame one that it has "
            "not; dotted are the labels that the model missed."
        )

    def advice(self, strategies: Collection[str]) -> tuple[str, ...]:
        """Frequency is the order to compare with."""
        if "frequency" in strategies:
            return ()
        return (
            "Ordering labels by mutual information comes close to ordering them by frequency, "
            "which this comparison does not have: add frequency to --strategies.",
        )

    def sample(
        self,
        sample: Mapping[str, Any],
        order: Sequence[int],
        unit_names: Sequence[str],
        short_names: Sequence[str],
    ) -> dict[str, Any]:
        """The labels that were written, and those that were missed; a list of what a sample has
        where it is no text with labels."""
        if not sample.keys() >= DRAWN:
            return plain(sample, self.keys)
        true, written = _names(sample["target"]), _names(sample["raw"])
        chips = [
            {
                "rank": rank,
                "label": label,
                "right": label in true and label not in written[: rank - 1],
                "why": "written twice" if label in true else "not a label of this text",
            }
            for rank, label in enumerate(written, start=1)
        ]
        return {
            "source": sample["source"],
            "correct": bool(sample["correct"]),
            "found": len(set(written) & set(true)),
            "labels": len(true),
            "chips": chips,
            "missed": [label for label in true if label not in written],
        }


def _names(written: object) -> list[str]:
    return [name for name in str(written).split(BETWEEN) if name]

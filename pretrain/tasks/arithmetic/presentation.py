"""Answers of arithmetic, digit by digit, as they were predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pretrain.tasks.presentation import Presentation

TILES_SHOWN = 16


class ArithmeticPresentation(Presentation):
    """Problems, and a tile for each digit of an answer."""

    held_out = "problems"
    samples_title = "Problems and answers"
    scoring = "Every answer was put back into its natural order before it was scored."
    caveats = ("A malformed answer is wrong.",)
    sample_keys = frozenset({"source", "target", "prediction", "raw", "correct"})
    template = "pretrain.tasks.arithmetic:sample.html"
    narrow = True

    def how_to_read(self, unit_names: Sequence[str], short_names: Sequence[str]) -> str:
        """How to read the tiles."""
        legend = ", ".join(
            f"{short} = {name}" for short, name in zip(short_names, unit_names, strict=True)
        )
        return (
            "Digits stand in the order in which the model predicted them: above each "
            f"its rank, below it its place in the answer ({legend}). ✗ and a broken frame mark a "
            "wrong digit."
        )

    def sample(
        self,
        sample: Mapping[str, Any],
        order: Sequence[int],
        unit_names: Sequence[str],
        short_names: Sequence[str],
    ) -> dict[str, Any]:
        """The digits as they were predicted. A malformed answer has no places, only ranks."""
        raw, target = str(sample["raw"]), str(sample["target"])
        whole = len(raw) == len(target) == len(order)
        units: Sequence[int | None] = list(order) if whole else [None] * len(raw)
        tiles = []
        for rank, (digit, unit) in enumerate(zip(raw, units, strict=True), start=1):
            right = bool(sample["correct"]) or (unit is not None and target[unit] == digit)
            tiles.append(
                {
                    "rank": rank,
                    "digit": digit,
                    "place": "?" if unit is None else short_names[unit],
                    "meaning": "the answer has the wrong length"
                    if unit is None
                    else unit_names[unit],
                    "right": right,
                }
            )
        return {**sample, "tiles": tiles[:TILES_SHOWN], "cut": len(tiles) > TILES_SHOWN}

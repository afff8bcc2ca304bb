"""Records as they were written, unit by unit and field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pretrain.tasks.presentation import Presentation

UNITS_SHOWN = 24


class RecordsPresentation(Presentation):
    """The source, a chip for each unit, and the fields that are wrong."""

    held_out = "records"
    samples_title = "Records"
    scoring = (
        "Every record was put back into its natural order before it was scored, as a whole and by "
        "field."
    )
    caveats = ("A record is right only if all of its fields are; a malformed field is wrong.",)
    sample_keys = frozenset({"source", "target", "prediction", "right_units", "raw", "correct"})
    template = "pretrain.tasks.records:sample.html"

    def how_to_read(self, unit_names: Sequence[str], short_names: Sequence[str]) -> str:
        """How to read the chips."""
        return (
            "Units stand in the order in which the model wrote them, each with its rank: a field's "
            "value, or a character or digit of it, counted from 0. ✓ and a whole frame mark a "
            "right one, ✗ and a broken frame a wrong one."
        )

    def sample(
        self,
        sample: Mapping[str, Any],
        order: Sequence[int],
        unit_names: Sequence[str],
        short_names: Sequence[str],
    ) -> dict[str, Any]:
        """Units as they were written, and fields with what they should have been."""
        right = sample["right_units"]
        chips = [
            {"rank": rank, "unit": unit_names[unit], "written": written,
             "right": written == right[unit]}
            for rank, (unit, written) in enumerate(zip(order, sample["raw"], strict=True), start=1)
        ]  # fmt: skip
        written = sample["prediction"]
        wrong = [
            {"name": name, "written": written[name], "true": value}
            for name, value in sample["target"].items()
            if written[name] != value
        ]
        return {
            "source": sample["source"],
            "correct": bool(sample["correct"]),
            "fields": len(sample["target"]),
            "chips": chips[:UNITS_SHOWN],
            "cut": len(chips) > UNITS_SHOWN,
            "wrong": wrong,
        }

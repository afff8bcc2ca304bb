"""Held-out records: scored as wholes, and field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pretrain.data.tokenizers.records import Field
from pretrain.files import json_text
from pretrain.tasks.fixed_width.evaluation import PositionEvaluator
from pretrain.tasks.records.data import RecordDataset


class RecordEvaluator(PositionEvaluator):
    """Writes the targets of held-out records, each data-parallel rank its share. Metrics:

    - `exact_match`: share of records whose target is right as a whole.
    - `field/NAME`: share of records in which the field NAME is right.
    """

    dataset: RecordDataset

    @property
    def wholes(self) -> Mapping[str, Sequence[int]]:
        """The units of each field."""
        found, place = {}, 0
        for field in self.dataset.tokenizer.target:
            found[f"field/{field.name}"] = range(place, place := place + field.units)
        return found

    def sample(
        self, source: np.ndarray, target: np.ndarray, natural: np.ndarray, raw: np.ndarray
    ) -> dict[str, Any]:
        """Fields by name, values as JSON; the units as they were predicted."""
        tokenizer = self.dataset.tokenizer

        def units(tokens: np.ndarray) -> list[str]:
            return [tokenizer.decode([token], specials=True) for token in tokens]

        return {
            "source": _words(tokenizer.source, units(source)),
            "target": _values(tokenizer.record(target)),
            "prediction": _values(tokenizer.record(natural)),
            "right_units": units(target),
            "raw": units(raw),
        }


def _words(fields: Sequence[Field], units: Sequence[str]) -> dict[str, str]:
    """The units of each field of a source, as they are read."""
    found, place = {}, 0
    for field in fields:
        own = [unit for unit in units[place : place + field.units] if unit != "<empty>"]
        found[field.name] = (" " if field.kind == "text" else "").join(own)
        place += field.units
    return found


def _values(record: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: "no value" if isinstance(value, Exception) else json_text(value, ascii_only=False)
        for name, value in record.items()
    }

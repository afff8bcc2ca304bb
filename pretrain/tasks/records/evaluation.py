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
    - with `data.path_end`: `hierarchical_f1`, micro-F1 of all (level, value) pairs of the paths
      (Kiritchenko et al., 2005; a value that stands at another level counts as wrong), and
      `lowest_level`, the share of records in which the lowest level that the path has is right;
      `exact_match` is that of the whole path.
    """

    dataset: RecordDataset

    @property
    def wholes(self) -> Mapping[str, Sequence[int]]:
        """The units of each field."""
        found, place = {}, 0
        for field in self.dataset.tokenizer.target:
            found[f"field/{field.name}"] = range(place, place := place + field.units)
        return found

    def ratios(self, natural: np.ndarray, target: np.ndarray) -> Mapping[str, tuple[int, int]]:
        """Of paths, where targets are paths."""
        ended = self.dataset.end_id
        if ended is None:
            return {}
        there, said = target != ended, natural != ended
        right = there & (natural == target)
        # 0 of a path without a level: its first level, which is right if nothing is said.
        lowest = target.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
        lowest = np.where(there.any(axis=1), lowest, 0)[:, None]
        found = np.take_along_axis(natural == target, lowest, axis=1)
        return {
            "hierarchical_f1": (2 * int(right.sum()), int(there.sum() + said.sum())),
            "lowest_level": (int(found.sum()), len(target)),
        }

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

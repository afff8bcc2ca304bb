"""Tables of positions: which source columns are looked at together, and each unit's values.

A *slot* is a set of source columns; a slot with the values found there is a feature. A unit with
its value is a column of the table. Every example has one feature per slot and one value per unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pretrain.ragged import Documents, Examples, Stream, stream_of
from pretrain.selection.table.collectives import gather_numbers
from pretrain.selection.table.counts import (
    DEFAULT_BUDGET,
    Pairs,
    Progress,
    ShardedCounts,
    count_pairs,
)
from pretrain.selection.table.sharding import LayoutChoice

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

Slots = Sequence[tuple[int, ...]]


def slot_size(slots: Slots, vocabulary: int) -> int:
    """Keys that each slot has room for.

    Raises:
        ValueError: the keys of all slots do not fit 64 bits.
    """
    size: int = vocabulary ** max(len(slot) for slot in slots)
    if size * len(slots) >= 2**63:
        raise ValueError(
            f"{len(slots)} slots of up to {max(map(len, slots))} source columns with "
            f"{vocabulary} values each do not fit a 64-bit key; use a smaller estimator "
            "(pairwise or operand_pair)"
        )
    return size


def feature_keys(source: np.ndarray, slots: Slots, vocabulary: int) -> np.ndarray:
    """Keys of each example: [n, source columns] -> [n, slots] int64."""
    size = slot_size(slots, vocabulary)
    keys = np.empty((len(source), len(slots)), dtype=np.int64)
    for index, slot in enumerate(slots):
        key = np.zeros(len(source), dtype=np.int64)
        for column in slot:
            key = key * vocabulary + source[:, column]
        keys[:, index] = index * size + key
    return keys


@dataclass(frozen=True)
class PositionCounts:
    """A table of positions.

    Attributes:
        counts: rows are features in the order of `keys`, columns unit * vocabulary + value.
        keys: [rows] int64 rising; slot * vocabulary**longest slot, plus the values' number.
        slots: source columns of each slot.
        vocabulary: number of values of a source column or unit.
    """

    counts: ShardedCounts
    keys: np.ndarray
    slots: tuple[tuple[int, ...], ...]
    vocabulary: int

    @property
    def units(self) -> int:
        """Number of units."""
        return self.counts.columns // self.vocabulary

    def stream(self, source: np.ndarray, target: np.ndarray, chunk_tokens: int) -> Stream:
        """Examples as rows and columns of this table, to be added to it.

        Raises:
            ValueError: a feature is not among the keys.
        """
        return _stream(self.keys, source, target, self.slots, self.vocabulary, chunk_tokens)


Content = ShardedCounts | PositionCounts
"""Either kind of table."""


def counts_of(table: Content) -> ShardedCounts:
    """The pair counts of either kind of table."""
    return table.counts if isinstance(table, PositionCounts) else table


def _check(name: str, values: np.ndarray, vocabulary: int) -> None:
    if values.size and not 0 <= values.min() <= values.max() < vocabulary:
        raise ValueError(
            f"{name} holds values from {values.min()} to {values.max()}, expected 0 to "
            f"{vocabulary - 1}"
        )


def _stream(
    keys: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    slots: Slots,
    vocabulary: int,
    chunk_tokens: int,
) -> Stream:
    _check("source", source, vocabulary)
    _check("target", target, vocabulary)
    wanted = feature_keys(source, slots, vocabulary)
    rows = np.searchsorted(keys, wanted)
    if wanted.size and (len(keys) == 0 or not np.array_equal(keys[rows % len(keys)], wanted)):
        raise ValueError("the examples have features that the table does not know; fit it again")
    columns = target + np.arange(target.shape[1]) * vocabulary
    examples = Examples(Documents.from_rows(rows), Documents.from_rows(columns))
    return stream_of(examples, chunk_tokens)


def count_positions(
    source: np.ndarray,
    target: np.ndarray,
    slots: Slots,
    vocabulary: int,
    group: dist.ProcessGroup | None = None,
    chunk_tokens: int = 1 << 20,
    budget: int = DEFAULT_BUDGET,
    layout: LayoutChoice = "auto",
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> PositionCounts:
    """Count this rank's examples together with those of the other ranks of `group`.

    Args:
        source: [n, J] whole numbers in [0, vocabulary), this rank's examples.
        target: [n, U] likewise.
        slots: source columns that are looked at together, one tuple per slot.
        vocabulary: number of values.
        chunk_tokens: features and units that each rank contributes to one exchange.
        group, budget, layout, progress, device: see
            :func:`pretrain.selection.table.counts.count_pairs`.

    Raises:
        ValueError: a value is out of range, or keys do not fit 64 bits.
        BudgetError: the table does not fit the budget.
        UserError: another rank gave up or died.
    """
    _check("source", source, vocabulary)
    _check("target", target, vocabulary)
    found = np.unique(feature_keys(source, slots, vocabulary))
    keys = np.unique(np.concatenate(gather_numbers(found, group)))
    counts = count_pairs(
        _stream(keys, source, target, slots, vocabulary, chunk_tokens),
        len(keys),
        target.shape[1] * vocabulary,
        Pairs(presence=True),
        group,
        budget,
        layout,
        row_groups=keys // slot_size(slots, vocabulary),
        unit_width=vocabulary,
        progress=progress,
        device=device,
    )
    return PositionCounts(counts, keys, tuple(tuple(slot) for slot in slots), vocabulary)

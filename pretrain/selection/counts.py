"""Joint counts of source features and target units, sharded over the data-parallel ranks.

A *slot* is a set of source columns looked at together; a *feature* is a slot with the values found
there; features are the rows of the table, and each row lives on one rank. A column is a target unit
with a value. Ranks exchange the tokens of their examples and count only the rows that they own:
no pair crosses the network.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch.distributed as dist

from pretrain.selection.exchange import add_up, gather_rows, largest, world

Slots = Sequence[tuple[int, ...]]
Progress = Callable[[int, int], object]


def assign_rows(frequencies: np.ndarray, ranks: int) -> np.ndarray:
    """Owner of each row: longest processing time first, with room for 10 % above the even share.

    Rows are dealt out from the most frequent on, each to the rank with the fewest occurrences so
    far that still has room (Graham, 1969). Ties go to the lower row and the lower rank, so every
    rank that computes this gets the same answer.

    Args:
        frequencies: [rows] int64.
        ranks: number of ranks.

    Returns:
        [rows] int64 rank numbers.
    """
    rows = len(frequencies)
    owners = np.zeros(rows, dtype=np.int64)
    if ranks == 1 or rows == 0:
        return owners
    room = max(-(-rows // ranks), (11 * rows) // (10 * ranks))
    held = [0] * ranks
    heap = [(0, rank) for rank in range(ranks)]
    for row in np.argsort(-frequencies, kind="stable"):
        load, rank = heapq.heappop(heap)
        owners[row] = rank
        held[rank] += 1
        if held[rank] < room:
            heapq.heappush(heap, (load + int(frequencies[row]), rank))
    return owners


@dataclass(frozen=True)
class ShardedCounts:
    """The rows of one rank, and the marginals, which every rank has.

    Attributes:
        slots: source columns of each slot.
        vocabulary: number of values a source column or target unit can take.
        units: number of target units.
        examples: number of examples counted, over all ranks.
        keys: [rows] int64 sorted keys of all features, slot times values.
        frequencies: [rows] int64 examples in which each feature occurs.
        owners: [rows] int64 rank of each row.
        owned: [own rows] positions in `keys` of the rows that this rank holds.
        table: [own rows, units, vocabulary] int64 joint counts of those rows.
        columns: [units, vocabulary] int64 counts of each unit's values.
        group: the ranks that share the table; None for one process.
    """

    slots: tuple[tuple[int, ...], ...]
    vocabulary: int
    units: int
    examples: int
    keys: np.ndarray
    frequencies: np.ndarray
    owners: np.ndarray
    owned: np.ndarray
    table: np.ndarray
    columns: np.ndarray
    group: dist.ProcessGroup | None

    @property
    def row_slots(self) -> np.ndarray:
        """[rows] slot of each row."""
        return self.keys // _slot_size(self.slots, self.vocabulary)


def _slot_size(slots: Slots, vocabulary: int) -> int:
    size: int = vocabulary ** max(len(slot) for slot in slots)
    if size * len(slots) >= 2**63:
        raise ValueError(
            f"{len(slots)} slots of up to {max(map(len, slots))} source columns with "
            f"{vocabulary} values each do not fit a 64-bit key; use a smaller estimator "
            "(pairwise or operand_pair)"
        )
    return size


def feature_keys(source: np.ndarray, slots: Slots, vocabulary: int) -> np.ndarray:
    """Row keys of each example: [n, source columns] -> [n, slots] int64."""
    size = _slot_size(slots, vocabulary)
    keys = np.empty((len(source), len(slots)), dtype=np.int64)
    for index, slot in enumerate(slots):
        key = np.zeros(len(source), dtype=np.int64)
        for column in slot:
            key = key * vocabulary + source[:, column]
        keys[:, index] = index * size + key
    return keys


def _rounds(
    source: np.ndarray,
    target: np.ndarray,
    chunk_rows: int,
    group: dist.ProcessGroup | None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(source, target) of all ranks, a chunk of each at a time, as often as the longest needs."""
    columns = source.shape[1]
    both = np.concatenate([source, target], axis=1).astype(np.int64)
    for start in range(0, largest(len(both), group), chunk_rows):
        gathered = gather_rows(both[start : start + chunk_rows], group)
        yield gathered[:, :columns], gathered[:, columns:]


def _merge(
    keys: np.ndarray, counts: np.ndarray, more: np.ndarray, more_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    union, inverse = np.unique(np.concatenate([keys, more]), return_inverse=True)
    total = np.zeros(len(union), dtype=np.int64)
    np.add.at(total, inverse, np.concatenate([counts, more_counts]))
    return union, total


def count(
    source: np.ndarray,
    target: np.ndarray,
    slots: Slots,
    vocabulary: int,
    group: dist.ProcessGroup | None = None,
    chunk_tokens: int = 1 << 20,
    progress: Progress | None = None,
) -> ShardedCounts:
    """Count this rank's examples together with those of the other ranks of `group`.

    Two passes: the first finds the features and how often each occurs, so that rows can be dealt
    out evenly; the second counts pairs of owned rows. The result does not depend on the number of
    ranks or on how examples are spread over them, except for which rank holds which row.

    Args:
        source: [n, J] whole numbers in [0, vocabulary), this rank's examples.
        target: [n, U] likewise.
        slots: source columns that are looked at together, one tuple per slot.
        vocabulary: number of values.
        group: gloo group of the ranks that share the table.
        chunk_tokens: tokens that each rank contributes to one exchange.
        progress: called with (examples done, examples in all) of this rank.

    Raises:
        ValueError: a value is out of range, or keys do not fit 64 bits.
    """
    for name, values in (("source", source), ("target", target)):
        if values.size and not 0 <= values.min() <= values.max() < vocabulary:
            raise ValueError(
                f"{name} holds values from {values.min()} to {values.max()}, expected 0 to "
                f"{vocabulary - 1}"
            )
    units = target.shape[1]
    chunk_rows = max(1, chunk_tokens // (source.shape[1] + units))
    rank, ranks = world(group)

    keys, frequencies = np.zeros(0, np.int64), np.zeros(0, np.int64)
    examples = 0
    done = 0
    for some_source, _ in _rounds(source, target, chunk_rows, group):
        found, counts = np.unique(feature_keys(some_source, slots, vocabulary), return_counts=True)
        keys, frequencies = _merge(keys, frequencies, found, counts)
        examples += len(some_source)
        done = min(len(source), done + chunk_rows)
        if progress:
            progress(done, 2 * len(source))

    owners = assign_rows(frequencies, ranks)
    owned = np.flatnonzero(owners == rank)
    table = np.zeros((len(owned), units, vocabulary), dtype=np.int64)
    columns = np.zeros((units, vocabulary), dtype=np.int64)
    own_keys = keys[owned]
    done = 0
    for some_source, some_target in _rounds(source, target, chunk_rows, group):
        for unit in range(units):
            columns[unit] += np.bincount(some_target[:, unit], minlength=vocabulary)
        _count_owned(table, own_keys, feature_keys(some_source, slots, vocabulary), some_target)
        done = min(len(source), done + chunk_rows)
        if progress:
            progress(len(source) + done, 2 * len(source))
    return ShardedCounts(
        slots=tuple(tuple(slot) for slot in slots),
        vocabulary=vocabulary,
        units=units,
        examples=examples,
        keys=keys,
        frequencies=frequencies,
        owners=owners,
        owned=owned,
        table=table,
        columns=columns,
        group=group,
    )


def _count_owned(
    table: np.ndarray, own_keys: np.ndarray, keys: np.ndarray, target: np.ndarray
) -> None:
    """Add the pairs of owned rows to `table` in place."""
    rows, units, vocabulary = table.shape
    if rows == 0:
        return
    for slot in range(keys.shape[1]):
        position = np.searchsorted(own_keys, keys[:, slot])
        position[position == rows] = 0
        mine = own_keys[position] == keys[:, slot]
        cells = (position[mine, None] * units + np.arange(units)) * vocabulary + target[mine]
        table += np.bincount(cells.ravel(), minlength=table.size).reshape(table.shape)


def entropy_sums(counts: ShardedCounts) -> tuple[np.ndarray, np.ndarray, int]:
    """Fixed-point sums of c * log2(c) over the cells of each (slot, unit), over all ranks.

    Every distinct count is converted to fixed point once, and whole numbers are added: the sum
    does not depend on how rows are spread over ranks, to the last bit.

    Returns:
        sums: [slots, units] int64, scaled by 2**bits.
        cells: [slots, units] int64 number of cells with a count.
        bits: fractional bits of the fixed point.
    """
    bits = fraction_bits(counts.examples)
    scaled = fixed_point(counts.table, bits)
    shape = (len(counts.slots), counts.units)
    sums, cells = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    slots = counts.row_slots[counts.owned]
    np.add.at(sums, slots, scaled.sum(axis=2))
    np.add.at(cells, slots, np.count_nonzero(counts.table, axis=2))
    return add_up(sums, counts.group), add_up(cells, counts.group), bits


def fraction_bits(examples: int) -> int:
    """Fractional bits with which sums of c * log2(c) of `examples` counts stay below 2**62."""
    largest_sum = examples * max(1.0, float(np.log2(max(examples, 2))))
    return max(0, 61 - int(np.ceil(np.log2(largest_sum + 1.0))))


def fixed_point(values: np.ndarray, bits: int) -> np.ndarray:
    """c * log2(c) of each count, rounded to int64 with `bits` fractional bits; 0 for 0."""
    if values.size and values.max() < 1 << 20:
        # A table over all counts up to the largest, filled where a count occurs.
        distinct = np.flatnonzero(np.bincount(values.ravel()))
        converted = np.zeros(int(values.max()) + 1, dtype=np.int64)
        converted[distinct] = [_c_log_c(int(c), bits) for c in distinct]
        return converted[values]
    distinct, inverse = np.unique(values, return_inverse=True)
    converted = np.array([_c_log_c(int(c), bits) for c in distinct], dtype=np.int64)
    return converted[inverse].reshape(values.shape)


def _c_log_c(c: int, bits: int) -> int:
    if c == 0:
        return 0
    return round(math.ldexp(c * math.log2(c), bits))

"""How often the values of small sets of columns occur together, counted over all ranks.

Columns are those of sources and then those of targets. Ranks exchange the *tokens* of their
examples, and each counts the blocks (:mod:`pretrain.selection.table.blocks`) that it owns; what
goes back is how many cells of a set have each count, which no order of ranks changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pretrain.ragged import Documents, Examples
from pretrain.selection.table import kernels
from pretrain.selection.table.blocks import Blocks, Columns, count_size, plan_blocks
from pretrain.selection.table.collectives import Arriving, add_up, gather_numbers, together, world
from pretrain.selection.table.counts import DEFAULT_BUDGET, Progress

if TYPE_CHECKING:
    import torch.distributed as dist

TILE = 1 << 18
"""Examples whose keys are kept at once: so many that fetching a block's counts into the cache is
little beside adding to them."""


@dataclass(frozen=True)
class SubsetCounts:
    """How many combinations of values have each count, for every small set of columns.

    Attributes:
        blocks: what was counted where.
        spectra: ([m] distinct counts above 0, rising; [m] combinations with that count), int64, by
            the set's columns, rising.
    """

    blocks: Blocks
    spectra: dict[Columns, tuple[np.ndarray, np.ndarray]]


def count_subsets(
    source: np.ndarray,
    target: np.ndarray,
    vocabulary: int,
    k: int,
    group: dist.ProcessGroup | None = None,
    chunk_tokens: int = 1 << 20,
    budget: int = DEFAULT_BUDGET,
    progress: Progress | None = None,
) -> SubsetCounts:
    """Count this rank's examples together with those of the other ranks of `group`: every set of up
    to k columns, and every set of k + 1 that holds a column of the target.

    The result is the same on every rank, for any number of them.

    Args:
        source: [n, J] whole numbers in [0, vocabulary), this rank's examples; n may be 0.
        target: [n, U] likewise.
        vocabulary: number of values.
        k: columns that are looked at together.
        group: the ranks, gloo or NCCL; None for one process.
        chunk_tokens: tokens that each rank contributes to one exchange.
        budget: bytes that each rank has for its counts.
        progress: called with tokens done, each of this rank's tokens once.

    Raises:
        ValueError: a value is out of range, or there is no example on any rank.
        BudgetError: the counts do not fit the budget.
        UserError: another rank gave up or died.
    """
    rank, ranks = world(group)
    sides = (source, target)
    with together(group, "reading its examples"):
        seen = np.concatenate([
            _seen(name, values, vocabulary)
            for name, values in zip(("source", "target"), sides, strict=True)
        ])  # fmt: skip
    told = add_up(np.append(seen.ravel().astype(np.int64), len(source)), group)
    total = int(told[-1])
    if total == 0:
        raise ValueError("there is no example to count on any rank; give at least one")
    # The values that occur in a column, numbered from 0.
    numbers = np.cumsum(told[:-1].reshape(seen.shape) > 0, axis=1) - 1
    sizes = (numbers[:, -1] + 1).tolist()
    blocks = plan_blocks(sizes, source.shape[1], k, total, budget, ranks)
    counting = _Counting(blocks, rank)
    codes = np.empty((len(sizes), len(source)), np.min_scalar_type(max(sizes) - 1))
    for values, first in zip(sides, (0, source.shape[1]), strict=True):
        own = slice(first, first + values.shape[1])
        kernels.number_values(values, numbers[own].astype(codes.dtype), codes[own])
    for share, part in _arriving(codes, max(sizes), chunk_tokens, group):
        counting.add(part)
        if progress:
            progress(share)
    return SubsetCounts(blocks, _shared(blocks, dict(counting.spectra()), group))


def _seen(name: str, values: np.ndarray, vocabulary: int) -> np.ndarray:
    """[columns, vocabulary] bool, which values of [n, columns] occur."""
    seen = np.zeros((values.shape[1], vocabulary), np.bool_)
    if not kernels.mark_values(values, seen):
        raise ValueError(
            f"{name} holds values from {values.min()} to {values.max()}, expected 0 to "
            f"{vocabulary - 1}"
        )
    return seen


def _arriving(
    codes: np.ndarray, vocabulary: int, chunk_tokens: int, group: dist.ProcessGroup | None
) -> Iterator[tuple[int, np.ndarray]]:
    """(tokens of this rank, [columns, n] codes of all ranks) of one exchange after another."""
    columns = len(codes)
    if world(group)[1] == 1:
        yield codes.size, codes
        return
    step = max(1, chunk_tokens // columns)
    chunks = (
        Examples(Documents.from_rows(codes[:, first : first + step].T))
        for first in range(0, codes.shape[1], step)
    )
    for share, chunk in Arriving(chunks, vocabulary, vocabulary, group):
        tokens = chunk.source.tokens.reshape(-1, columns)
        yield share, np.ascontiguousarray(tokens.T.astype(codes.dtype))


def key_kind(largest: int) -> type[np.unsignedinteger]:
    """Numbers that hold keys up to `largest`."""
    return np.uint16 if largest < 1 << 16 else np.uint32


Spectrum = tuple[np.ndarray, np.ndarray]


@dataclass
class _Counting:
    """The blocks of one rank.

    Attributes:
        counts: all cells of the blocks that are kept whole, one after the other.
        starts: where each of them begins.
        some: (keys, rising; their counts) of the others.
    """

    blocks: Blocks
    rank: int
    counts: np.ndarray = field(init=False)
    starts: dict[int, int] = field(init=False)
    some: dict[int, tuple[np.ndarray, np.ndarray]] = field(init=False)

    def __post_init__(self) -> None:
        blocks, owned = self.blocks, self.blocks.owned(self.rank)
        whole = [block for block in owned if blocks.whole(block)]
        ends = np.cumsum([0, *(blocks.cells(block) for block in whole)]).tolist()
        self.starts = dict(zip(whole, ends[:-1], strict=True))
        kind = np.uint32 if count_size(blocks.examples) == 4 else np.int64
        self.counts = np.zeros(ends[-1], kind)
        none = np.zeros(0, np.int64)
        self.some = {block: (none, none) for block in owned if block not in self.starts}

    def add(self, codes: np.ndarray) -> None:
        """Count examples: [columns, n] numbers of the values of each column."""
        columns, sizes = self.blocks.columns, np.array(self.blocks.sizes)
        for width in sorted({len(columns[block]) for block in self.starts}):
            chosen = [block for block in self.starts if len(columns[block]) == width]
            listed = np.array([columns[block] for block in chosen])
            starts = np.array([self.starts[block] for block in chosen])
            largest = int(sizes[listed[:, :-1]].prod(axis=1).max()) - 1
            keys = np.empty((width - 1, min(TILE, max(1, codes.shape[1]))), key_kind(largest))
            kernels.add_blocks(codes, sizes, listed, starts, self.counts, keys)
        for block, (keys, counts) in self.some.items():
            more = np.zeros(codes.shape[1], np.int64)
            for column in columns[block]:
                more = more * self.blocks.sizes[column] + codes[column]
            found, times = np.unique(more, return_counts=True)
            self.some[block] = _summed(
                np.concatenate([keys, found]), np.concatenate([counts, times])
            )

    def spectra(self) -> Iterator[tuple[Columns, Spectrum]]:
        """Of every set whose home is one of this rank's blocks."""
        at_home: dict[int, list[Columns]] = {}
        for set_, block in self.blocks.homes.items():
            if self.blocks.owners[block] == self.rank:
                at_home.setdefault(block, []).append(set_)
        for block, sets in at_home.items():
            parts = self._parts_of_some if block in self.some else self._parts_of_whole
            for set_, counts in parts(block, sets):
                yield set_, spectrum_of(counts)

    def _parts_of_whole(
        self, block: int, sets: list[Columns]
    ) -> Iterator[tuple[Columns, np.ndarray]]:
        columns, start = self.blocks.columns[block], self.starts[block]
        cells = self.counts[start : start + self.blocks.cells(block)]
        # A part of a part is summed from the smallest that holds it.
        known = {columns: cells.reshape([self.blocks.sizes[column] for column in columns])}
        for set_ in sorted(sets, key=len, reverse=True):
            least = min((held for held in known if set(set_) <= set(held)), key=len)
            gone = tuple(place for place, column in enumerate(least) if column not in set_)
            if gone:
                known[set_] = known[least].sum(axis=gone, dtype=self.counts.dtype)
            yield set_, known[set_].ravel()

    def _parts_of_some(
        self, block: int, sets: list[Columns]
    ) -> Iterator[tuple[Columns, np.ndarray]]:
        columns, (keys, counts) = self.blocks.columns[block], self.some[block]
        values, rest = {}, keys
        for column in reversed(columns):
            rest, values[column] = np.divmod(rest, self.blocks.sizes[column])
        for set_ in sets:
            own = np.zeros(len(keys), np.int64)
            for column in set_:
                own = own * self.blocks.sizes[column] + values[column]
            yield set_, _summed(own, counts)[1]


def _summed(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys once each, rising, with the sums of their counts."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(keys)])
    if len(first) == 0:
        return keys, counts
    return ordered[first], np.add.reduceat(counts[order], first)


def spectrum_of(counts: np.ndarray) -> Spectrum:
    """Distinct counts above 0, rising, and how many cells have each."""
    if len(counts) and int(counts.max()) <= 8 * len(counts):
        cells = np.bincount(counts)
        cells[0] = 0
        found = np.flatnonzero(cells)
        return found, cells[found]
    values, cells = np.unique(counts[counts > 0], return_counts=True)
    return values.astype(np.int64), cells


def _shared(
    blocks: Blocks, mine: dict[Columns, Spectrum], group: dist.ProcessGroup | None
) -> dict[Columns, Spectrum]:
    """The spectra of all ranks, on each of them."""
    if world(group)[1] == 1:
        return mine
    sets = list(blocks.homes)
    number = {set_: index for index, set_ in enumerate(sets)}
    triples = [
        np.stack([np.full(len(counts), number[set_]), counts, cells], axis=1)
        for set_, (counts, cells) in mine.items()
    ]
    told = np.concatenate([np.zeros((0, 3), np.int64), *triples])
    everyone = np.concatenate(gather_numbers(told.ravel(), group)).reshape(-1, 3)
    everyone = everyone[np.argsort(everyone[:, 0], kind="stable")]
    cuts = np.searchsorted(everyone[:, 0], np.arange(1, len(sets)))
    parts = np.split(everyone, cuts)
    return {set_: (part[:, 1], part[:, 2]) for set_, part in zip(sets, parts, strict=True)}

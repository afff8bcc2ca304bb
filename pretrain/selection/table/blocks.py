"""Which sets of columns are counted, so that the counts of all small sets can be read off.

A *block* is a set of columns whose values are counted together; the counts of any part of it are
sums of the block's. Every set that is wanted has one block as its home, and every block one rank.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pretrain.selection.table.sharding import BudgetError, assign_rows, shared_budget

Columns = tuple[int, ...]

WIDEST = 1 << 17
"""Cells up to which a block is made one column wider than it needs to be: they stay in the
processor's second cache."""
CANDIDATES = 5000
"""Wider blocks among which a cover is looked for."""
PAIR = 16
"""Bytes of a key and its count in a block that is kept as the keys that occur."""


@dataclass(frozen=True)
class Blocks:
    """What is counted of columns with `sizes` values each, over `examples` examples.

    Attributes:
        sizes: values of each column.
        examples: over all ranks.
        columns: of each block, rising; blocks in rising order.
        homes: block of each wanted set; of the set's columns, rising.
        owners: [blocks] rank that counts each.
    """

    sizes: tuple[int, ...]
    examples: int
    columns: tuple[Columns, ...]
    homes: dict[Columns, int]
    owners: np.ndarray

    def cells(self, block: int) -> int:
        """Combinations of values that a block has room for."""
        return cells_of(self.columns[block], self.sizes)

    def bytes_of(self, block: int) -> int:
        """Most bytes of a block's counts."""
        return block_bytes(self.cells(block), self.examples)

    def whole(self, block: int) -> bool:
        """Whether every cell of a block has a count; else those that occur."""
        return is_whole(self.cells(block), self.examples)

    def owned(self, rank: int) -> list[int]:
        """Blocks of a rank, rising."""
        return np.flatnonzero(self.owners == rank).tolist()

    def bytes_per_rank(self, ranks: int) -> tuple[int, ...]:
        """Most bytes of counts on each rank."""
        return tuple(sum(map(self.bytes_of, self.owned(rank))) for rank in range(ranks))


def count_size(examples: int) -> int:
    """Bytes of a count: 4 as long as none can overflow."""
    return 4 if examples < 1 << 32 else 8


def is_whole(cells: int, examples: int) -> bool:
    """Whether a block takes no more bytes with all of its cells than with those that can occur."""
    return cells * count_size(examples) <= PAIR * min(cells, examples) and cells < 1 << 32


def block_bytes(cells: int, examples: int) -> int:
    """Most bytes of a block of so many cells."""
    whole = is_whole(cells, examples)
    return cells * count_size(examples) if whole else PAIR * min(cells, examples)


def cells_of(columns: Iterable[int], sizes: Sequence[int]) -> int:
    """Combinations of values of some columns."""
    return math.prod(sizes[column] for column in columns)


def plan_blocks(
    sizes: Sequence[int], sources: int, k: int, examples: int, budget: int, ranks: int
) -> Blocks:
    """Blocks for every set of up to k columns, and every set of k + 1 that holds a unit.

    Args:
        sizes: values of each column, the source's first.
        sources: columns of the source; the others are units.
        k: symbols that are looked at together.
        examples: over all ranks.
        budget: bytes that each rank has for its counts.
        ranks: ranks that share the work.

    Raises:
        BudgetError: counts do not fit, or the values of k + 1 columns have no 64-bit number.
    """
    columns = len(sizes)
    width = min(k + 1, columns)
    wanted = [set_ for set_ in combinations(range(columns), width) if set_[-1] >= sources]
    for set_ in wanted:
        if cells_of(set_, sizes) >= 1 << 62:
            raise BudgetError(
                f"columns of {', '.join(str(sizes[c]) for c in set_)} values do not fit a 64-bit "
                "key; use a smaller selection.k"
            )
    blocks = sorted(_cover(wanted, sizes, examples))
    homes: dict[Columns, int] = {}
    for number, block in enumerate(blocks):
        for size in range(1, width + 1):
            for set_ in combinations(block, size):
                if size < width or set_[-1] >= sources:
                    homes.setdefault(set_, number)
    numbers = [cells_of(block, sizes) for block in blocks]
    need = sum(block_bytes(cells, examples) for cells in numbers)
    available = shared_budget(budget, ranks)
    if need > available:
        raise BudgetError(
            f"counts of {len(blocks):,} sets of columns take {need:,} bytes, {ranks} rank(s) of "
            f"{budget:,} bytes hold {available:,}; use more ranks, a larger memory budget, or a "
            "smaller selection.k"
        )
    # Keys that are sorted take some 20 times as long as counting.
    work = np.array([examples * (1 if is_whole(cells, examples) else 20) for cells in numbers])
    held = np.array([block_bytes(cells, examples) for cells in numbers])
    owners = assign_rows(work + held, held, ranks)
    return Blocks(tuple(sizes), examples, tuple(blocks), homes, owners)


def _cover(wanted: Sequence[Columns], sizes: Sequence[int], examples: int) -> set[Columns]:
    """The wanted sets, or fewer and wider ones that hold them all.

    One column more makes a block hold several wanted sets, each of them one pass over the examples
    less, at the price of sums over its cells. The cover is greedy: of all sets of one column more,
    again and again the one that holds most of what is left, the first of equals.
    """
    columns, width = len(sizes), len(wanted[0])
    most = min(WIDEST, examples // 8)
    if math.comb(columns, width + 1) > CANDIDATES:
        return set(wanted)
    left = set(wanted)
    waiting = []
    for block in combinations(range(columns), width + 1):
        if cells_of(block, sizes) <= most:
            gain = sum(part in left for part in combinations(block, width))
            waiting.append((-gain, block))
    heapq.heapify(waiting)
    chosen: set[Columns] = set()
    while waiting:
        before, block = heapq.heappop(waiting)
        gain = sum(part in left for part in combinations(block, width))
        if gain < 2:
            continue
        if -gain > before:  # others may hold more by now
            heapq.heappush(waiting, (-gain, block))
            continue
        chosen.add(block)
        left.difference_update(combinations(block, width))
    return chosen | left

"""How often the values of several columns occur together, for many sets of columns at once."""

from __future__ import annotations

import numpy as np

from pretrain.selection.table.kernels.rows import compiled

TILE = 1 << 18
"""Examples whose keys are kept at once: so many that fetching a block's counts into the cache is
little beside adding to them."""


@compiled
def add_blocks(
    codes: np.ndarray,
    sizes: np.ndarray,
    blocks: np.ndarray,
    starts: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Add the examples to the counts of every block.

    Blocks that begin with the same columns share the keys of these, so they are best sorted.

    Args:
        codes: [columns, examples] values of each column, from 0.
        sizes: [columns] values that a column has.
        blocks: [blocks, width] columns of each block, width 2 or more.
        starts: [blocks] where a block's counts begin.
        counts: the cells of all blocks, the last column fastest.
    """
    examples, width = codes.shape[1], blocks.shape[1]
    keys = np.empty((width, min(TILE, examples)), np.uint32)
    for begin in range(0, examples, TILE):
        n = min(TILE, examples - begin)
        for b in range(len(blocks)):
            known = 0
            if b > 0:
                while known < width - 1 and blocks[b, known] == blocks[b - 1, known]:
                    known += 1
            for depth in range(known, width - 1):
                column = codes[blocks[b, depth], begin : begin + n]
                key = keys[depth, :n]
                if depth == 0:
                    for i in range(n):
                        key[i] = column[i]
                else:
                    size = np.uint32(sizes[blocks[b, depth]])
                    before = keys[depth - 1, :n]
                    for i in range(n):
                        key[i] = before[i] * size + np.uint32(column[i])
            last = blocks[b, width - 1]
            tally_keys(
                keys[width - 2, :n],
                codes[last, begin : begin + n],
                np.uint32(sizes[last]),
                counts[starts[b] :],
            )


@compiled
def tally_keys(key: np.ndarray, column: np.ndarray, size: np.uint32, table: np.ndarray) -> None:
    """Add one to the cell of each example, four at a time."""
    n = len(key)
    i = 0
    while i + 4 <= n:
        a = key[i] * size + np.uint32(column[i])
        b = key[i + 1] * size + np.uint32(column[i + 1])
        c = key[i + 2] * size + np.uint32(column[i + 2])
        d = key[i + 3] * size + np.uint32(column[i + 3])
        table[a] += 1
        table[b] += 1
        table[c] += 1
        table[d] += 1
        i += 4
    while i < n:
        table[key[i] * size + np.uint32(column[i])] += 1
        i += 1


@compiled
def mark_values(values: np.ndarray, seen: np.ndarray) -> bool:
    """Mark in `seen`, [columns, vocabulary] bool, which values of [n, columns] occur; False once
    one is outside of the vocabulary."""
    n, columns = values.shape
    size = seen.shape[1]
    for i in range(n):
        for c in range(columns):
            value = values[i, c]
            if value < 0 or value >= size:
                return False
            seen[c, value] = True
    return True


@compiled
def number_values(values: np.ndarray, numbers: np.ndarray, codes: np.ndarray) -> None:
    """Write numbers[column, value] for [n, columns] values to `codes`, [columns, n]."""
    n, columns = values.shape
    for i in range(n):
        for c in range(columns):
            codes[c, i] = numbers[c, values[i, c]]

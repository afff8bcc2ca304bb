"""How often the values of several columns occur together, for many sets of columns at once."""

from __future__ import annotations

import numpy as np

from pretrain.compiled import compiled


@compiled
def add_blocks(
    codes: np.ndarray,
    sizes: np.ndarray,
    blocks: np.ndarray,
    starts: np.ndarray,
    counts: np.ndarray,
    keys: np.ndarray,
) -> None:
    """Add the examples to the counts of every block.

    Blocks that begin with the same columns share the keys of these, so they are best sorted.

    Args:
        codes: [columns, examples] values of each column, from 0.
        sizes: [columns] values that a column has.
        blocks: [blocks, width] columns of each block, width 2 or more.
        starts: [blocks] where a block's counts begin.
        counts: the cells of all blocks, the last column fastest.
        keys: [width - 1, tile] working memory, of unsigned numbers that hold the key of all columns
            of a block but the last; the narrower, the faster.
    """
    examples, width = codes.shape[1], blocks.shape[1]
    tile = keys.shape[1]
    for begin in range(0, examples, tile):
        n = min(tile, examples - begin)
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
                    size = sizes[blocks[b, depth]]
                    before = keys[depth - 1, :n]
                    for i in range(n):
                        key[i] = np.int64(before[i]) * size + np.int64(column[i])
            last = blocks[b, width - 1]
            tally_keys(
                keys[width - 2, :n],
                codes[last, begin : begin + n],
                sizes[last],
                counts[starts[b] :],
            )


@compiled
def tally_keys(key: np.ndarray, column: np.ndarray, size: int, table: np.ndarray) -> None:
    """Add one to the cell of each example."""
    for i in range(len(key)):
        table[np.int64(key[i]) * size + np.int64(column[i])] += 1


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

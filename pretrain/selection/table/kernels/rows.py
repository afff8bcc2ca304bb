"""Rows of counts: how they are stored, added to, moved and read.

Rows that a rank holds are stored whole (`place[row] >= 0` numbers a line of `dense`) or as the
columns that occur, rising (`cols` and `counts` from `start[row]` on, `length[row]` of them).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pretrain.compiled import compiled


class Rows(NamedTuple):
    """The arrays of a table's rows: [rows] place, [lines, columns] dense, [rows + 1] start, [rows]
    length, and the cells' cols and counts."""

    place: np.ndarray
    dense: np.ndarray
    start: np.ndarray
    length: np.ndarray
    cols: np.ndarray
    counts: np.ndarray


@compiled
def merge(
    cols: np.ndarray,
    counts: np.ndarray,
    base: int,
    filled: int,
    more_cols: np.ndarray,
    more_counts: np.ndarray,
    n: int,
    end: int,
) -> int:
    """Add n cells, columns rising, to a sparse row that may go on to `end`; returns how many cells
    it has then, or -1, with nothing changed, if there is no room."""
    if filled == 0:
        if base + n > end:
            return -1
        for k in range(n):
            cols[base + k] = more_cols[k]
            counts[base + k] = more_counts[k]
        return n
    common = 0
    i = j = 0
    while i < filled and j < n:
        left, right = cols[base + i], more_cols[j]
        common += int(left == right)
        i += int(left <= right)
        j += int(right <= left)
    if base + filled + n - common > end:
        return -1
    # From the end on, so that nothing is written over before it was read.
    at = base + filled + n - common - 1
    i, j = filled - 1, n - 1
    while j >= 0:
        if i >= 0 and cols[base + i] > more_cols[j]:
            cols[at], counts[at] = cols[base + i], counts[base + i]
            i -= 1
        elif i >= 0 and cols[base + i] == more_cols[j]:
            cols[at], counts[at] = cols[base + i], counts[base + i] + more_counts[j]
            i -= 1
            j -= 1
        else:
            cols[at], counts[at] = more_cols[j], more_counts[j]
            j -= 1
        at -= 1
    return filled + n - common


@compiled
def add_to_row(
    row: int,
    more_cols: np.ndarray,
    more_counts: np.ndarray,
    n: int,
    held: Rows,
    end: int,
) -> bool:
    """Add n cells, columns rising, to a row; False if a sparse row has no room up to `end`."""
    place, dense, start, length, cols, counts = held
    if place[row] >= 0:
        line = dense[place[row]]
        for k in range(n):
            line[more_cols[k]] += more_counts[k]
        return True
    filled = merge(cols, counts, start[row], length[row], more_cols, more_counts, n, end)
    if filled >= 0:
        length[row] = filled
    return bool(filled >= 0)


@compiled
def add_cells(
    more_start: np.ndarray,
    more_cols: np.ndarray,
    more_counts: np.ndarray,
    held: Rows,
    room: np.ndarray,
) -> bool:
    """Add sparse rows without gaps, columns rising, to the rows of a table; False if a row has no
    room for them."""
    place = held.place
    for row in range(len(place)):
        first, last = more_start[row], more_start[row + 1]
        if not add_to_row(
            row, more_cols[first:last], more_counts[first:last], last - first,
            held, room[row + 1],
        ):  # fmt: skip
            return False
    return True


@compiled
def copy_cells(
    new_start: np.ndarray,
    new_cols: np.ndarray,
    new_counts: np.ndarray,
    held: Rows,
) -> None:
    """Write every cell of a table into sparse rows without gaps."""
    place, dense, start, length, cols, counts = held
    for row in range(len(place)):
        n = new_start[row]
        if place[row] >= 0:
            line = dense[place[row]]
            for column in range(len(line)):
                if line[column]:
                    new_cols[n] = column
                    new_counts[n] = line[column]
                    n += 1
            continue
        for k in range(start[row], start[row] + length[row]):
            new_cols[n] = cols[k]
            new_counts[n] = counts[k]
            n += 1


@compiled
def close_gaps(
    start: np.ndarray, length: np.ndarray, cols: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Move the sparse rows together, in place; returns their new starts."""
    moved = np.zeros_like(start)
    n = 0
    for row in range(len(length)):
        moved[row] = n
        base = start[row]
        for k in range(length[row]):
            cols[n] = cols[base + k]
            counts[n] = counts[base + k]
            n += 1
    moved[len(length)] = n
    return moved


@compiled
def spread(
    start: np.ndarray, room: np.ndarray, length: np.ndarray, cols: np.ndarray, counts: np.ndarray
) -> None:
    """Move packed sparse rows apart, in place, to where each has its room."""
    for row in range(len(length) - 1, -1, -1):
        for k in range(length[row] - 1, -1, -1):
            cols[room[row] + k] = cols[start[row] + k]
            counts[room[row] + k] = counts[start[row] + k]


@compiled
def find(
    row: int,
    column: int,
    held: Rows,
) -> int:
    """The count of one cell."""
    place, dense, start, length, cols, counts = held
    if place[row] >= 0:
        return int(dense[place[row], column])
    low, high = start[row], start[row] + length[row]
    while low < high:
        middle = (low + high) // 2
        if cols[middle] < column:
            low = middle + 1
        else:
            high = middle
    if low < start[row] + length[row] and cols[low] == column:
        return int(counts[low])
    return 0


@compiled
def hash_cells(rows: np.ndarray, cols: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """A hash of a set of cells whose parts add up: [4] int64, sums of 16-bit pieces.

    Each cell is mixed by the finaliser of splitmix64 (Steele, Lea and Flood, 2014).
    """
    sums = np.zeros(4, np.int64)
    for k in range(len(cols)):
        mixed = np.uint64(0)
        for value in (rows[k], np.int64(cols[k]), counts[k]):
            mixed += np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
        for piece in range(4):
            sums[piece] += np.int64((mixed >> np.uint64(16 * piece)) & np.uint64(0xFFFF))
    return sums

"""What the estimators read off the rows of a table."""

from __future__ import annotations

import numpy as np

from pretrain.compiled import compiled
from pretrain.selection.table.kernels.rows import Rows, find

SMALL = 1 << 16  # counts below this are looked up rather than computed


@compiled
def spectrum(
    held: Rows,
    row_groups: np.ndarray,
    width: int,
    small: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """How many cells have each count, for each group of rows and of `width` columns.

    Counts below small.shape[2] go into `small` [row groups, column groups, count]; of the others
    the group (row group times column groups, plus column group) and the count are returned.
    """
    place, dense, start, length, cols, counts = held
    groups = small.shape[1]
    large_groups, large = [0 for _ in range(0)], [0 for _ in range(0)]
    for row in range(len(place)):
        slot = row_groups[row]
        if place[row] >= 0:
            line = dense[place[row]]
            for column in range(len(line)):
                count = line[column]
                if count == 0:
                    continue
                if count < small.shape[2]:
                    small[slot, column // width, count] += 1
                else:
                    large_groups.append(slot * groups + column // width)
                    large.append(count)
            continue
        for k in range(start[row], start[row] + length[row]):
            count = counts[k]
            if count < small.shape[2]:
                small[slot, cols[k] // width, count] += 1
            else:
                large_groups.append(slot * groups + cols[k] // width)
                large.append(count)
    return np.array(large_groups, dtype=np.int64), np.array(large, dtype=np.int64)


@compiled
def c_log_c(count: int, scale: float) -> int:
    """count * log2(count), rounded to a whole multiple of 1 / scale; 0 for 0."""
    return 0 if count == 0 else round(count * np.log2(count) * scale)


@compiled
def presence_information(
    held: Rows,
    row_documents: np.ndarray,
    column_documents: np.ndarray,
    documents: int,
    scale: float,
    best: np.ndarray,
) -> np.ndarray:
    """documents * scale * I(feature present; unit present), summed over own rows: [columns] int64.

    Keeps the largest of each unit in `best` [columns, k] int64, falling.
    """
    place, dense, start, length, cols, counts = held
    columns = len(column_documents)
    known = np.empty(min(documents + 1, 1 << 22), np.int64)
    for count in range(len(known)):
        known[count] = c_log_c(count, scale)
    sums = np.zeros(columns, np.int64)
    line = np.zeros(columns, np.int64)
    for row in range(len(place)):
        if place[row] >= 0:
            line[:] = dense[place[row]]
        else:
            line[:] = 0
            for k in range(start[row], start[row] + length[row]):
                line[cols[k]] = counts[k]
        for column in range(columns):
            value = np.int64(0)
            a, b, n = row_documents[row], column_documents[column], documents
            both = line[column]
            for sign, count in (
                (1, both), (1, a - both), (1, b - both), (1, n - a - b + both), (1, n),
                (-1, a), (-1, n - a), (-1, b), (-1, n - b),
            ):  # fmt: skip
                if count < len(known):
                    value += sign * known[count]
                else:
                    value += sign * c_log_c(count, scale)
            sums[column] += value
            k = best.shape[1]
            if k == 0 or value <= best[column, k - 1]:
                continue
            k -= 1
            while k > 0 and best[column, k - 1] < value:
                best[column, k] = best[column, k - 1]
                k -= 1
            best[column, k] = value
    return sums


@compiled
def pointwise(
    count: int,
    row_term: float,
    column_term: float,
    log_total: float,
    normalised: bool,
    positive: bool,
) -> float:
    """PMI of one cell in bits; see :mod:`pretrain.selection.estimators.pointwise`."""
    bits = np.log2(count) - row_term - column_term
    if normalised:
        surprise = log_total - np.log2(count)
        bits = 1.0 if surprise <= 0.0 else bits / surprise
    return max(bits, 0.0) if positive else bits


@compiled
def score(
    features: np.ndarray,
    offsets: np.ndarray,
    candidates: np.ndarray,
    candidate_offsets: np.ndarray,
    same: bool,
    local: np.ndarray,
    held: Rows,
    row_terms: np.ndarray,
    column_terms: np.ndarray,
    log_total: float,
    minimum_count: int,
    normalised: bool,
    positive: bool,
    scale: float,
) -> np.ndarray:
    """[candidates] int64: scale times the sum of PMI over each example's features with own rows."""
    place = held.place
    sums = np.zeros(len(candidates), np.int64)
    for example in range(len(offsets) - 1):
        first, last = candidate_offsets[example], candidate_offsets[example + 1]
        for j in range(offsets[example], offsets[example + 1]):
            feature = features[j]
            row = local[feature]
            if row == len(place):
                continue
            for k in range(first, last):
                if same and j == k:
                    continue
                count = find(row, candidates[k], held)
                if count < minimum_count or count == 0:
                    continue
                bits = pointwise(
                    count, row_terms[feature], column_terms[candidates[k]], log_total,
                    normalised, positive,
                )  # fmt: skip
                sums[k] += round(bits * scale)
    return sums

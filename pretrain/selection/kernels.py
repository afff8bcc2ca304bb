"""Inner loops of the selector, compiled by numba. They hold no lock of the interpreter while they
run, so a thread in them does not slow the training step.

A *feature* is a row of the table, a *unit* a column. Rows that a rank holds are stored whole
(`place[row] >= 0` numbers a line of `dense`) or as the columns that occur (`cols` and `counts`
from `start[row]` on, `length[row]` of them).
"""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit

compiled = njit(cache=True, nogil=True, boundscheck=False)

SMALL = 1 << 16  # counts below this are looked up rather than computed


@compiled
def span(
    position: int, document: int, offsets: np.ndarray, before: int, after: int
) -> tuple[int, int]:
    """First and one past the last position of the units of the feature at `position`."""
    # A unit has features from `before` positions ahead of it to `after` positions behind it, so
    # a feature has units from `after` positions ahead of it to `before` positions behind it.
    first = max(offsets[document], position - after)
    last = min(offsets[document + 1], position + before + 1)
    return first, last


@compiled
def marginals(
    source: np.ndarray,
    offsets: np.ndarray,
    target: np.ndarray,
    target_offsets: np.ndarray,
    same: bool,
    before: int,
    after: int,
    rows: np.ndarray,
    columns: np.ndarray,
) -> int:
    """Add how many pairs each feature and each unit is in; returns the number of pairs."""
    total = 0
    for document in range(len(offsets) - 1):
        if not same:
            width = target_offsets[document + 1] - target_offsets[document]
            length = offsets[document + 1] - offsets[document]
            for position in range(offsets[document], offsets[document + 1]):
                rows[source[position]] += width
            for position in range(target_offsets[document], target_offsets[document + 1]):
                columns[target[position]] += length
            total += width * length
            continue
        for position in range(offsets[document], offsets[document + 1]):
            first, last = span(position, document, offsets, before, after)
            rows[source[position]] += last - first - 1
            total += last - first - 1
            first, last = span(position, document, offsets, after, before)
            columns[source[position]] += last - first - 1
    return total


@compiled
def distinct(tokens: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each document's distinct tokens in rising order."""
    kept = np.empty_like(tokens)
    bounds = np.zeros_like(offsets)
    n = 0
    for document in range(len(offsets) - 1):
        ordered = np.sort(tokens[offsets[document] : offsets[document + 1]])
        for i in range(len(ordered)):
            if i == 0 or ordered[i] != ordered[i - 1]:
                kept[n] = ordered[i]
                n += 1
        bounds[document + 1] = n
    return kept[:n].copy(), bounds


@compiled
def group_positions(
    source: np.ndarray, local: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of each own row, by counting sort: row r has positions[bounds[r]:bounds[r + 1]].

    `local` numbers the own row of each feature; `rows` stands for a feature of another rank.
    """
    fill = np.zeros(rows + 2, np.int64)
    for position in range(len(source)):
        fill[local[source[position]] + 1] += 1
    for row in range(rows + 1):
        fill[row + 1] += fill[row]
    bounds = fill[: rows + 1].copy()
    positions = np.empty(len(source), np.int32)
    for position in range(len(source)):
        row = local[source[position]]
        positions[fill[row]] = position
        fill[row] += 1
    return bounds, positions


@compiled
def document_numbers(offsets: np.ndarray) -> np.ndarray:
    """[tokens] int32 document of each position."""
    numbers = np.empty(offsets[-1], np.int32)
    for document in range(len(offsets) - 1):
        for position in range(offsets[document], offsets[document + 1]):
            numbers[position] = document
    return numbers


@compiled
def add_pairs(
    bounds: np.ndarray,
    positions: np.ndarray,
    documents: np.ndarray,
    offsets: np.ndarray,
    target: np.ndarray,
    target_offsets: np.ndarray,
    same: bool,
    before: int,
    after: int,
    place: np.ndarray,
    dense: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    cols: np.ndarray,
    counts: np.ndarray,
    columns: int,
) -> int:
    """Add the pairs of all own rows to the table; returns how many there were."""
    where = np.zeros(columns, np.int32)  # 1 + place of each column in the row at hand
    total = 0
    for row in range(len(bounds) - 1):
        if bounds[row] == bounds[row + 1]:
            continue
        whole = place[row] >= 0
        line = dense[max(place[row], 0)]
        base = start[row]
        filled = length[row]
        if not whole:
            for k in range(filled):
                where[cols[base + k]] = k + 1
        for k in range(bounds[row], bounds[row + 1]):
            position = positions[k]
            document = documents[position]
            if same:
                first, last = span(position, document, offsets, before, after)
                skip = position
            else:
                first, last = target_offsets[document], target_offsets[document + 1]
                skip = last
            total += last - first - (1 if same else 0)
            if whole:
                for j in range(first, skip):
                    line[target[j]] += 1
                for j in range(skip + 1, last):
                    line[target[j]] += 1
                continue
            for j in range(first, last):
                if j == skip:
                    continue
                column = target[j]
                known = where[column]
                if known == 0:
                    cols[base + filled] = column
                    counts[base + filled] = 1
                    filled += 1
                    where[column] = filled
                else:
                    counts[base + known - 1] += 1
        if not whole:
            for k in range(filled):
                where[cols[base + k]] = 0
            length[row] = filled
    return total


@compiled
def sort_rows(
    start: np.ndarray, length: np.ndarray, cols: np.ndarray, counts: np.ndarray, columns: int
) -> None:
    """Put the columns of every sparse row into rising order, in place."""
    value = np.zeros(columns, np.int64)
    for row in range(len(length)):
        base, filled = start[row], length[row]
        if filled > columns // 16:
            # A look at every column is cheaper than a sort.
            for k in range(filled):
                value[cols[base + k]] = counts[base + k]
            k = 0
            for column in range(columns):
                if value[column]:
                    cols[base + k] = column
                    counts[base + k] = value[column]
                    value[column] = 0
                    k += 1
        elif filled > 1:
            order = np.argsort(cols[base : base + filled])
            some_cols = cols[base : base + filled][order]
            some_counts = counts[base : base + filled][order]
            cols[base : base + filled] = some_cols
            counts[base : base + filled] = some_counts


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
def copy_cells(
    new_start: np.ndarray,
    new_cols: np.ndarray,
    new_counts: np.ndarray,
    place: np.ndarray,
    dense: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    cols: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Write every cell of a table with ordered rows into sparse rows without gaps."""
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
def add_cells(
    more_start: np.ndarray,
    more_cols: np.ndarray,
    more_counts: np.ndarray,
    place: np.ndarray,
    dense: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    cols: np.ndarray,
    counts: np.ndarray,
    columns: int,
) -> None:
    """Add sparse rows without gaps to the rows of a table that has room for them."""
    where = np.zeros(columns, np.int32)
    for row in range(len(place)):
        if place[row] >= 0:
            line = dense[place[row]]
            for k in range(more_start[row], more_start[row + 1]):
                line[more_cols[k]] += more_counts[k]
            continue
        base, filled = start[row], length[row]
        for k in range(filled):
            where[cols[base + k]] = k + 1
        for k in range(more_start[row], more_start[row + 1]):
            known = where[more_cols[k]]
            if known == 0:
                cols[base + filled] = more_cols[k]
                counts[base + filled] = more_counts[k]
                filled += 1
                where[more_cols[k]] = filled
            else:
                counts[base + known - 1] += more_counts[k]
        for k in range(filled):
            where[cols[base + k]] = 0
        length[row] = filled


@compiled
def find(
    row: int,
    column: int,
    place: np.ndarray,
    dense: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    cols: np.ndarray,
    counts: np.ndarray,
) -> int:
    """The count of one cell; sparse rows must be in order."""
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
def spectrum(
    place: np.ndarray,
    dense: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    cols: np.ndarray,
    counts: np.ndarray,
    row_groups: np.ndarray,
    width: int,
    small: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """How many cells have each count, for each group of rows and of `width` columns.

    Counts below small.shape[2] go into `small` [row groups, column groups, count]; of the others
    the group (row group times column groups, plus column group) and the count are returned.
    """
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
def deal_out(
    work: np.ndarray, size: np.ndarray, order: np.ndarray, ranks: int, room: int
) -> np.ndarray:
    """Owner of each row of `order`; see :func:`pretrain.selection.plan.assign_rows`."""
    owners = np.zeros(len(work), np.int32)
    held = np.zeros(ranks, np.int64)
    heap = [(np.int64(0), np.int64(0), np.int64(rank)) for rank in range(ranks)]
    for row in order:
        full = [(np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)]
        chosen = np.int64(-1)
        load = np.int64(0)
        while len(heap) > 0:
            load, _, rank = heapq.heappop(heap)
            if held[rank] + size[row] <= room:
                chosen = rank
                break
            full.append((load, held[rank], rank))
        if chosen < 0:
            # It fits nowhere: to the rank that holds least.
            best = 0
            for k in range(len(full)):
                if full[k][1:] < full[best][1:]:
                    best = k
            load, _, chosen = full.pop(best)
        held[chosen] += size[row]
        owners[row] = chosen
        heapq.heappush(heap, (load + work[row], held[chosen], chosen))
        for entry in full:
            heapq.heappush(heap, entry)
    return owners


@compiled
def c_log_c(count: int, scale: float) -> int:
    """count * log2(count), rounded to a whole multiple of 1 / scale; 0 for 0."""
    return 0 if count == 0 else round(count * np.log2(count) * scale)


@compiled
def presence_information(
    place: np.ndarray,
    dense: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    cols: np.ndarray,
    counts: np.ndarray,
    row_documents: np.ndarray,
    column_documents: np.ndarray,
    documents: int,
    scale: float,
    best: np.ndarray,
) -> np.ndarray:
    """documents * scale * I(feature present; unit present), summed over own rows: [columns] int64.

    Keeps the largest of each unit in `best` [columns, k] int64, falling.
    """
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
    """PMI of one cell in bits; see :mod:`pretrain.selection.pointwise`."""
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
    place: np.ndarray,
    dense: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    cols: np.ndarray,
    counts: np.ndarray,
    row_terms: np.ndarray,
    column_terms: np.ndarray,
    log_total: float,
    minimum_count: int,
    normalised: bool,
    positive: bool,
    scale: float,
) -> np.ndarray:
    """[candidates] int64: scale times the sum of PMI over each example's features with own rows."""
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
                count = find(row, candidates[k], place, dense, start, length, cols, counts)
                if count < minimum_count or count == 0:
                    continue
                bits = pointwise(
                    count, row_terms[feature], column_terms[candidates[k]], log_total,
                    normalised, positive,
                )  # fmt: skip
                sums[k] += round(bits * scale)
    return sums


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

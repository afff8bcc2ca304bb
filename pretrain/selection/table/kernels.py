"""Inner loops of the selector, compiled by numba. They hold no lock of the interpreter while they
run, so a thread in them does not slow the training step.

A *feature* is a row of the table, a *unit* a column. Rows that a rank holds are stored whole
(`place[row] >= 0` numbers a line of `dense`) or as the columns that occur, rising (`cols` and
`counts` from `start[row]` on, `length[row]` of them).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

compiled = njit(cache=True, nogil=True, boundscheck=False)


class Rows(NamedTuple):
    """The arrays of a table's rows: [rows] place, [lines, columns] dense, [rows + 1] start, [rows]
    length, and the cells' cols and counts."""

    place: np.ndarray
    dense: np.ndarray
    start: np.ndarray
    length: np.ndarray
    cols: np.ndarray
    counts: np.ndarray


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
def group_by_row(
    source: np.ndarray,
    offsets: np.ndarray,
    unit_offsets: np.ndarray,
    same: bool,
    before: int,
    after: int,
    local: np.ndarray,
    rows: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Where each own row's features stand and where their units are, by counting sort.

    `local` numbers the own row of each feature; `rows` stands for a feature of another rank. Row r
    has places bounds[r] to bounds[r + 1] - 1, each (position, first, last): the feature's, and that
    of its first unit and one past its last.
    """
    own = np.empty(len(source) + 1, np.int32)
    n = 0
    for position in range(len(source)):
        own[n] = position
        n += int(local[source[position]] < rows)
    fill = np.zeros(rows + 1, np.int64)
    for k in range(n):
        fill[local[source[own[k]]] + 1] += 1
    for row in range(rows):
        fill[row + 1] += fill[row]
    bounds = fill.copy()
    places = np.empty((n, 3), np.int32)
    document = 0
    for k in range(n):
        position = own[k]
        while position >= offsets[document + 1]:
            document += 1
        row = local[source[position]]
        at = fill[row]
        fill[row] += 1
        if same:
            first, last = span(position, document, offsets, before, after)
        else:
            first, last = unit_offsets[document], unit_offsets[document + 1]
        places[at, 0] = position
        places[at, 1] = first
        places[at, 2] = last
    return bounds, places


@compiled
def tally(line: np.ndarray, units: np.ndarray, first: int, last: int) -> None:
    """Add one to the place of each unit from `first` to `last`, eight at a time."""
    one = np.uint16(1)
    j = first
    while j + 8 <= last:
        line[units[j]] += one
        line[units[j + 1]] += one
        line[units[j + 2]] += one
        line[units[j + 3]] += one
        line[units[j + 4]] += one
        line[units[j + 5]] += one
        line[units[j + 6]] += one
        line[units[j + 7]] += one
        j += 8
    while j < last:
        line[units[j]] += one
        j += 1


@compiled
def take(words: np.ndarray, cols: np.ndarray, counts: np.ndarray) -> int:
    """Move the counts of a line, seen as four to a 64-bit word, to `cols` and `counts` in rising
    order, and leave the line empty. Returns how many there were; writes up to 4 places more."""
    n = 0
    none, mask, bits = np.uint64(0), np.uint64(0xFFFF), np.uint64(16)
    for index in range(len(words)):
        word = words[index]
        if word == none:
            continue
        words[index] = none
        for column in range(4 * index, 4 * index + 4):
            count = int(word & mask)
            cols[n] = column
            counts[n] = count
            n += int(count != 0)
            word >>= bits
    return n


@compiled
def take_sorted(units: np.ndarray, cols: np.ndarray, counts: np.ndarray) -> int:
    """Count equal units, of which there are few, into `cols` and `counts` in rising order."""
    if len(units) <= 32:
        for i in range(1, len(units)):
            unit = units[i]
            j = i
            while j > 0 and units[j - 1] > unit:
                units[j] = units[j - 1]
                j -= 1
            units[j] = unit
    else:
        units.sort()
    n = 0
    for i in range(len(units)):
        if i > 0 and units[i] == units[i - 1]:
            counts[n - 1] += 1
            continue
        cols[n] = units[i]
        counts[n] = 1
        n += 1
    return n


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
def add_pairs(
    bounds: np.ndarray,
    places: np.ndarray,
    units: np.ndarray,
    same: bool,
    held: Rows,
    columns: int,
    room: np.ndarray,
    packed: bool,
) -> int:
    """Add the pairs of all own rows to the table; returns how many there were, or -1 if a row has
    no room for them.

    With `same`, a feature is no unit of its own position. With `packed`, which takes an empty
    table, sparse rows are written one after the other and `start` says where.

    Row by row, into a line of 16-bit counts that stays in the processor's cache; what has been
    counted goes to the row when the line could overflow, and at the row's end. A row with few
    pairs is sorted instead, since a look at every column would cost more.
    """
    place, _, start, length, cols, counts = held
    words = np.zeros(columns // 4 + 1, np.uint64)
    line = words.view(np.uint16)
    some_cols = np.empty(columns + 8, np.int32)
    some_counts = np.empty(columns + 8, np.int64)
    few = columns // 128
    buffer = np.empty(few, units.dtype)
    limit = 65535
    total = 0
    for row in range(len(bounds) - 1):
        if packed:
            start[row] = 0 if row == 0 else start[row - 1] + length[row - 1]
        begin, stop = bounds[row], bounds[row + 1]
        if begin == stop:
            continue
        end = len(cols) if packed else room[row + 1]
        pairs = 0
        for k in range(begin, min(stop, begin + few + 1)):
            pairs += places[k, 2] - places[k, 1] - int(same)
        if pairs <= few and stop - begin <= few:
            n = 0
            for k in range(begin, stop):
                for j in range(places[k, 1], places[k, 2]):
                    if not same or j != places[k, 0]:
                        buffer[n] = units[j]
                        n += 1
            n = take_sorted(buffer[:n], some_cols, some_counts)
            if not add_to_row(row, some_cols, some_counts, n, held, end):
                return -1
            total += pairs
            continue
        own = int(units[places[begin, 0]]) if same else 0
        selves = since = 0
        for k in range(begin, stop):
            position, first, last = places[k, 0], places[k, 1], places[k, 2]
            total += last - first - int(same)
            # A position is no unit of its own; taking it away later keeps the loop simple.
            if since + last - first < limit:
                tally(line, units, first, last)
                since += last - first
                selves += 1
                continue
            while first < last:
                until = min(last, first + limit - since)
                tally(line, units, first, until)
                since += until - first
                selves += int(first <= position < until)
                first = until
                if since == limit:
                    if same:
                        line[own] -= np.uint16(selves)
                    n = take(words, some_cols, some_counts)
                    if not add_to_row(
                        row, some_cols, some_counts, n, held, end
                    ):  # fmt: skip
                        return -1
                    selves = since = 0
        if same:
            line[own] -= np.uint16(selves)
        base = start[row]
        if packed and place[row] < 0 and length[row] == 0 and base + columns + 8 <= len(cols):
            # What is written too much is written over by the next row.
            length[row] = take(words, cols[base:], counts[base:])
            continue
        n = take(words, some_cols, some_counts)
        if not add_to_row(row, some_cols, some_counts, n, held, end):
            return -1
    if packed and len(length) > 0:
        start[len(length)] = start[len(length) - 1] + length[len(length) - 1]
    return total


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
def deal_out(
    work: np.ndarray, size: np.ndarray, order: np.ndarray, ranks: int, room: int
) -> np.ndarray:
    """Owner of each row of `order`; see :func:`pretrain.selection.table.sharding.assign_rows`."""
    owners = np.zeros(len(work), np.int32)
    load = np.zeros(ranks, np.int64)
    held = np.zeros(ranks, np.int64)
    for row in order:
        chosen = -1
        for rank in range(ranks):
            if held[rank] + size[row] > room:
                continue
            if (
                chosen < 0
                or load[rank] < load[chosen]
                or (load[rank] == load[chosen] and held[rank] < held[chosen])
            ):
                chosen = rank
        if chosen < 0:
            # It fits nowhere: to the rank that holds least.
            chosen = int(np.argmin(held))
        load[chosen] += work[row]
        held[chosen] += size[row]
        owners[row] = chosen
    return owners


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

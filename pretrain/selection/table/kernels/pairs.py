"""Pairs of the features and units of documents: how many there are, and counting them into rows."""

from __future__ import annotations

import numpy as np

from pretrain.compiled import compiled
from pretrain.selection.table.kernels.rows import Rows, add_to_row


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
def gather(units: np.ndarray, places: np.ndarray, same: bool, buffer: np.ndarray) -> int:
    """Write the units of these places into `buffer`; returns how many there are, or -1 if they or
    their places are more than it holds."""
    if len(places) > len(buffer):
        return -1
    n = 0
    for k in range(len(places)):
        if n + places[k, 2] - places[k, 1] - int(same) > len(buffer):
            return -1
        for j in range(places[k, 1], places[k, 2]):
            if not same or j != places[k, 0]:
                buffer[n] = units[j]
                n += 1
    return n


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
    buffer = np.empty(columns // 128, units.dtype)
    limit = 65535
    total = 0
    for row in range(len(bounds) - 1):
        if packed:
            start[row] = 0 if row == 0 else start[row - 1] + length[row - 1]
        begin, stop = bounds[row], bounds[row + 1]
        if begin == stop:
            continue
        end = len(cols) if packed else room[row + 1]
        pairs = gather(units, places[begin:stop], same, buffer)
        if pairs >= 0:
            n = take_sorted(buffer[:pairs], some_cols, some_counts)
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
                    if not add_to_row(row, some_cols, some_counts, n, held, end):
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

"""The rows of one rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.ragged import Examples
from pretrain.selection.table import kernels

NO_ROOM = (
    "a row of the table has no room for its pairs: these are not the examples that it was made "
    "for; a stream must yield the same examples each time"
)


@dataclass
class Table:
    """Counts of some rows, each stored whole or as the columns that occur.

    Attributes:
        columns: width.
        place: [rows] int64 line of `dense` that holds the row; -1 for a sparse row.
        dense: [whole rows (at least 1), columns] int64.
        room: [rows + 1] int64 where the room of each sparse row begins in `cols` and `counts`.
        start: [rows + 1] int64 where each sparse row begins: at its room, or packed, one row after
            the other.
        length: [rows] int64 columns that occur in a sparse row.
        cols: int32, counts: int64; a row's columns rise.
    """

    columns: int
    place: np.ndarray
    dense: np.ndarray
    room: np.ndarray
    start: np.ndarray
    length: np.ndarray
    cols: np.ndarray
    counts: np.ndarray

    @classmethod
    def empty(cls, whole: np.ndarray, capacity: np.ndarray, columns: int) -> Table:
        """A table with room for [rows] `capacity` columns; `whole` rows are stored whole."""
        place = np.where(whole, np.cumsum(whole) - 1, -1).astype(np.int64)
        room = np.where(whole, 0, capacity)
        begins = np.concatenate([[0], np.cumsum(room)]).astype(np.int64)
        return cls(
            columns,
            place,
            np.zeros((max(1, int(whole.sum())), columns), dtype=np.int64),
            begins,
            begins.copy(),
            np.zeros(len(whole), dtype=np.int64),
            np.empty(begins[-1], dtype=np.int32),
            np.empty(begins[-1], dtype=np.int64),
        )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.place)

    @property
    def bytes(self) -> int:
        """Bytes of all counts and columns."""
        dense = self.dense.nbytes if (self.place >= 0).any() else 0
        return int(dense + self.cols.nbytes + self.counts.nbytes)

    @property
    def arrays(self) -> kernels.Rows:
        """What the compiled loops take."""
        return kernels.Rows(self.place, self.dense, self.start, self.length, self.cols, self.counts)

    def add(self, examples: Examples, local: np.ndarray, before: int, after: int) -> int:
        """Add the pairs of this table's rows; returns how many there were.

        Args:
            examples: what is counted.
            local: [features] int32 row of each feature; `rows` where it has none here.
            before, after: see :class:`pretrain.selection.table.counts.Pairs`.

        Raises:
            ValueError: a row has no room for its pairs.
        """
        source = examples.source
        packed = not self.length.any()
        if not packed:
            self._spread()
        target = source if examples.target is None else examples.target
        same = examples.target is None
        grouped = kernels.group_by_row(
            source.tokens, source.offsets, target.offsets, same, before, after, local, self.rows
        )
        units = target.tokens.astype(np.uint16 if self.columns <= 1 << 16 else np.uint32)
        added = kernels.add_pairs(
            *grouped, units, same, self.arrays, self.columns, self.room, packed
        )
        if added < 0:
            raise ValueError(NO_ROOM)
        return int(added)

    def _spread(self) -> None:
        if not np.array_equal(self.start, self.room):
            kernels.spread(self.start, self.room, self.length, self.cols, self.counts)
            self.start = self.room.copy()

    def add_cells(self, start: np.ndarray, cols: np.ndarray, counts: np.ndarray) -> None:
        """Add the cells of another table of the same rows, given as sparse rows without gaps.

        Raises:
            ValueError: a row has no room for them.
        """
        self._spread()
        if not kernels.add_cells(start, cols, counts, self.arrays, self.room):
            raise ValueError(NO_ROOM)

    def settle(self) -> None:
        """Pack the sparse rows, and give back the room that they do not need."""
        used = int(self.length.sum())
        if self.start[-1] != used:
            self.start = kernels.close_gaps(self.start, self.length, self.cols, self.counts)
        if len(self.cols) != used:
            for array in (self.cols, self.counts):
                array.resize(used, refcheck=False)
        self.room = self.start.copy()

    def cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All cells as sparse rows without gaps, columns rising: start [rows + 1], cols, counts."""
        lines = np.flatnonzero(self.place >= 0)
        lengths = self.length.copy()
        lengths[lines] = np.count_nonzero(self.dense[self.place[lines]], axis=1)
        start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        cols = np.empty(start[-1], dtype=np.int32)
        counts = np.empty(start[-1], dtype=np.int64)
        kernels.copy_cells(start, cols, counts, self.arrays)
        return start, cols, counts

    def grown(self, whole: np.ndarray, capacity: np.ndarray) -> Table:
        """The same counts in a table with room for `capacity` columns."""
        table = Table.empty(whole, capacity, self.columns)
        table.add_cells(*self.cells())
        return table

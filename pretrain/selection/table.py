"""The rows of one rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.selection import kernels
from pretrain.selection.documents import Examples

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass
class Table:
    """Counts of some rows, each stored whole or as the columns that occur.

    Attributes:
        columns: width.
        place: [rows] int64 line of `dense` that holds the row; -1 for a sparse row.
        dense: [whole rows (at least 1), columns] int64.
        start: [rows + 1] int64 where a sparse row begins in `cols` and `counts`, and its room ends.
        length: [rows] int64 columns that occur in a sparse row.
        cols: int32, counts: int64.
        ordered: whether the columns of every sparse row stand in rising order.
    """

    columns: int
    place: np.ndarray
    dense: np.ndarray
    start: np.ndarray
    length: np.ndarray
    cols: np.ndarray
    counts: np.ndarray
    ordered: bool = True

    @classmethod
    def empty(cls, whole: np.ndarray, capacity: np.ndarray, columns: int) -> Table:
        """A table with room for [rows] `capacity` columns; `whole` rows are stored whole."""
        place = np.where(whole, np.cumsum(whole) - 1, -1).astype(np.int64)
        room = np.where(whole, 0, capacity)
        start = np.concatenate([[0], np.cumsum(room)]).astype(np.int64)
        return cls(
            columns,
            place,
            np.zeros((max(1, int(whole.sum())), columns), dtype=np.int64),
            start,
            np.zeros(len(whole), dtype=np.int64),
            np.empty(start[-1], dtype=np.int32),
            np.empty(start[-1], dtype=np.int64),
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
    def arrays(self) -> Arrays:
        """What the compiled loops take."""
        return self.place, self.dense, self.start, self.length, self.cols, self.counts

    def add(self, examples: Examples, local: np.ndarray, before: int, after: int) -> int:
        """Add the pairs of this table's rows; returns how many there were.

        Args:
            examples: what is counted.
            local: [features] int32 row of each feature; `rows` where it has none here.
            before, after: see :class:`pretrain.selection.counts.Pairs`.
        """
        source = examples.source
        bounds, positions = kernels.group_positions(source.tokens, local, self.rows)
        target = source if examples.target is None else examples.target
        self.ordered = False
        return int(
            kernels.add_pairs(
                bounds,
                positions,
                kernels.document_numbers(source.offsets),
                source.offsets,
                target.tokens,
                target.offsets,
                examples.target is None,
                before,
                after,
                *self.arrays,
                self.columns,
            )
        )

    def add_cells(self, start: np.ndarray, cols: np.ndarray, counts: np.ndarray) -> None:
        """Add the cells of another table of the same rows, given as sparse rows without gaps.

        Raises:
            ValueError: a row has no room for them.
        """
        needed = np.minimum(self.length + np.diff(start), self.columns)
        if np.any((needed > np.diff(self.start)) & (self.place < 0)):
            raise ValueError("the table has no room for the cells that are to be added")
        kernels.add_cells(start, cols, counts, *self.arrays, self.columns)
        self.ordered = False

    def settle(self) -> None:
        """Put the sparse rows in order and give back the room that they do not need."""
        if self.ordered:
            return
        kernels.sort_rows(self.start, self.length, self.cols, self.counts, self.columns)
        self.start = kernels.close_gaps(self.start, self.length, self.cols, self.counts)
        for array in (self.cols, self.counts):
            array.resize(int(self.start[-1]), refcheck=False)
        self.ordered = True

    def cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All cells as sparse rows without gaps, columns rising: start [rows + 1], cols, counts."""
        self.settle()
        lines = np.flatnonzero(self.place >= 0)
        lengths = self.length.copy()
        lengths[lines] = np.count_nonzero(self.dense[self.place[lines]], axis=1)
        start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        cols = np.empty(start[-1], dtype=np.int32)
        counts = np.empty(start[-1], dtype=np.int64)
        kernels.copy_cells(start, cols, counts, *self.arrays)
        return start, cols, counts

    def grown(self, whole: np.ndarray, capacity: np.ndarray) -> Table:
        """The same counts in a table with room for `capacity` columns."""
        table = Table.empty(whole, capacity, self.columns)
        table.add_cells(*self.cells())
        return table

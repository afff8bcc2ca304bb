"""Held-out text cut into windows, and which of its labels a sentence's plan can touch.

A window is predicted without what stands before it. With documents that do not see each other, the
pieces of different documents in a window are apart, too: the likelihood of the text is a product
over such *units*. The plan of a sentence that stands whole in a window touches one unit; that of a
sentence which is cut by a window's edge touches two or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.ragged import Documents


@dataclass(frozen=True)
class Windows:
    """n windows of s labels each; arrays [n, s] int64.

    Attributes:
        tokens: inputs, filled up with padding.
        labels: the token after each.
        kinds: of labels (:mod:`pretrain.tasks.text.scores`); -1 where there is none.
        cells: number of the cell that each label is in: a sentence's labels in one unit; -1 where
            there is none. What ends a document counts as the last sentence's.
        cell_units: [cells] unit of each.
        cell_sentences: [cells] sentence of each.
        open_in: [sentences] unit that all of a sentence lies in; -1 where it is cut by an edge, or
            empty.
    """

    tokens: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    cells: np.ndarray
    cell_units: np.ndarray
    cell_sentences: np.ndarray
    open_in: np.ndarray

    @classmethod
    def of(
        cls,
        planned: Documents,
        kinds: np.ndarray,
        documents: np.ndarray,
        length: int,
        end_id: int,
        pad_id: int,
        apart: bool = True,
    ) -> Windows:
        """Cut laid-out sentences (:func:`pretrain.tasks.text.data.lay_out`).

        Args:
            planned: the sentences, at least one of them in a document.
            kinds: of its tokens.
            documents: [sentences] document of each.
            length: s.
            end_id: stands where documents begin.
            apart: whether documents do not see each other.
        """
        # The last document ends, too; the first label is that of the first `<end>`.
        stream = np.append(planned.tokens, end_id).astype(np.int64)
        sentence = np.append(np.repeat(np.arange(len(planned)), planned.lengths), len(planned))
        inputs, labels = stream[:-1], stream[1:]
        owner = np.maximum(sentence[1:] - (labels == end_id), 0)
        window = np.arange(len(labels)) // length
        pieces = documents[owner] if apart else np.zeros_like(owner)
        unit = _numbered(window, pieces)
        cell = _numbered(unit, owner)
        first = np.flatnonzero(np.diff(cell, prepend=-1))
        # A plan stands one place behind the sentence's opening mark, and is its input's label.
        some = np.flatnonzero(planned.lengths)
        opening = planned.offsets[some] + (planned.tokens[planned.offsets[some]] == end_id)
        last = planned.offsets[some + 1] - 1
        whole = (opening <= last) & (opening // length == last // length)
        open_in = np.full(len(planned), -1, dtype=np.int64)
        open_in[some[whole]] = unit[opening[whole]]
        count = -(-len(labels) // length)
        return cls(
            _rows(inputs, count, length, pad_id),
            _rows(labels, count, length, pad_id),
            _rows(np.append(kinds[1:], kinds[0]), count, length, -1),
            _rows(cell, count, length, -1),
            unit[first],
            owner[first],
            open_in,
        )

    @property
    def units(self) -> int:
        """How many there are."""
        return int(self.cell_units[-1]) + 1 if len(self.cell_units) else 0


def _numbered(*columns: np.ndarray) -> np.ndarray:
    """[n] number of the run of equal values in all columns that each place is in."""
    changes = np.zeros(len(columns[0]), dtype=bool)
    for column in columns:
        changes[1:] |= column[1:] != column[:-1]
    return np.cumsum(changes)


def _rows(values: np.ndarray, count: int, length: int, fill: int) -> np.ndarray:
    """[n] cut into [count, length], the rest filled."""
    rows = np.full(count * length, fill, dtype=np.int64)
    rows[: len(values)] = values
    return rows.reshape(count, length)

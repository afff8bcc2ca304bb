"""Sequences cut from packed text, with the selected token in front of each sentence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pretrain.data.batch import Rows, Sampler
from pretrain.selection.orders.transforms import ROOM, Insert, Keep
from pretrain.tasks.text.data import Sentences, lay_out, ranges
from pretrain.tasks.text.selection import Chooser
from pretrain.tasks.text.token_scores import FIELDS, TokenScores


class PackedBatches:
    """Sequences of consecutive sentences, each with its selected token in front of it. Every
    position counts in the loss.

    A sentence takes the same room whichever token is selected, so where a sequence begins is known
    without a score, and only the sentences of a step's own sequences are scored. A sentence that
    stays as it is leaves the room of what would be inserted empty: the sequence is that much
    shorter, and ends in padding that does not count.

    Args:
        text: the training text; every reader has all of it.
        transform: how it is inserted.
        end_id: parts documents.
        sampler: which sequences a step sees.
        selection_at: step -> chooser of tokens; called on every rank for each step once, in order.
        rank, ranks: this reader among the readers.
        length: positions of the model.
        document_mask: whether documents are kept apart.
        scores: makes what the objective asks of each token; None where it asks nothing.
        pad_id: fills what is left empty.
    """

    fields: tuple[str, ...] = FIELDS

    def __init__(
        self,
        text: Sentences,
        transform: Insert | Keep,
        end_id: int,
        sampler: Sampler,
        selection_at: Callable[[int], Chooser],
        rank: int,
        ranks: int,
        length: int,
        document_mask: bool = True,
        scores: TokenScores | None = None,
        pad_id: int = 0,
    ) -> None:
        self.text = text
        self.transform = transform
        self.end_id = end_id
        self.sampler = sampler
        self.selection_at = selection_at
        self.rank = rank
        self.ranks = ranks
        self.length = length
        self.pad_id = pad_id
        self.document_mask = document_mask
        self.scores = scores
        self.packed = text.packed(transform, length)

    def read(self, step: int, selector: Chooser) -> Rows:
        """This reader's share of a step; with `document_mask`, also where documents begin."""
        begins = self.sampler.indices(step, self.rank, self.ranks) * self.length
        rows = self._rows(begins, selector, step).astype(np.int64)
        empty = rows == ROOM
        if empty.any():
            rows = np.take_along_axis(rows, np.argsort(empty, axis=1, kind="stable"), axis=1)
            empty = rows == ROOM
            rows[empty] = self.pad_id
        tokens, labels = rows[:, :-1], rows[:, 1:]
        mask = (~empty[:, 1:]).astype(np.float32)
        starts = tokens == self.end_id if self.document_mask else None
        fields = {}
        if self.scores is not None:
            assert selector.scorer is not None
            fields = self.scores(rows, starts, selector.scorer)
        return Rows(tokens, labels, mask, starts, fields)

    def _rows(self, begins: np.ndarray, chooser: Chooser, step: int) -> np.ndarray:
        """[n, length + 1] tokens of the stream from these positions on."""
        if isinstance(self.transform, Keep):
            return self.packed.cut(begins, self.length + 1, self.end_id)
        first = self.packed.at(begins)
        last = self.packed.at(begins + self.length) + 1
        numbers = ranges(first, last)
        if chooser.drawn:
            epochs = self.sampler.epochs(step, self.rank, self.ranks)
            chosen = chooser(self.text, numbers, np.repeat(epochs, last - first))
        else:
            chosen = chooser.best(self.text, numbers)
        planned = lay_out(self.text, numbers, chosen, self.transform, self.end_id)
        sequence = np.cumsum([0, *(last - first)])[:-1]
        at = planned.offsets[sequence] + begins - self.packed.starts(first)
        return planned.tokens[at[:, None] + np.arange(self.length + 1)]

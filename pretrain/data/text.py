"""Text as packed sequences, with one selected token in front of each sentence."""

from __future__ import annotations

from typing import Any

import numpy as np

from pretrain.data.batches import Sampler
from pretrain.selection.documents import Documents, concatenate
from pretrain.selection.pointwise import Scorer
from pretrain.selection.strategies import choose_candidates
from pretrain.selection.transforms import Insert


class PlannedText:
    """Sequences of consecutive sentences, each with the token that its other tokens tell most
    about in front of it. Every position counts in the loss.

    Sentence i takes the same room whichever token is selected, so where a sequence begins is known
    without a score, and only the sentences of a step's own sequences are scored.

    Args:
        sentences: the training text; every reader has all of it.
        scorer: shared by all readers.
        insert: the marks.
        sampler: which sequences a step sees.
        rank, ranks: this reader among the readers.
        length: positions of the model.
        tie_bits: see :func:`pretrain.selection.strategies.choose_candidates`.
    """

    def __init__(
        self,
        sentences: Documents,
        scorer: Scorer,
        insert: Insert,
        sampler: Sampler,
        rank: int,
        ranks: int,
        length: int,
        tie_bits: float = 0.005,
    ) -> None:
        self.sentences = sentences
        self.scorer = scorer
        self.insert = insert
        self.sampler = sampler
        self.rank = rank
        self.ranks = ranks
        self.length = length
        self.tie_bits = tie_bits
        self.starts = _starts(sentences, insert)

    @staticmethod
    def sequences(sentences: Documents, insert: Insert, length: int) -> int:
        """Whole sequences of `length` positions and their labels that a text has."""
        return max(0, (int(_starts(sentences, insert)[-1]) - 1) // length)

    def selection_at(self, step: int) -> None:
        """Nothing: each sentence has a selection of its own."""

    def read(self, step: int, selection: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens, labels and loss mask of this reader's share of a step, each [share, length]."""
        begins = self.sampler.indices(step, self.rank, self.ranks) * self.length
        first = np.searchsorted(self.starts, begins, side="right") - 1
        last = np.searchsorted(self.starts, begins + self.length + 1, side="left")
        parts = [self.sentences.between(a, b) for a, b in zip(first, last, strict=True)]
        text = concatenate(parts)
        chosen = choose_candidates(self.scorer(text), text.offsets, self.tie_bits)
        planned = self.insert.apply(text, chosen)
        at = planned.offsets[np.cumsum([0, *map(len, parts)])[:-1]] + begins - self.starts[first]
        rows = planned.tokens[at[:, None] + np.arange(self.length + 1)].astype(np.int64)
        return rows[:, :-1], rows[:, 1:], np.ones((len(rows), self.length), dtype=np.float32)


def _starts(sentences: Documents, insert: Insert) -> np.ndarray:
    """[sentences + 1] where each sentence begins once tokens are inserted."""
    return np.concatenate([[0], np.cumsum(insert.lengths(sentences))])

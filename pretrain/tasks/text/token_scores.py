"""What an objective asks of each token of a text, from counts of the training text."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pretrain.objectives.mi_bag import INFORMATION, PMI
from pretrain.ragged import Documents
from pretrain.selection.estimators.pointwise import Scorer

FIELDS = (INFORMATION, PMI)
"""Fields that batches of text can have."""


@dataclass(frozen=True)
class TokenScores:
    """Fields of a batch: n sequences of s positions, w tokens ahead.

    Attributes:
        names: of the fields that are asked for.
        window: w, tokens ahead of a place and before it.
    """

    names: Collection[str]
    window: int

    def __call__(
        self, rows: np.ndarray, starts: np.ndarray | None, scorer: Scorer
    ) -> dict[str, np.ndarray]:
        """The fields by name; all readers call it together.

        Args:
            rows: [n, s + 1] tokens: the inputs, and the label of the last.
            starts: [n, s] bool, where documents begin that do not see each other; None where each
                sequence is one.
            scorer: of the training text.
        """
        made = {}
        if INFORMATION in self.names:
            made[INFORMATION] = information(rows[:, 1:], scorer)
        if PMI in self.names:
            made[PMI] = self._pmi(rows, starts, scorer)
        return made

    def _pmi(self, rows: np.ndarray, starts: np.ndarray | None, scorer: Scorer) -> np.ndarray:
        """[n, s, w] float32 bits: at place i and k, the sum of PMI(c; the label of i + k) over the
        inputs c at i - w + 1 to i of the same document.

        Each pair of tokens is looked up once, and then added to every place between the two.
        """
        n, length, window = len(rows), rows.shape[1] - 1, self.window
        reach = 2 * window - 1
        document = np.zeros((n, length), dtype=np.int64) if starts is None else starts.cumsum(1)
        # Labels 0 to reach - 1 places after each input; the label of an input is of its document.
        labels = _following(rows[:, 1:], reach, 0)
        known = _following(document, reach, -1) == document[:, :, None]
        features = Documents(rows[:, :-1].reshape(-1), np.arange(n * length + 1))
        offsets = np.concatenate([[0], np.cumsum(known.sum(2).reshape(-1))])
        pairs = np.zeros(known.shape)
        pairs[known] = scorer(features, Documents(labels[known], offsets))
        bits = np.zeros((n, length, window))
        for back in range(min(window, length)):
            bits[:, back:] += pairs[:, : length - back, back : back + window]
        return bits.astype(np.float32)


def information(tokens: np.ndarray, scorer: Scorer) -> np.ndarray:
    """-log2 of the share of the counted pairs that each token is the unit of, in bits, float32 of
    the tokens' shape; 0 where it is in none, as `<end>`."""
    bits = np.where(
        scorer.counts.marginals.columns > 0, scorer.log_total - scorer.column_terms, 0.0
    )
    return bits[tokens].astype(np.float32)


def _following(values: np.ndarray, reach: int, fill: int) -> np.ndarray:
    """[n, s] -> [n, s, reach], each value and those after it; `fill` past the end."""
    padded = np.pad(values, ((0, 0), (0, reach - 1)), constant_values=fill)
    return sliding_window_view(padded, reach, axis=1)

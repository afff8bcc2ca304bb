"""One rule by which every model and every baseline decides how many labels a text gets, and how
good their rankings are.

Each gives a score to every label of a text, and the labels above a threshold are its set. The
threshold is the one with the best micro-F1 on a development split, never on the held-out texts.
What a model writes one by one fits in: the score of a label is how far it was ahead of the end
(:class:`pretrain.inference.sets.WrittenSets`), so a threshold t is a bias t on the logit of the
end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.ragged import Documents
from pretrain.tasks.base import Metric

PRECISION_AT = (1, 3, 5)
"""Numbers of labels at which precision is taken."""


def best_threshold(scores: np.ndarray, actual: Documents, lowest: float) -> float:
    """The threshold t with the best micro-F1 of the labels whose score is above t.

    Midway between two scores that follow each other; the highest of equally good ones.

    Args:
        scores: [texts, labels], finite or -inf.
        actual: label numbers of each text.
        lowest: least threshold.
    """
    true = has_label(actual, scores.shape[1])
    kept = scores > lowest
    order = np.argsort(-scores[kept], kind="stable")
    ranked, right = scores[kept][order], np.cumsum(true[kept][order])
    if not len(ranked):
        return lowest
    count = np.arange(1, len(ranked) + 1)
    f1 = 2.0 * right / (count + true.sum())
    below = np.append(ranked[1:], lowest)
    f1[ranked == below] = -1.0  # equal scores are on one side
    best = int(f1.argmax())
    if f1[best] <= 0.0:
        return float(ranked[0])
    middle = (float(ranked[best]) + float(below[best])) / 2
    return middle if middle < ranked[best] else float(below[best])


def above(scores: np.ndarray, threshold: float) -> Documents:
    """Labels of each text whose score is above the threshold."""
    return Documents.of([np.flatnonzero(row > threshold) for row in scores])


def has_label(actual: Documents, labels: int) -> np.ndarray:
    """[texts, labels] bool."""
    found = np.zeros((len(actual), labels), dtype=bool)
    found[np.repeat(np.arange(len(actual)), actual.lengths), actual.tokens] = True
    return found


@dataclass(frozen=True)
class RankingSums:
    """Sums over texts that have a label; of several parts of the data they add up.

    Attributes:
        sums: [precisions, nDCG, coverage, texts] float64.
    """

    sums: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, actual: Documents) -> RankingSums:
        """Labels by falling score, ties by their number.

        Args:
            scores: [texts, labels].
            actual: label numbers of each text.
        """
        some = np.flatnonzero(actual.lengths)
        true = has_label(actual.take(some), scores.shape[1])
        order = np.argsort(-scores[some], axis=1, kind="stable")
        hits = np.take_along_axis(true, order, axis=1)
        gains = 1.0 / np.log2(np.arange(2, hits.shape[1] + 2))
        ideal = np.cumsum(gains)[actual.lengths[some] - 1]
        last = hits.shape[1] - hits[:, ::-1].argmax(axis=1)
        precisions = [hits[:, :k].sum() / k for k in PRECISION_AT]
        ndcg = ((hits * gains).sum(axis=1) / ideal).sum()
        return cls(np.array([*precisions, ndcg, last.sum(), len(some)], dtype=np.float64))

    def metrics(self) -> tuple[Metric, ...]:
        """`precision_at_k`: share of right ones among the k first; `ndcg`: discounted cumulative
        gain of the right labels, 1 / log2(1 + rank) each, over the best possible (Järvelin and
        Kekäläinen, 2002); `coverage_error`: mean rank of the last right label (Schapire and
        Singer, 2000)."""
        *precisions, ndcg, coverage = (self.sums[:-1] / max(1.0, self.sums[-1])).tolist()
        return (
            *(
                Metric(f"precision_at_{k}", value, "higher", "share")
                for k, value in zip(PRECISION_AT, precisions, strict=True)
            ),
            Metric("ndcg", ndcg, "higher", "share"),
            Metric("coverage_error", coverage, "lower", "labels"),
        )


def first_of(labels: np.ndarray, counts: Sequence[int] | np.ndarray) -> Documents:
    """The first labels [texts, units] of each text, `counts` [texts] many."""
    return Documents.of([row[:count] for row, count in zip(labels, counts, strict=True)])

"""Scores of the candidates of one example: pointwise mutual information with its features.

    pmi(f; u)  log2 (p(f, u) / (p(f) p(u)))         Church and Hanks, 1990
    npmi       pmi / -log2 p(f, u), in [-1, 1]      Bouma, 2009
    p(f)       R_f^a / sum R^a, a = 0.75            Levy, Goldberg and Dagan, 2015, section 3.1
    positive   max(pmi, 0)                          the same, section 2.1

in bits, from pair counts. From presence counts, p(f) is the share of documents and not smoothed.
Cells below a minimum count say nothing (0). A candidate's score is the sum over the features of
its example, each as often as it stands there.

Each value is rounded to a multiple of 2^-32 bits and added as a whole number, so scores, and what
is chosen by them, are the same for any number of ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pretrain.ragged import Documents, Examples
from pretrain.selection.table import kernels
from pretrain.selection.table.collectives import join, scatter_sums, start_exchange, world
from pretrain.selection.table.counts import Marginals, ShardedCounts

SCALE = 2.0**32


@dataclass(frozen=True)
class Pointwise:
    """How a pair is scored.

    Attributes:
        normalised: npmi instead of pmi.
        minimum_count: pairs that were seen less often count 0.
        smoothing: exponent a of the features' distribution; 1 for none.
        positive: keep the positive part only.
    """

    normalised: bool = False
    minimum_count: int = 5
    smoothing: float = 0.75
    positive: bool = True

    def __post_init__(self) -> None:
        if self.minimum_count < 1 or not 0.0 <= self.smoothing <= 1.0:
            raise ValueError(
                f"minimum_count {self.minimum_count} must be at least 1 and smoothing "
                f"{self.smoothing} in [0, 1]"
            )


def _log_shares(marginals: Marginals, smoothing: float, presence: bool) -> np.ndarray:
    """[rows] log2 p(f); with presence, of the share of documents, which is not smoothed."""
    rows = np.maximum(marginals.rows, 1)
    if presence:
        return np.asarray(np.log2(rows) - math.log2(marginals.total))
    occurring = rows[marginals.rows > 0].astype(np.float64)
    return np.asarray(smoothing * np.log2(rows) - math.log2(math.fsum(occurring**smoothing)))


class Scorer:
    """Scores candidates by a frozen table; every rank of the table's group calls it alike.

    Args:
        counts: the table; total, rows and columns are its marginals.
        settings: how a pair is scored.

    Raises:
        ValueError: the table is empty.
    """

    def __init__(self, counts: ShardedCounts, settings: Pointwise) -> None:
        marginals = counts.marginals
        if marginals.total == 0:
            raise ValueError("scores need at least one pair; the table is empty")
        presence = counts.pairs.presence
        self.counts = counts
        self.settings = settings
        self.local = counts.local
        self.log_total = math.log2(marginals.total)
        self.row_terms = _log_shares(marginals, 1.0 if presence else settings.smoothing, presence)
        # A candidate that no pair has is never looked up.
        self.column_terms = np.log2(np.maximum(marginals.columns, 1))

    def __call__(self, features: Documents, candidates: Documents | None = None) -> np.ndarray:
        """[candidates] float64 bits, of this rank's examples.

        Args:
            features: of each example of this rank.
            candidates: of each example; None where they are its features, each scored by the
                other ones.

        Raises:
            UserError: another rank died.
        """
        counts = self.counts
        mine = Examples(features, candidates)
        parts = [mine]
        if world(counts.group)[1] > 1:
            parts = start_exchange(mine, counts.rows, counts.columns, counts.group)().parts
        everyone = join(parts)
        target = everyone.source if everyone.target is None else everyone.target
        settings = self.settings
        sums = kernels.score(
            everyone.source.tokens,
            everyone.source.offsets,
            target.tokens,
            target.offsets,
            everyone.target is None,
            self.local,
            counts.table.arrays,
            self.row_terms,
            self.column_terms,
            self.log_total,
            settings.minimum_count,
            settings.normalised,
            settings.positive,
            SCALE,
        )
        sizes = [
            len((part.source if part.target is None else part.target).tokens) for part in parts
        ]
        return np.asarray(scatter_sums(sums, sizes, counts.group) / SCALE)

"""Counts of pairs as their definition reads, and random corpora to try them on."""

from collections import Counter

import numpy as np

from pretrain.ragged import Documents, Examples
from pretrain.selection.table.counts import Pairs, ShardedCounts


def brute_force(examples: Examples, pairs: Pairs) -> Counter:
    """Number of pairs of each (feature, unit)."""
    counts: Counter = Counter()
    target = examples.source if examples.target is None else examples.target
    before, after = pairs.reach
    for d in range(len(examples)):
        features = examples.source.between(d, d + 1).tokens.tolist()
        units = target.between(d, d + 1).tokens.tolist()
        if pairs.presence:
            features, units = sorted(set(features)), sorted(set(units))
        for i, unit in enumerate(units):
            for j, feature in enumerate(features):
                near = i - before <= j < i or i < j <= i + after
                if examples.target is not None or near:
                    counts[feature, unit] += 1
    return counts


def cells_of(counts: ShardedCounts) -> Counter:
    """Number of pairs of each (feature, unit) in this rank's rows."""
    start, cols, values = counts.table.cells()
    rows = np.repeat(counts.owned, np.diff(start))
    return Counter({(int(r), int(c)): int(n) for r, c, n in zip(rows, cols, values, strict=True)})


def random_examples(seed: int, rows: int, columns: int, with_target: bool) -> Examples:
    """A few documents, some of them empty or of one token."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0, 1, 2, 5, 12], size=rng.integers(0, 12))

    def some(vocabulary: int, sizes: np.ndarray) -> Documents:
        return Documents.of([rng.integers(0, vocabulary, n) for n in sizes])

    source = some(rows if with_target else min(rows, columns), lengths)
    return Examples(source, some(columns, rng.permutation(lengths)) if with_target else None)

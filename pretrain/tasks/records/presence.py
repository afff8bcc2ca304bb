"""Which words of the texts of sources tell the most of the targets."""

from __future__ import annotations

import numpy as np


def informative(texts: np.ndarray, target: np.ndarray, empty: int, most: int) -> np.ndarray:
    """Tokens by the mutual information of their presence with the target's units, the most
    telling first, of equal ones the lower.

    For each unit, of the yes-or-no question whether a text has the word and the unit's value, from
    counts (as :func:`pretrain.selection.estimators.information.presence_information`, the unit
    having more values than two); summed over the units.

    Args:
        texts: [n, L] tokens of the texts.
        target: [n, U] tokens of the targets.
        empty: token behind the end of a text.
        most: tokens that are returned at most; at least one is.

    Returns:
        [W] int64 distinct tokens.
    """
    examples = np.repeat(np.arange(len(texts)), texts.shape[1])
    size = int(texts.max()) + 1
    there = np.unique(examples * size + texts.ravel())
    examples, words = np.divmod(there, size)
    kept = words != empty
    examples, words = examples[kept], words[kept]
    found, numbers = np.unique(words, return_inverse=True)
    bits = np.zeros(len(found))
    for unit in target.T:
        values, columns = np.unique(unit, return_inverse=True)
        cells = numbers * len(values) + columns[examples]
        having = np.bincount(cells, minlength=len(found) * len(values))
        bits += _bits(having.reshape(len(found), len(values)), np.bincount(columns))
    # Rounded, so that every process of a run finds the same ones.
    order = np.lexsort((found, -np.round(bits, 9)))
    return np.asarray(found[order[:most]] if len(found) else np.array([empty]))


def _bits(having_wv: np.ndarray, all_v: np.ndarray) -> np.ndarray:
    """I(presence of a word; value) in bits, [W], from counts of texts that have it, and of all."""
    n = int(all_v.sum())
    total = np.zeros(len(having_wv))
    for counts_wv in (having_wv, all_v - having_wv):
        expected = counts_wv.sum(axis=1, keepdims=True) * all_v / n
        ratio = np.divide(counts_wv, expected, out=np.ones(expected.shape), where=counts_wv > 0)
        total += (counts_wv * np.log2(ratio)).sum(axis=1) / n
    return total

"""Orders of label sets: one order of all labels, or one for each example.

A set of labels has no order of its own; its natural order is that of the label numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.ragged import Documents
from pretrain.selection.orders.strategies import choose_order


def order_labels(
    strategy: str,
    labels: int,
    documents: np.ndarray | None = None,
    bits: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
    fixed: Sequence[int] | None = None,
) -> np.ndarray:
    """All labels in the order in which they are predicted, [labels] int64.

    Args:
        strategy: frequency (most documents first), max_mi and min_mi (by `bits`), or ntp, reverse,
            random, fixed as for positions. Ties go to the lower label number: labels have no
            natural place that could break them.
        labels: number of labels.
        documents: [labels] documents that have each label; needed by frequency.
        bits: [labels] what the words of a text tell about each; needed by max_mi and min_mi.
        seed: of the permutation of `random`.
        fixed: the permutation of `fixed`.

    Raises:
        ValueError: the strategy is unknown, or what it needs is missing or of the wrong length.
    """
    values, sign = {
        "frequency": (documents, -1.0),
        "max_mi": (bits, -1.0),
        "min_mi": (bits, 1.0),
    }.get(strategy, (None, 0.0))
    if not sign:
        return np.array(choose_order(strategy, labels, seed=seed, fixed=fixed), dtype=np.int64)
    if values is None or len(values) != labels:
        raise ValueError(
            f"strategy {strategy} needs a value for each of {labels} labels, found "
            f"{'none' if values is None else len(values)}"
        )
    return np.argsort(sign * np.asarray(values, dtype=np.float64), kind="stable")


def _sorted_within(labels: Documents, keys: np.ndarray) -> Documents:
    numbers = np.repeat(np.arange(len(labels)), labels.lengths)
    return Documents(labels.tokens[np.lexsort((labels.tokens, keys, numbers))], labels.offsets)


@dataclass(frozen=True)
class SortLabels:
    """Puts every set of labels into one order; `restore` puts it back into the natural one.

    Attributes:
        order: [labels] int64, a permutation of the label numbers.
    """

    order: np.ndarray

    def __post_init__(self) -> None:
        if not np.array_equal(np.sort(self.order), np.arange(len(self.order))):
            raise ValueError(f"{self.order} is not a permutation of 0 to {len(self.order) - 1}")

    def apply(self, labels: Documents) -> Documents:
        """Each document's labels in this order.

        Raises:
            ValueError: a label number is not in the order.
        """
        labels.check(len(self.order), "labels")
        rank = np.empty(len(self.order), dtype=np.int64)
        rank[self.order] = np.arange(len(self.order))
        return _sorted_within(labels, rank[labels.tokens])

    def restore(self, labels: Documents) -> Documents:
        """Each document's labels in natural order; takes what a model wrote, too."""
        return natural_order(labels)


def natural_order(labels: Documents) -> Documents:
    """Each document's labels by rising number."""
    return _sorted_within(labels, np.zeros(len(labels.tokens)))


def sort_by_scores(labels: Documents, scores: np.ndarray, largest_first: bool = True) -> Documents:
    """Each document's labels by a score of their own; ties go to the lower label number.

    Args:
        labels: of each document.
        scores: [all labels] bits, in the order of `labels.tokens`, such as pointwise mutual
            information with the words of the document.
        largest_first: whether the largest comes first.
    """
    if len(scores) != len(labels.tokens):
        raise ValueError(f"{len(labels.tokens)} labels but {len(scores)} scores")
    return _sorted_within(labels, -scores if largest_first else scores)

"""Scores of predicted label sets, added up over documents and over ranks.

Micro-F1 counts all (document, label) pairs together; macro-F1 is the mean over labels of each one's
F1, over the labels that were predicted or should have been; subset accuracy is the share of
documents whose set is right as a whole. F1 = 2 tp / (predicted + actual).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.ragged import Documents
from pretrain.tasks.base import Metric

MANY = 3
"""Texts with as many labels are scored apart: with one or two, there is little to order."""


@dataclass(frozen=True)
class LabelCounts:
    """What the scores are made of; counts of several parts of the data add up.

    Attributes:
        right: [labels] int64 documents in which the label was predicted rightly.
        predicted: [labels] int64 documents in which it was predicted.
        actual: [labels] int64 documents that have it.
        exact: documents whose predicted set is the actual one.
        documents: number of documents.
    """

    right: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray
    exact: int
    documents: int

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(
            self.right + other.right,
            self.predicted + other.predicted,
            self.actual + other.actual,
            self.exact + other.exact,
            self.documents + other.documents,
        )

    def to_numbers(self) -> np.ndarray:
        """[3 labels + 2] int64, for an all-reduce."""
        counts = (self.right, self.predicted, self.actual, [self.exact, self.documents])
        return np.concatenate(counts).astype(np.int64)

    @classmethod
    def from_numbers(cls, numbers: np.ndarray) -> LabelCounts:
        """Inverse of :meth:`to_numbers`."""
        right, predicted, actual = np.split(numbers[:-2], 3)
        return cls(right, predicted, actual, int(numbers[-2]), int(numbers[-1]))

    @property
    def micro_f1(self) -> float:
        """0 where nothing was predicted and nothing should have been."""
        total = int(self.predicted.sum() + self.actual.sum())
        return 2.0 * float(self.right.sum()) / total if total else 0.0

    @property
    def macro_f1(self) -> float:
        """Mean of per-label F1, in [0, 1]."""
        total = self.predicted + self.actual
        seen = total > 0
        return float(np.mean(2.0 * self.right[seen] / total[seen])) if seen.any() else 0.0

    @property
    def subset_accuracy(self) -> float:
        """Share of documents whose set is right as a whole."""
        return self.exact / self.documents if self.documents else 0.0

    @property
    def predicted_length(self) -> float:
        """Mean number of predicted labels."""
        return float(self.predicted.sum()) / self.documents if self.documents else 0.0

    @property
    def actual_length(self) -> float:
        """Mean number of labels that documents have."""
        return float(self.actual.sum()) / self.documents if self.documents else 0.0

    def metrics(self, suffix: str = "") -> tuple[Metric, ...]:
        """Every score.

        Args:
            suffix: of the names.
        """
        return (
            Metric(f"micro_f1{suffix}", self.micro_f1, "higher", "share"),
            Metric(f"macro_f1{suffix}", self.macro_f1, "higher", "share"),
            Metric(f"subset_accuracy{suffix}", self.subset_accuracy, "higher", "share"),
            Metric(f"predicted_length{suffix}", self.predicted_length, None, "labels"),
            Metric(f"actual_length{suffix}", self.actual_length, None, "labels"),
        )


def count_labels(predicted: Documents, actual: Documents, labels: int) -> LabelCounts:
    """Compare predicted with actual sets.

    Args:
        predicted: of each document; a label that is repeated counts once, and a number that is no
            label counts against subset accuracy and nothing else.
        actual: of the same documents.
        labels: label numbers are in [0, labels).

    Raises:
        ValueError: the numbers of documents differ.
    """
    if len(predicted) != len(actual):
        raise ValueError(f"{len(predicted)} predicted sets but {len(actual)} actual ones")
    documents = len(actual)
    there = [np.zeros((documents, labels), dtype=bool) for _ in range(2)]
    odd = np.zeros(documents, dtype=bool)
    for sets, mask in zip((predicted, actual), there, strict=True):
        numbers = np.repeat(np.arange(documents), sets.lengths)
        known = (sets.tokens >= 0) & (sets.tokens < labels)
        mask[numbers[known], sets.tokens[known]] = True
        odd[numbers[~known]] = True
    guessed, true = there
    return LabelCounts(
        right=(guessed & true).sum(axis=0),
        predicted=guessed.sum(axis=0),
        actual=true.sum(axis=0),
        exact=int(((guessed == true).all(axis=1) & ~odd).sum()),
        documents=documents,
    )

"""Batches of texts with their labels in the order of the selection, or each in an order of its
own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.data.batch import Rows
from pretrain.ragged import Documents
from pretrain.selection.orders.drawn import DrawnOrders
from pretrain.selection.orders.labels import natural_order
from pretrain.tasks.dataset import DatasetBatches
from pretrain.tasks.multilabel.data import LabelledExamples, Multilabel
from pretrain.tasks.multilabel.selection import LabelSelector


class LabelBatches(DatasetBatches[Multilabel, LabelSelector]):
    """Batches of texts with their labels in the order of the selection."""

    def read(self, step: int, selector: LabelSelector) -> Rows:
        """This reader's share of a step."""
        examples = self.dataset.train.take(self.sampler.indices(step, self.rank, self.ranks))
        target = self.ordered(step, examples, selector)
        return Rows(*self.dataset.sequences(examples.source, target, self.length))

    def ordered(self, step: int, examples: LabelledExamples, selector: LabelSelector) -> Documents:
        """Label numbers of each text as predicted at a step."""
        return selector(examples.source, examples.target)


@dataclass(frozen=True)
class AnyOrderLabelBatches(LabelBatches):
    """Batches of texts, the labels of each in an order of its own.

    Attributes:
        orders: draws them.
        to_natural: whether they are annealed to natural order, not to that of the selection.
    """

    orders: DrawnOrders
    to_natural: bool

    def ordered(self, step: int, examples: LabelledExamples, selector: LabelSelector) -> Documents:
        """Label numbers of each text as predicted at a step."""
        found = super().ordered(step, examples, selector)
        places = self.rank * len(found) + np.arange(len(found))
        target = natural_order(found) if self.to_natural else found
        return self.orders.arrange(step, places, found, target)

"""Batches of texts with their labels in the order of the selection."""

from __future__ import annotations

from pretrain.data.batch import Rows
from pretrain.tasks.dataset import DatasetBatches
from pretrain.tasks.multilabel.data import Multilabel
from pretrain.tasks.multilabel.selection import LabelSelector


class LabelBatches(DatasetBatches[Multilabel, LabelSelector]):
    """Batches of texts with their labels in the order of the selection."""

    def read(self, step: int, selector: LabelSelector) -> Rows:
        """This reader's share of a step."""
        examples = self.dataset.train.take(self.sampler.indices(step, self.rank, self.ranks))
        target = selector(examples.source, examples.target)
        return Rows(*self.dataset.sequences(examples.source, target, self.length))

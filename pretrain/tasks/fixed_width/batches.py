"""Batches of examples of fixed widths, their targets in the order of the selection."""

from __future__ import annotations

from pretrain.data.batch import Rows
from pretrain.tasks.dataset import DatasetBatches
from pretrain.tasks.fixed_width.data import Dataset, assemble
from pretrain.tasks.fixed_width.selection import PositionSelector


class ExampleBatches(DatasetBatches[Dataset, PositionSelector]):
    """Batches of a dataset's training examples, units in the order of the selection."""

    def read(self, step: int, selector: PositionSelector) -> Rows:
        """This reader's share of a step."""
        indices = self.sampler.indices(step, self.rank, self.ranks)
        train = self.dataset.train
        return Rows(
            *assemble(
                train.source[indices],
                selector.transform.apply(train.target[indices]),
                self.length,
                self.dataset.tokenizer.pad_id,
            )
        )

"""Batches of examples of fixed widths, their targets in the order of the selection."""

from __future__ import annotations

from collections.abc import Callable

from pretrain.data.batch import Rows, Sampler
from pretrain.tasks.fixed_width.data import Dataset, assemble
from pretrain.tasks.fixed_width.selection import PositionSelector


class ExampleBatches:
    """Batches of a dataset's training examples, targets as they are selected.

    Args:
        dataset: where examples come from.
        sampler: which examples a step sees.
        selection_at: step -> selector; called on every rank for each step once, in order.
        rank, ranks: this reader among the readers; what others pass here is not used.
        length: positions of the model.
    """

    fields: tuple[str, ...] = ()

    def __init__(
        self,
        dataset: Dataset,
        sampler: Sampler,
        selection_at: Callable[[int], PositionSelector],
        rank: int,
        ranks: int,
        length: int,
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.selection_at = selection_at
        self.rank = rank
        self.ranks = ranks
        self.length = length

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

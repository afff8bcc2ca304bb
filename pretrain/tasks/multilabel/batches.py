"""Batches of texts with their labels in the order of the selection."""

from __future__ import annotations

from collections.abc import Callable

from pretrain.data.batch import Rows, Sampler
from pretrain.tasks.multilabel.data import Multilabel
from pretrain.tasks.multilabel.selection import LabelSelector


class LabelBatches:
    """Batches of texts with their labels in the order of the selection.

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
        dataset: Multilabel,
        sampler: Sampler,
        selection_at: Callable[[int], LabelSelector],
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

    def read(self, step: int, selector: LabelSelector) -> Rows:
        """This reader's share of a step."""
        examples = self.dataset.train.take(self.sampler.indices(step, self.rank, self.ranks))
        target = selector(examples.source, examples.target)
        return Rows(*self.dataset.sequences(examples.source, target, self.length))

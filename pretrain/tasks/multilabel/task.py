"""Multi-label classification as a training job sees it: sets of labels as sequences.

A model writes the labels of a text one by one and then the end; the selection says in which order
it learns to. Sets are put back into natural order before anything is scored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pretrain.config import Config
from pretrain.data.batch import Sampler
from pretrain.data.tokenizers import Tokenizer
from pretrain.distributed.topology import Topology
from pretrain.errors import ConfigError
from pretrain.selection.fitter import CountingFitter
from pretrain.selection.orders.drawn import DrawnOrders
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.base import Evaluator
from pretrain.tasks.dataset import DatasetTask
from pretrain.tasks.multilabel.batches import AnyOrderLabelBatches, LabelBatches
from pretrain.tasks.multilabel.data import Multilabel
from pretrain.tasks.multilabel.selection import LabelRule, LabelSelector

if TYPE_CHECKING:
    from pretrain.inference.forward import Forward


class MultilabelTask(DatasetTask):
    """Multi-label classification as a training job sees it.

    Raises:
        ConfigError: see :class:`pretrain.tasks.multilabel.data.Multilabel`, or
            `selection.fixed` does not fit the labels.
    """

    batch_source = LabelBatches

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dataset = dataset = Multilabel(config)
        fixed, labels = config.selection.fixed, len(dataset.label_names)
        by_hand = config.selection.ordered_by == "fixed"
        if by_hand and fixed is not None and len(fixed) != labels:
            raise ConfigError(
                f"selection.fixed orders {len(fixed)} labels, but {labels} are kept; name each of "
                f"0 to {labels - 1} once, numbered alphabetically"
            )
        self.tokenizer = dataset.tokenizer
        self.examples = len(dataset.train)
        self.summary = str(dataset)
        rule = LabelRule(config.selection, dataset)
        self.fitter = CountingFitter(config, rule, self.tokenizer.fingerprint)
        self.facts = {"longest": dataset.longest}

    @property
    def text_tokenizer(self) -> Tokenizer:
        """Without the labels."""
        return self.dataset.tokenizer.text

    def batches(
        self, schedule: SelectionSchedule[LabelSelector], sampler: Sampler, topology: Topology
    ) -> LabelBatches:
        """Batches of this rank."""
        batches = super().batches(schedule, sampler, topology)
        assert isinstance(batches, LabelBatches)
        selection, training = self.config.selection, self.config.training
        if not selection.any_order:
            return batches
        units = len(self.dataset.label_names)
        orders = DrawnOrders.of(selection, units, training.seed, training.steps)
        return AnyOrderLabelBatches(
            **vars(batches), orders=orders, to_natural=selection.anneal_to == "natural"
        )

    def evaluator(self, forward: Forward, schedule: SelectionSchedule[LabelSelector]) -> Evaluator:
        """Scores the model that `forward` runs."""
        from pretrain.tasks.multilabel.evaluation import LabelEvaluator  # loads Megatron-Core

        return LabelEvaluator(self.config, forward, self.dataset, schedule.current)

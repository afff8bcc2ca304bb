"""A task of examples of fixed widths, as a training job sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pretrain.config import Config
from pretrain.data.batch import Sampler
from pretrain.distributed.topology import Topology
from pretrain.selection.fitter import CountingFitter
from pretrain.selection.orders.drawn import DrawnOrders
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.base import Evaluator
from pretrain.tasks.dataset import DatasetTask
from pretrain.tasks.fixed_width.batches import AnyOrderBatches, ExampleBatches
from pretrain.tasks.fixed_width.data import Dataset
from pretrain.tasks.fixed_width.rule import rule_of
from pretrain.tasks.fixed_width.selection import PositionSelector

if TYPE_CHECKING:
    from pretrain.inference.forward import Forward


class FixedWidthTask(DatasetTask):
    """Targets are written unit by unit, in one order of all units.

    Args:
        config: of the run.
        dataset: where examples come from.

    Raises:
        ConfigError: an example does not fit the model, or `selection.fixed` not the examples.
    """

    batch_source = ExampleBatches

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.config = config
        self.dataset = dataset
        self.rule = rule_of(config, dataset)
        self.tokenizer = dataset.tokenizer
        self.examples = len(dataset.train)
        self.summary = f"{len(dataset.train):,} training examples, {len(dataset.test):,} held out"
        self.fitter = CountingFitter(config, self.rule, self.tokenizer.fingerprint)

    def batches(
        self,
        schedule: SelectionSchedule[PositionSelector],
        sampler: Sampler,
        topology: Topology,
    ) -> ExampleBatches:
        """Batches of this rank."""
        selection, training = self.config.selection, self.config.training
        batches = super().batches(schedule, sampler, topology)
        assert isinstance(batches, ExampleBatches)
        if not selection.any_order:
            return batches
        units = len(self.dataset.unit_names)
        orders = DrawnOrders.of(selection, units, training.seed, training.steps)
        to_natural = selection.anneal_to == "natural"
        return AnyOrderBatches(**vars(batches), orders=orders, to_natural=to_natural)

    def evaluator(
        self, forward: Forward, schedule: SelectionSchedule[PositionSelector]
    ) -> Evaluator:
        """Scores the model that `forward` runs."""
        from pretrain.tasks.fixed_width.evaluation import PositionEvaluator  # loads Megatron-Core

        return PositionEvaluator(self.config, forward, self.dataset)

"""A task of examples of fixed widths, as a training job sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pretrain import registry
from pretrain.config import Config, SelectionConfig
from pretrain.data.batch import Sampler
from pretrain.distributed.topology import Topology
from pretrain.errors import ConfigError
from pretrain.model.flops import model_cost
from pretrain.selection.estimators.order_estimator import OrderEstimator
from pretrain.selection.estimators.probe import FEWEST_EXAMPLES
from pretrain.selection.fitter import CountingFitter
from pretrain.selection.orders.drawn import DrawnOrders
from pretrain.selection.schedule import SelectionSchedule
from pretrain.tasks.base import Evaluator
from pretrain.tasks.dataset import DatasetTask
from pretrain.tasks.fixed_width.batches import AnyOrderBatches, ExampleBatches
from pretrain.tasks.fixed_width.data import Dataset, check_length
from pretrain.tasks.fixed_width.selection import PositionRule, PositionSelector

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
        check_length(dataset, config.model.sequence_length)
        selection, names = config.selection, dataset.unit_names
        given = selection.fixed if selection.ordered_by == "fixed" else None
        if given is not None and len(given) != len(names):
            raise ConfigError(
                f"selection.fixed {list(given)} orders {len(given)} units, but the task has "
                f"{len(names)} ({', '.join(names)})"
            )
        _check_trained(config.selection, len(names), len(dataset.train))
        self.tokenizer = dataset.tokenizer
        self.examples = len(dataset.train)
        self.summary = f"{len(dataset.train):,} training examples, {len(dataset.test):,} held out"
        self.rule = PositionRule(
            config.selection,
            dataset.train,
            dataset.values,
            names,
            dataset.whole,
            _run_flops(config, self.tokenizer.size),
        )
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


def _run_flops(config: Config, tokens: int) -> int:
    """Model FLOPs of the run, as its result has them."""
    cost = model_cost(config.model, config.vocabulary_size(tokens))
    positions = config.training.global_batch * config.model.sequence_length
    return config.training.steps * positions * cost.flops_per_token


def _check_trained(selection: SelectionConfig, units: int, examples: int) -> None:
    """Whether an order that is found by training something small can be.

    Raises:
        ConfigError: there are too many units, or too few examples.
    """
    fitted, strategy = selection.fitted, selection.ordered_by
    field = "estimator" if fitted else "criterion" if selection.any_order else "strategy"
    name = selection.estimator if fitted else strategy
    most: int | None = None
    fewest = FEWEST_EXAMPLES if name in ("v_information", "learned") else 1
    if fitted and name in registry.ORDER_ESTIMATORS:
        estimator: type[OrderEstimator] = registry.load(registry.ORDER_ESTIMATORS[name])
        most, fewest = estimator.most_units, estimator.fewest_examples
    if most is not None and units > most:
        raise ConfigError(
            f"selection.estimator {name}: targets have {units} units, and it orders at most "
            f"{most}; use another estimator, or strategy learned"
        )
    if examples < fewest:
        raise ConfigError(
            f"selection.{field} {name}: {examples} training examples, expected at least "
            f"{fewest}; give more of them, or use one that counts"
        )

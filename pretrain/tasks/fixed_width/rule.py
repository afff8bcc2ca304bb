"""The rule that a configuration's order is found by, and whether its examples are fit for it."""

from __future__ import annotations

from pretrain import registry
from pretrain.config import Config, SelectionConfig
from pretrain.errors import ConfigError
from pretrain.model.flops import model_cost
from pretrain.selection.estimators.order_estimator import FEWEST_EXAMPLES, OrderEstimator
from pretrain.tasks.fixed_width.data import Dataset, check_length
from pretrain.tasks.fixed_width.selection import PositionRule


def rule_of(config: Config, dataset: Dataset) -> PositionRule:
    """The rule by which the units of a source's targets are ordered.

    Raises:
        ConfigError: an example does not fit the model, or the way of ordering not the examples.
    """
    check_length(dataset, config.model.sequence_length)
    selection, names = config.selection, dataset.unit_names
    given = selection.fixed if selection.ordered_by == "fixed" else None
    if given is not None and len(given) != len(names):
        raise ConfigError(
            f"selection.fixed {list(given)} orders {len(given)} units, but the task has "
            f"{len(names)} ({', '.join(names)})"
        )
    _check_trained(config.selection, len(names), len(dataset.train))
    return PositionRule(
        selection,
        dataset.train,
        dataset.values,
        names,
        dataset.whole,
        _run_flops(config, dataset.tokenizer.size),
    )


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

"""What the caller hands over: one result per trained model. Checks that they compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pretrain.tasks.presentation import Presentation
from tools.report.measures import Measure


@dataclass(frozen=True)
class RunResult:
    """One trained model: one strategy, one seed."""

    strategy: str
    """Name of the strategy and what it changes: `ntp`, `max_mi estimator=pairwise`."""
    seed: int
    """Seed of the weights and of the data order."""
    order: tuple[int, ...]
    """Units in the order in which they are predicted, numbered in natural order; empty
    where each example has an order of its own."""
    unit_names: tuple[str, ...]
    """Name of each unit in natural order, for example thousands, hundreds, tens, units; none where
    targets have no units in common."""
    bits: tuple[float, ...] | None
    """Mutual information of each unit with the source, where the strategy fitted one."""
    estimator: str | None
    """Name of the estimator behind `bits`."""
    tokens: tuple[int, ...]
    """Tokens trained at each evaluation, increasing."""
    metrics: dict[str, tuple[float, ...]]
    """Every metric at each evaluation; shares as fractions."""
    unit_accuracy: tuple[tuple[float, ...], ...]
    """Accuracy of each unit at each evaluation, in natural (restored) order; empty rows where
    targets have no such units."""
    samples: tuple[dict[str, Any], ...]
    """Examples of the last evaluation, with the keys that the task's presentation asks for."""
    train_seconds: float
    """Wall time of training."""
    selection_seconds: float
    """Wall time of fitting the selector."""
    selection_flops: float | None
    """FLOPs of fitting the selector; None where they are not known, as for counts."""
    model_flops: float
    """Model FLOPs of the whole training."""
    parameters: int
    """Number of parameters of the model, of its objective too."""
    peak_memory: int | None = None
    """Most bytes that the first process had: of its GPU, or resident; None where not known."""


@dataclass(frozen=True)
class Comparison:
    """All runs of one comparison, and what is needed to run it again."""

    title: str
    """Heading of the plot and of the page."""
    metric_name: str
    """The metric of `RunResult.metrics` that counts, for example `exact_match`."""
    runs: tuple[RunResult, ...]
    """One entry per strategy and seed."""
    config_yaml: str
    """The configuration that all runs share."""
    commit: str
    """Commit of the code."""
    environment: dict[str, str]
    """Versions and hardware."""
    command: str
    """The command that produces this comparison."""
    task: str = ""
    """Kind of examples, for the record."""
    presentation: Presentation = field(default_factory=Presentation)
    """How the task is shown."""
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What runs say of each metric: name -> {better, unit, comparable}."""
    higher_is_better: bool = True
    """Of the metric that counts."""
    missing: tuple[str, ...] = ()
    """Runs that were asked for and are not complete."""


def check(comparison: Comparison) -> None:
    """Raises `ValueError`, naming the run, where figures cannot be compared."""
    if not comparison.runs:
        raise ValueError("comparison has no runs: pass at least one RunResult")
    first_of: dict[str, RunResult] = {}
    seen: set[tuple[str, int]] = set()
    for run in comparison.runs:
        _check_curves(run, comparison)
        _check_units(run)
        _check_samples(run, comparison.presentation.sample_keys)
        _check_costs(run)
        if (run.strategy, run.seed) in seen:
            raise ValueError(f"{_name(run)} occurs twice: give each seed once per strategy")
        seen.add((run.strategy, run.seed))
        first = first_of.setdefault(run.strategy, run)
        if run.tokens != first.tokens:
            raise ValueError(
                f"{_name(run)} was evaluated at tokens {run.tokens}, but {_name(first)} at "
                f"{first.tokens}: evaluate all seeds of a strategy at the same points"
            )
        if run.metrics.keys() != first.metrics.keys():
            raise ValueError(
                f"{_name(run)} has metrics {', '.join(run.metrics)}, but {_name(first)} has "
                f"{', '.join(first.metrics)}: score all seeds of a strategy by the same"
            )
        if run.unit_names != comparison.runs[0].unit_names:
            raise ValueError(
                f"{_name(run)} has units {run.unit_names}, but {_name(comparison.runs[0])} has "
                f"{comparison.runs[0].unit_names}: compare runs of one task"
            )


def _name(run: RunResult) -> str:
    return f"run {run.strategy!r}, seed {run.seed}"


def _check_curves(run: RunResult, comparison: Comparison) -> None:
    headline = comparison.metric_name
    if not run.tokens:
        raise ValueError(f"{_name(run)} has no evaluation: evaluate at least once, at the end")
    if headline not in run.metrics:
        raise ValueError(
            f"{_name(run)} has metrics {', '.join(run.metrics)}, but no {headline}, which is the "
            "one that counts"
        )
    for name, values in {**run.metrics, "unit_accuracy": run.unit_accuracy}.items():
        if len(values) != len(run.tokens):
            raise ValueError(
                f"{_name(run)} has {len(run.tokens)} tokens and {len(values)} {name} entries: "
                "give one of each per evaluation"
            )
    if run.tokens[0] < 0 or any(b <= a for a, b in zip(run.tokens, run.tokens[1:], strict=False)):
        raise ValueError(f"{_name(run)} has tokens {run.tokens}: they must increase from 0")
    for name, values in run.metrics.items():
        if Measure.of(name, comparison.measures.get(name)).is_share:
            _check_fractions(run, name, values)
        elif not all(math.isfinite(value) for value in values):
            raise ValueError(f"{_name(run)} has {name} {values}: give finite numbers")
    for accuracies in run.unit_accuracy:
        _check_fractions(run, "unit_accuracy", accuracies)


def _check_fractions(run: RunResult, field: str, values: Iterable[float]) -> None:
    for value in values:
        if not 0.0 <= value <= 1.0:  # also refuses NaN
            raise ValueError(
                f"{_name(run)} has {field} {value}, outside 0..1: give fractions, not percent"
            )


def _check_units(run: RunResult) -> None:
    units = len(run.unit_names)
    if run.order and sorted(run.order) != list(range(units)):
        raise ValueError(
            f"{_name(run)} has order {run.order}, which is no permutation of its {units} units"
        )
    if any(len(accuracies) not in (0, units) for accuracies in run.unit_accuracy):
        raise ValueError(f"{_name(run)} has unit_accuracy rows that lack one of {units} units")
    if run.bits is not None and (
        len(run.bits) != units or not all(math.isfinite(bit) for bit in run.bits)
    ):
        raise ValueError(f"{_name(run)} has bits {run.bits}: give one finite number per unit")


def _check_samples(run: RunResult, keys: frozenset[str]) -> None:
    for sample in run.samples:
        if missing := keys - sample.keys():
            raise ValueError(f"{_name(run)} has a sample without {', '.join(sorted(missing))}")


def _check_costs(run: RunResult) -> None:
    for name in ("train_seconds", "selection_seconds", "model_flops", "parameters"):
        value = getattr(run, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{_name(run)} has {name} {value}: give a finite number from 0 up")
    flops = run.selection_flops
    if flops is not None and not (math.isfinite(flops) and flops >= 0):
        raise ValueError(
            f"{_name(run)} has selection_flops {flops}: give a finite number from 0 up, or None"
        )


def by_strategy(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Runs of each strategy, by seed; strategies in the order in which they first occur."""
    grouped: dict[str, list[RunResult]] = {}
    for run in runs:
        grouped.setdefault(run.strategy, []).append(run)
    return {name: sorted(group, key=lambda run: run.seed) for name, group in grouped.items()}

"""What the caller hands over: one result per trained model. Checks that they compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SAMPLE_KEYS = frozenset({"source", "target", "prediction", "raw", "correct"})


@dataclass(frozen=True)
class RunResult:
    """One trained model: one strategy, one seed."""

    strategy: str
    """Name of the strategy, for example `ntp` or `max_mi`."""
    seed: int
    """Seed of the weights and of the data order."""
    order: tuple[int, ...]
    """Units in the order in which they are predicted; unit 0 is the most significant."""
    unit_names: tuple[str, ...]
    """Name of each unit in natural order, for example thousands, hundreds, tens, units."""
    bits: tuple[float, ...] | None
    """Mutual information of each unit with the source, where the strategy fitted one."""
    estimator: str | None
    """Name of the estimator behind `bits`."""
    tokens: tuple[int, ...]
    """Tokens trained at each evaluation, increasing."""
    metric: tuple[float, ...]
    """The metric at each evaluation, as a fraction."""
    unit_accuracy: tuple[tuple[float, ...], ...]
    """Accuracy of each unit at each evaluation, in natural (restored) order."""
    samples: tuple[dict[str, Any], ...]
    """Problems of the last evaluation: source, target, prediction, raw and correct."""
    train_seconds: float
    """Wall time of training."""
    selection_seconds: float
    """Wall time of fitting the selector."""
    model_flops: float
    """Model FLOPs of the whole training."""
    parameters: int
    """Number of parameters of the model."""


@dataclass(frozen=True)
class Comparison:
    """All runs of one comparison, and what is needed to run it again."""

    title: str
    """Heading of the plot and of the page."""
    metric_name: str
    """Name of `RunResult.metric`, for example `exact_match`."""
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


def check(comparison: Comparison) -> None:
    """Raises `ValueError`, naming the run, where figures cannot be compared."""
    if not comparison.runs:
        raise ValueError("comparison has no runs: pass at least one RunResult")
    first_of: dict[str, RunResult] = {}
    seen: set[tuple[str, int]] = set()
    for run in comparison.runs:
        _check_curves(run)
        _check_units(run)
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
        if run.unit_names != comparison.runs[0].unit_names:
            raise ValueError(
                f"{_name(run)} has units {run.unit_names}, but {_name(comparison.runs[0])} has "
                f"{comparison.runs[0].unit_names}: compare runs of one task"
            )


def _name(run: RunResult) -> str:
    return f"run {run.strategy!r}, seed {run.seed}"


def _check_curves(run: RunResult) -> None:
    if not run.tokens:
        raise ValueError(f"{_name(run)} has no evaluation: evaluate at least once, at the end")
    if not len(run.tokens) == len(run.metric) == len(run.unit_accuracy):
        raise ValueError(
            f"{_name(run)} has {len(run.tokens)} tokens, {len(run.metric)} metric and "
            f"{len(run.unit_accuracy)} unit_accuracy entries: give one of each per evaluation"
        )
    if run.tokens[0] < 0 or any(b <= a for a, b in zip(run.tokens, run.tokens[1:], strict=False)):
        raise ValueError(f"{_name(run)} has tokens {run.tokens}: they must increase from 0")
    _check_fractions(run, "metric", run.metric)
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
    if units == 0 or sorted(run.order) != list(range(units)):
        raise ValueError(
            f"{_name(run)} has order {run.order}, which is no permutation of its {units} units"
        )
    if any(len(accuracies) != units for accuracies in run.unit_accuracy):
        raise ValueError(f"{_name(run)} has unit_accuracy rows that lack one of {units} units")
    if run.bits is not None and (
        len(run.bits) != units or not all(math.isfinite(bit) for bit in run.bits)
    ):
        raise ValueError(f"{_name(run)} has bits {run.bits}: give one finite number per unit")
    for sample in run.samples:
        if missing := SAMPLE_KEYS - sample.keys():
            raise ValueError(f"{_name(run)} has a sample without {', '.join(sorted(missing))}")


def _check_costs(run: RunResult) -> None:
    for field in ("train_seconds", "selection_seconds", "model_flops", "parameters"):
        value = getattr(run, field)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{_name(run)} has {field} {value}: give a finite number from 0 up")


def by_strategy(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Runs of each strategy, by seed; strategies in the order in which they first occur."""
    grouped: dict[str, list[RunResult]] = {}
    for run in runs:
        grouped.setdefault(run.strategy, []).append(run)
    return {name: sorted(group, key=lambda run: run.seed) for name, group in grouped.items()}

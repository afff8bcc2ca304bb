"""The figures of a comparison, without words: means, spreads and paired differences.

What counts is the last evaluation of a run, never its best one. Strategies are compared seed
by seed with a baseline, over the seeds that both have.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from tools.report.results import Comparison, RunResult, by_strategy, check

BASELINE = "ntp"
FEATURED = "max_mi"


def summarise(comparison: Comparison) -> dict[str, Any]:
    """Figures of the last evaluation per strategy, and paired differences to the baseline.

    `order` is None where the seeds of a strategy used different orders; `orders` has them all.
    `std` is the sample standard deviation, None with one seed.
    """
    check(comparison)
    grouped = by_strategy(comparison.runs)
    strategies = {name: _summarise_strategy(runs) for name, runs in grouped.items()}
    baseline = BASELINE if BASELINE in grouped else next(iter(grouped))
    return {
        "metric": comparison.metric_name,
        "unit_names": list(comparison.runs[0].unit_names),
        "baseline": baseline,
        "strategies": strategies,
        "paired": {
            name: _pair(entry, strategies[baseline], baseline)
            for name, entry in strategies.items()
            if name != baseline
        },
        "commit": comparison.commit,
        "environment": dict(comparison.environment),
    }


def _summarise_strategy(runs: Sequence[RunResult]) -> dict[str, Any]:
    finals = [run.metric[-1] for run in runs]
    orders = [list(run.order) for run in runs]
    fitted = [run.bits for run in runs if run.bits is not None]
    return {
        "mean": fmean(finals),
        "std": _std(finals),
        "per_seed": finals,
        "seeds": [run.seed for run in runs],
        "order": orders[0] if all(order == orders[0] for order in orders) else None,
        "orders": orders,
        "unit_accuracy": column_means([run.unit_accuracy[-1] for run in runs]),
        "bits": column_means(fitted) if fitted else None,
        "estimator": next((run.estimator for run in runs if run.estimator), None),
        "trained_tokens": runs[0].tokens[-1],
        "model_flops": fmean(run.model_flops for run in runs),
        "parameters": runs[0].parameters,
        "train_seconds": [run.train_seconds for run in runs],
        "selection_seconds": [run.selection_seconds for run in runs],
    }


def _pair(entry: dict[str, Any], base: dict[str, Any], baseline: str) -> dict[str, Any]:
    of_base = dict(zip(base["seeds"], base["per_seed"], strict=True))
    own = dict(zip(entry["seeds"], entry["per_seed"], strict=True))
    seeds = [seed for seed in own if seed in of_base]
    differences = [own[seed] - of_base[seed] for seed in seeds]
    return {
        "against": baseline,
        "difference": fmean(differences) if differences else None,
        "std": _std(differences),
        "per_seed": differences,
        "seeds": seeds,
        "mean": fmean(own[seed] for seed in seeds) if seeds else None,
        "baseline_mean": fmean(of_base[seed] for seed in seeds) if seeds else None,
    }


def _std(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def column_means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [fmean(column) for column in zip(*rows, strict=True)]


def ranked(summary: dict[str, Any]) -> dict[str, Any]:
    """The strategies by name, the highest mean first."""
    return dict(sorted(summary["strategies"].items(), key=lambda item: -item[1]["mean"]))


def featured(summary: dict[str, Any]) -> str:
    """The strategy that the headline is about: `max_mi`, else the best but the baseline."""
    paired = summary["paired"]
    return FEATURED if FEATURED in paired else next(n for n in ranked(summary) if n in paired)

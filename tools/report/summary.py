"""The figures of a comparison, without words: means, spreads and paired differences.

What counts is the last evaluation of a run, never its best one. Strategies are compared seed
by seed with a baseline, over the seeds that both have.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tools.report.learning import area, value_at
from tools.report.measures import headline_measure
from tools.report.results import Comparison, RunResult, by_strategy, check
from tools.report.uncertainty import column_means, interval, spread

BASELINE = "ntp"
FEATURED = "max_mi"


def summarise(comparison: Comparison) -> dict[str, Any]:
    """Figures of the last evaluation per strategy, paired differences to the baseline, and curves.

    `order` is None where the seeds of a strategy used different orders; `orders` has them all.
    `third` and `area` are the headline's metric after a third of the training and its mean over it,
    see :mod:`tools.report.learning`; `third` is None where no evaluation came before.
    `std` is the sample standard deviation, and `ci95` the 95 % confidence interval of a mean of
    paired differences (Student's t); both are None with one seed.
    """
    check(comparison)
    grouped = by_strategy(comparison.runs)
    headline, presentation = comparison.metric_name, comparison.presentation
    baseline = BASELINE if BASELINE in grouped else next(iter(grouped))
    return {
        "task": comparison.task,
        "metric": headline,
        "higher_is_better": comparison.higher_is_better,
        "measures": comparison.measures,
        "held_out": presentation.held_out,
        "scoring": presentation.scoring,
        "task_caveats": list(presentation.caveats),
        "advice": list(presentation.advice(grouped)),
        "unit_names": list(comparison.runs[0].unit_names),
        "baseline": baseline,
        "strategies": {name: _summarise_strategy(runs, headline) for name, runs in grouped.items()},
        "paired": {
            name: _pair(runs, grouped[baseline], headline)
            for name, runs in grouped.items()
            if name != baseline
        },
        "missing": list(comparison.missing),
        "commit": comparison.commit,
        "environment": dict(comparison.environment),
    }


def _summarise_strategy(runs: Sequence[RunResult], headline: str) -> dict[str, Any]:
    orders = [list(run.order) for run in runs]
    fitted = [run.bits for run in runs if run.bits is not None]
    flops = [run.selection_flops for run in runs if run.selection_flops is not None]
    metrics = {name: _finals([run.metrics[name][-1] for run in runs]) for name in runs[0].metrics}
    return {
        **metrics[headline],
        "seeds": [run.seed for run in runs],
        "metrics": metrics,
        "third": _finals_if_known([value_at(run.tokens, run.metrics[headline]) for run in runs]),
        "area": _finals([area(run.tokens, run.metrics[headline]) for run in runs]),
        "curves": {
            "tokens": list(runs[0].tokens),
            "metrics": {
                name: _curve([run.metrics[name] for run in runs]) for name in runs[0].metrics
            },
        },
        "order": orders[0] if all(order == orders[0] for order in orders) else None,
        "orders": orders,
        "unit_accuracy": column_means([run.unit_accuracy[-1] for run in runs]),
        "bits": column_means(fitted) if fitted else None,
        "estimator": next((run.estimator for run in runs if run.estimator), None),
        "trained_tokens": runs[0].tokens[-1],
        "model_flops": fmean(run.model_flops for run in runs),
        "selection_flops": fmean(flops) if len(flops) == len(runs) else None,
        "parameters": runs[0].parameters,
        "peak_memory_bytes": max(run.peak_memory or 0 for run in runs) or None,
        "train_seconds": [run.train_seconds for run in runs],
        "selection_seconds": [run.selection_seconds for run in runs],
    }


def _finals(values: list[float]) -> dict[str, Any]:
    return {"mean": fmean(values), "std": spread(values), "per_seed": values}


def _finals_if_known(values: list[float | None]) -> dict[str, Any] | None:
    known = [value for value in values if value is not None]
    return _finals(known) if len(known) == len(values) else None


def _curve(rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    return {"mean": column_means(rows), "per_seed": [list(row) for row in rows]}


def _pair(
    runs: Sequence[RunResult], base_runs: Sequence[RunResult], headline: str
) -> dict[str, Any]:
    """Differences to the baseline over the seeds that both have, in all metrics that both have."""
    of_base = {run.seed: run for run in base_runs}
    pairs = [(run, of_base[run.seed]) for run in runs if run.seed in of_base]
    metrics = {
        name: _differences([own.metrics[name][-1] - base.metrics[name][-1] for own, base in pairs])
        for name in runs[0].metrics
        if name in base_runs[0].metrics
    }
    return {
        "against": base_runs[0].strategy,
        **metrics[headline],
        "seeds": [own.seed for own, _ in pairs],
        "mean": fmean(own.metrics[headline][-1] for own, _ in pairs) if pairs else None,
        "baseline_mean": fmean(base.metrics[headline][-1] for _, base in pairs) if pairs else None,
        "metrics": metrics,
        "curve": _distance(pairs, headline),
    }


def _differences(values: list[float]) -> dict[str, Any]:
    return {
        "difference": fmean(values) if values else None,
        "std": spread(values),
        "ci95": interval(values),
        "per_seed": values,
    }


def _distance(pairs: Sequence[tuple[RunResult, RunResult]], headline: str) -> dict[str, Any]:
    """The paired differences as training goes on, at the evaluations that both have."""
    if not pairs:
        return {"tokens": [], "mean": [], "per_seed": []}
    own, base = pairs[0]
    tokens = [count for count in own.tokens if count in base.tokens]
    rows = []
    for one, other in pairs:
        at = dict(zip(one.tokens, one.metrics[headline], strict=True))
        base_at = dict(zip(other.tokens, other.metrics[headline], strict=True))
        rows.append([at[count] - base_at[count] for count in tokens])
    return {"tokens": tokens, **_curve(rows)}


def ranked(summary: dict[str, Any]) -> dict[str, Any]:
    """The strategies by name, the best mean first."""
    gain = headline_measure(summary).gain
    return dict(sorted(summary["strategies"].items(), key=lambda item: -gain(item[1]["mean"])))


def featured(summary: dict[str, Any]) -> str:
    """The strategy that the headline is about: `max_mi`, else the first of its variants, so that
    none is picked for its result; else the best but the baseline."""
    paired = summary["paired"]
    if FEATURED in paired:
        return FEATURED
    variants = [name for name in paired if name.split()[0] == FEATURED]
    return variants[0] if variants else next(n for n in ranked(summary) if n in paired)

"""The tables of the page: result, other metrics, accuracy and bits of each unit, budget."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from tools.report.findings import budget_caveats, fitting_share
from tools.report.heat import HeatMap, heat_map, share_of
from tools.report.marks import swatch
from tools.report.measures import Measure, headline_measure, other_measures
from tools.report.summary import ranked
from tools.report.templates import render
from tools.report.words import UNITS_SHOWN, held_out, order_words, ordinal, si

COLUMNS_SHOWN = 8


def result_section(summary: dict[str, Any], looks: dict[str, int]) -> Markup:
    """The metric that counts: means, seeds, and differences to the baseline."""
    measure = headline_measure(summary)
    versus = _versus(summary, measure)
    seeds = [value for entry in summary["strategies"].values() for value in entry["per_seed"]]
    rows = []
    for name, entry in ranked(summary).items():
        order = order_words(entry["order"], summary["unit_names"], " → ")
        draw = _bar if measure.is_share else _stroke
        scale = (0.0, 1.0) if measure.is_share else (min(seeds), (max(seeds) - min(seeds)) or 1.0)
        several_seeds = entry["per_seed"] if len(entry["per_seed"]) > 1 else []
        rows.append(
            {
                **_strategy(name, looks[name]),
                "order": order if summary["unit_names"] else None,
                "mean": measure.value(entry["mean"]),
                "spread": "" if entry["std"] is None else f" ± {measure.bare(entry['std'])}",
                "look": looks[name],
                "strips": draw(_place(entry["mean"], *scale)),
                "dots": [_place(value, *scale) for value in several_seeds],
                "per_seed": ", ".join(measure.bare(value) for value in entry["per_seed"]),
                **_difference(summary["paired"].get(name), measure),
            }
        )
    several = any(entry["std"] is not None for entry in summary["strategies"].values())
    score = f"{measure.words}, mean ± std" if several else measure.words
    order_header = ("order of prediction",) if summary["unit_names"] else ()
    header = ("strategy", *order_header, score, "per seed", versus)
    return render(
        "tools.report:result.html",
        header=header,
        rows=rows,
        metric=measure.words,
        versus=versus,
        note=_result_note(summary, measure, several),
    )


def _versus(summary: dict[str, Any], measure: Measure) -> str:
    what = "points against" if measure.is_share else "difference to"
    return f"{what} {summary['baseline']}"


def _difference(pair: dict[str, Any] | None, measure: Measure) -> dict[str, str]:
    """The mean difference, and its confidence interval underneath."""
    if pair is None:
        return {"difference": "baseline", "interval": ""}
    interval = measure.interval(pair["ci95"], "−") if pair["ci95"] else ""
    return {"difference": measure.difference(pair["difference"], "−"), "interval": interval}


def _result_note(summary: dict[str, Any], measure: Measure, several: bool) -> str:
    spread = "± is the sample standard deviation over seeds, dots are single seeds. "
    interval = (
        " Small: their 95 % confidence interval, by Student's t over paired seeds."
        if any(pair["ci95"] for pair in summary["paired"].values())
        else ""
    )
    direction = "" if measure.higher_is_better else f"{measure.better.capitalize()}. "
    return (
        f"{held_out(summary).capitalize()}, last evaluation. {direction}"
        f"{spread if several else ''}{_versus(summary, measure).capitalize()} are the mean "
        f"difference over the seeds that both have.{interval}"
    )


def _bar(mean: float) -> list[dict[str, Any]]:
    """The mean as a bar from 0 to 100 %."""
    track = {"x": 0, "y": 3, "width": 200, "height": 8, "rx": 2, "track": True}
    return [track, {"x": 0, "y": 3, "width": mean, "height": 8, "rx": 2, "track": False}]


def _stroke(mean: float) -> list[dict[str, Any]]:
    """The mean as a stroke on a line from the least to the greatest of all seeds."""
    track = {"x": 0, "y": 6, "width": 200, "height": 2, "rx": 1, "track": True}
    return [
        track,
        {"x": round(mean - 1.5, 1), "y": 0, "width": 3, "height": 14, "rx": 1, "track": False},
    ]


def _place(value: float, low: float, width: float) -> float:
    """Where a value stands on a strip of 200 pixels."""
    return round(200 * (value - low) / width, 1)


def metrics_section(summary: dict[str, Any]) -> Markup:
    """Every other metric by strategy; empty where there is none."""
    measures = other_measures(summary)
    if not measures:
        return Markup()
    strategies = ranked(summary)
    rows = []
    for measure in measures:
        best = _best(summary, measure)
        cells = [_metric(name, summary, measure, best) for name in strategies]
        rows.append({"metric": measure.words, "better": measure.better, "cells": cells})
    several = any(entry["std"] is not None for entry in strategies.values())
    spread = "Mean ± sample standard deviation over seeds. " if several else ""
    interval = " and its 95 % confidence interval (Student's t over paired seeds)"
    below = interval if any(pair["ci95"] for pair in summary["paired"].values()) else ""
    small = f"Small: difference to {summary['baseline']}{below}. " if summary["paired"] else ""
    return render(
        "tools.report:metrics.html",
        header=("metric", *strategies),
        rows=rows,
        note=f"Last evaluation. {spread}{small}Shares in percent, their differences in points. "
        "The best mean of each metric is bold, however small the lead.",
    )


def _best(summary: dict[str, Any], measure: Measure) -> float | None:
    """The best mean of a metric; None where no way is better, or none is."""
    means = [
        entry["metrics"][measure.name]["mean"]
        for entry in summary["strategies"].values()
        if measure.name in entry["metrics"]
    ]
    if measure.higher_is_better is None or len(set(means)) == 1:
        return None
    return max(means, key=measure.gain)


def _metric(
    name: str, summary: dict[str, Any], measure: Measure, best: float | None
) -> dict[str, Any]:
    found = summary["strategies"][name]["metrics"].get(measure.name)
    if found is None:
        return {"mean": "–", "spread": "", "best": False, "difference": ""}
    words = ""
    pair = summary["paired"].get(name, {"metrics": {}})["metrics"].get(measure.name)
    if pair is not None and pair["difference"] is not None:
        words = measure.difference(pair["difference"], "−")
        if pair["ci95"]:
            words += f" ({measure.interval(pair['ci95'], '−')})"
    return {
        "mean": measure.value(found["mean"]),
        "spread": "" if found["std"] is None else f" ± {measure.bare(found['std'])}",
        "best": found["mean"] == best,
        "difference": words,
    }


def accuracy_section(summary: dict[str, Any], looks: dict[str, int]) -> Markup:
    """Accuracy of each unit; empty where there are none, or too many to read."""
    strategies = {n: e for n, e in ranked(summary).items() if e["unit_accuracy"]}
    if not strategies or len(summary["unit_names"]) > UNITS_SHOWN:
        return Markup()
    measure = Measure("accuracy", True, "share")
    every = [a for entry in strategies.values() for a in entry["unit_accuracy"]]
    shares = iter(share_of(every))
    by_name = {n: [next(shares) for _ in e["unit_accuracy"]] for n, e in strategies.items()}
    rows = []
    for name, entry in strategies.items():
        cells = [
            _heat(measure.value(accuracy), share, _rank_words(entry["order"], unit))
            for unit, (accuracy, share) in enumerate(
                zip(entry["unit_accuracy"], by_name[name], strict=True)
            )
        ]
        rows.append({**_strategy(name, looks[name]), "cells": cells})
    return render(
        "tools.report:heat.html",
        title="Accuracy of each unit of the answer",
        kind="heatmap",
        header=("strategy", *summary["unit_names"]),
        rows=rows,
        note=(
            "Share of right units at the last evaluation, mean over seeds, in natural order. "
            "Below each: when it was predicted. The stronger the tint, the higher in this table. A "
            "whole answer is right only if all its units are."
        ),
    )


def bits_section(summary: dict[str, Any], looks: dict[str, int]) -> Markup:
    """Bits of each unit by fitted strategy; empty where targets have no units in common."""
    if not summary["unit_names"]:
        return Markup()
    heat = heat_map(summary)
    title = "Mutual information with the source"
    if heat is None:
        words = "No strategy of this comparison fitted one score for each unit."
        return render("tools.report:heat.html", title=title, rows=(), note=words)
    words = (
        "Bits that the source tells about each unit, estimated on the training split, mean "
        "over seeds. The stronger the tint, the more, in each strategy by itself: estimators "
        "have scales of their own."
    )
    if len(heat.names) > COLUMNS_SHOWN:
        left_out = f" {heat.left_out} more units tell less." if heat.left_out else ""
        values = _tall_heat(heat, summary)
        return render("tools.report:heat.html", title=title, **values, note=words + left_out)
    return render(
        "tools.report:heat.html", title=title, **_wide_heat(heat, summary, looks), note=words
    )


def _wide_heat(heat: HeatMap, summary: dict[str, Any], looks: dict[str, int]) -> dict[str, Any]:
    """A row per strategy, a column per unit, and the order that follows."""
    rows = []
    for name, bits in heat.rows.items():
        order = summary["strategies"][name]["order"]
        cells = [
            _heat(f"{bit:.2f}", share, _rank_words(order, unit))
            for unit, bit, share in zip(heat.units, bits, heat.shares(name), strict=True)
        ]
        words = order_words(order, summary["unit_names"], " → ")
        head = _strategy(name, looks[name], heat.estimators[name])
        rows.append({**head, "cells": cells, "implied": words})
    header = ("strategy, estimator", *heat.names, "implied order")
    return {"header": header, "rows": rows, "kind": "heatmap bits"}


def _tall_heat(heat: HeatMap, summary: dict[str, Any]) -> dict[str, Any]:
    """A row per unit, a column per strategy."""
    columns = {name: heat.shares(name) for name in heat.rows}
    rows = []
    for place, (unit, unit_name) in enumerate(zip(heat.units, heat.names, strict=True)):
        cells = [
            _heat(
                f"{heat.rows[name][place]:.3g}",
                shares[place],
                _rank_words(summary["strategies"][name]["order"], unit),
            )
            for name, shares in columns.items()
        ]
        rows.append({"unit": unit_name, "cells": cells})
    header = [f"{name} {heat.estimators[name]}".strip() for name in heat.rows]
    return {"header": ("unit", *header), "rows": rows, "kind": "heatmap tall"}


def budget_section(summary: dict[str, Any], looks: dict[str, int]) -> Markup:
    """What each strategy was trained on and what fitting cost."""
    rows = [
        {**_strategy(name, looks[name]), "figures": _budget(entry)}
        for name, entry in ranked(summary).items()
    ]
    header = ("strategy", *_budget(summary["strategies"][summary["baseline"]]))
    equal = not any("not equal" in caveat for caveat in budget_caveats(summary))
    words = "All strategies had the same" if equal else "The strategies did not have the same"
    return render(
        "tools.report:budget.html",
        header=header,
        rows=rows,
        note=(
            f"{words} tokens and FLOPs, fitting included where its FLOPs are known, to within 1 %. "
            "An estimator that counts rather than multiplies has no FLOPs to state: its seconds "
            "count. Seconds are means over seeds."
        ),
    )


def _budget(entry: dict[str, Any]) -> dict[str, str]:
    """One row of the budget by the headings of its columns."""
    train, select = fmean(entry["train_seconds"]), fmean(entry["selection_seconds"])
    flops, peak = entry["selection_flops"], entry.get("peak_memory_bytes")
    return {
        "tokens": si(entry["trained_tokens"]),
        "model FLOPs": si(entry["model_flops"]),
        "FLOPs of fitting": si(flops) if flops else "not known" if select else "none",
        "training": f"{train:,.1f} s",
        "fitting the selector": f"{select:,.2f} s" if select else "none",
        "share of the time": f"{100 * fitting_share(entry):.2f} %" if select else "none",
        "parameters": f"{entry['parameters']:,}",
        "peak memory": f"{peak / 2**20:,.0f} MiB" if peak else "not known",
    }


def _strategy(name: str, look: int, below: str = "") -> dict[str, Any]:
    """The strategy, and what it changes in small letters underneath."""
    strategy, _, changes = name.partition(" ")
    return {"swatch": swatch(look), "strategy": strategy, "below": f"{changes} {below}".strip()}


def _heat(value: str, share: float, below: str) -> dict[str, Any]:
    """A cell whose tint follows `share`; the figure itself is always printed."""
    return {"value": value, "tint": round(0.06 + 0.44 * share, 3), "below": below}


def _rank_words(order: Sequence[int] | None, unit: int) -> str:
    return f"predicted {ordinal(list(order).index(unit) + 1)}" if order else ""

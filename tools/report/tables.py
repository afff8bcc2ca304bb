"""The tables of the page: result, other metrics, accuracy and bits of each unit, budget."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tools.report.findings import budget_caveats, fitting_share
from tools.report.heat import HeatMap, heat_map, share_of
from tools.report.marks import swatch
from tools.report.markup import Html, note, section, table, tag, text
from tools.report.measures import Measure, headline_measure, other_measures
from tools.report.summary import ranked
from tools.report.words import UNITS_SHOWN, held_out, order_words, ordinal, si

COLUMNS_SHOWN = 8


def result_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    """The metric that counts: means, seeds, and differences to the baseline."""
    measure = headline_measure(summary)
    versus = _versus(summary, measure)
    seeds = [value for entry in summary["strategies"].values() for value in entry["per_seed"]]
    rows = []
    for name, entry in ranked(summary).items():
        spread = "" if entry["std"] is None else f" ± {measure.bare(entry['std'])}"
        mean = tag("b", text(measure.value(entry["mean"])))
        drawn = _bar(entry, looks[name]) if measure.is_share else _dots(entry, looks[name], seeds)
        per_seed = ", ".join(measure.bare(value) for value in entry["per_seed"])
        order = order_words(entry["order"], summary["unit_names"], " → ")
        ordered = [_cell("order", text(order))] if summary["unit_names"] else []
        rows.append(
            tag(
                "tr",
                _strategy_cell(name, looks[name]),
                *ordered,
                _cell(measure.words, mean, text(spread), drawn, class_="score"),
                _cell("per seed", text(per_seed)),
                _cell(versus, *_difference(summary["paired"].get(name), measure), class_="number"),
            )
        )
    several = any(entry["std"] is not None for entry in summary["strategies"].values())
    score = f"{measure.words}, mean ± std" if several else measure.words
    order_header = ("order of prediction",) if summary["unit_names"] else ()
    header = ("strategy", *order_header, score, "per seed", versus)
    words = _result_note(summary, measure, several)
    return section("Result", table(header, rows, "stack"), note(words))


def _versus(summary: dict[str, Any], measure: Measure) -> str:
    what = "points against" if measure.is_share else "difference to"
    return f"{what} {summary['baseline']}"


def _difference(pair: dict[str, Any] | None, measure: Measure) -> list[Html]:
    """The mean difference, and its confidence interval underneath."""
    if pair is None:
        return [text("baseline")]
    mean = text(measure.difference(pair["difference"], "−"))
    if not pair["ci95"]:
        return [mean]
    return [mean, tag("small", text(f"{measure.interval(pair['ci95'], '−')}"))]


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


def _bar(entry: dict[str, Any], look: int) -> Html:
    """The mean as a bar from 0 to 100 %, the seeds as dots on it."""
    bar = tag("rect", x=0, y=3, width=round(200 * entry["mean"], 1), height=8, rx=2)
    track = tag("rect", x=0, y=3, width=200, height=8, rx=2, class_="track")
    seeds = entry["per_seed"] if len(entry["per_seed"]) > 1 else []
    return _strip(look, track, bar, *(_dot(200 * value, 3.2) for value in seeds))


def _dots(entry: dict[str, Any], look: int, every: Sequence[float]) -> Html:
    """The seeds as dots between the least and the greatest of all, the mean as a stroke."""
    low, high = min(every), max(every)
    width = (high - low) or 1.0
    track = tag("rect", x=0, y=6, width=200, height=2, rx=1, class_="track")
    mean = tag("rect", x=_place(entry["mean"], low, width) - 1.5, y=0, width=3, height=14, rx=1)
    seeds = entry["per_seed"] if len(entry["per_seed"]) > 1 else []
    return _strip(look, track, mean, *(_dot(_place(value, low, width), 3.2) for value in seeds))


def _place(value: float, low: float, width: float) -> float:
    return round(200 * (value - low) / width, 1)


def _dot(x: float, radius: float) -> Html:
    return tag("circle", cx=round(x, 1), cy=7, r=radius, class_="dot")


def _strip(look: int, *parts: Html) -> Html:
    return tag("svg", *parts, viewBox="-4 0 208 14", class_=f"bar s{look}", aria_hidden="true")


def metrics_section(summary: dict[str, Any]) -> Html:
    """Every other metric by strategy; empty where there is none."""
    measures = other_measures(summary)
    if not measures:
        return Html("")
    strategies = ranked(summary)
    rows = []
    for measure in measures:
        best = _best(summary, measure)
        head = tag("th", text(measure.words), tag("small", text(measure.better)), scope="row")
        cells = [
            tag("td", *_metric(name, summary, measure, best), class_="metric")
            for name in strategies
        ]
        rows.append(tag("tr", head, *cells))
    several = any(entry["std"] is not None for entry in strategies.values())
    spread = "Mean ± sample standard deviation over seeds. " if several else ""
    interval = " and its 95 % confidence interval (Student's t over paired seeds)"
    below = interval if any(pair["ci95"] for pair in summary["paired"].values()) else ""
    small = f"Small: difference to {summary['baseline']}{below}. " if summary["paired"] else ""
    return section(
        "Other metrics",
        table(("metric", *strategies), rows, "metrics"),
        note(
            f"Last evaluation. {spread}{small}Shares in percent, their differences in points. "
            "The best mean of each metric is bold, however small the lead."
        ),
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


def _metric(name: str, summary: dict[str, Any], measure: Measure, best: float | None) -> list[Html]:
    found = summary["strategies"][name]["metrics"].get(measure.name)
    if found is None:
        return [text("–")]
    mean = text(measure.value(found["mean"]))
    parts = [tag("b", mean) if found["mean"] == best else mean]
    if found["std"] is not None:
        parts.append(text(f" ± {measure.bare(found['std'])}"))
    pair = summary["paired"].get(name, {"metrics": {}})["metrics"].get(measure.name)
    if pair is not None and pair["difference"] is not None:
        words = measure.difference(pair["difference"], "−")
        if pair["ci95"]:
            words += f" ({measure.interval(pair['ci95'], '−')})"
        parts.append(tag("small", text(words)))
    return parts


def accuracy_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    """Accuracy of each unit; empty where there are none, or too many to read."""
    strategies = {n: e for n, e in ranked(summary).items() if e["unit_accuracy"]}
    if not strategies or len(summary["unit_names"]) > UNITS_SHOWN:
        return Html("")
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
        rows.append(tag("tr", _strategy_cell(name, looks[name]), *cells))
    return section(
        "Accuracy of each unit of the answer",
        table(("strategy", *summary["unit_names"]), rows, "heatmap"),
        note(
            "Share of right units at the last evaluation, mean over seeds, in natural order. "
            "Below each: when it was predicted. The stronger the tint, the higher in this table. A "
            "whole answer is right only if all its units are."
        ),
    )


def bits_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    """Bits of each unit by fitted strategy; empty where targets have no units in common."""
    if not summary["unit_names"]:
        return Html("")
    heat = heat_map(summary)
    title = "Mutual information with the source"
    if heat is None:
        return section(
            title, note("No strategy of this comparison fitted one score for each unit.")
        )
    words = (
        "Bits that the source tells about each unit, estimated on the training split, mean "
        "over seeds. The stronger the tint, the more, in each strategy by itself: estimators "
        "have scales of their own."
    )
    if len(heat.names) > COLUMNS_SHOWN:
        left_out = f" {heat.left_out} more units tell less." if heat.left_out else ""
        return section(title, _tall_heat(heat, summary, looks), note(words + left_out))
    return section(title, _wide_heat(heat, summary, looks), note(words))


def _wide_heat(heat: HeatMap, summary: dict[str, Any], looks: dict[str, int]) -> Html:
    """A row per strategy, a column per unit, and the order that follows."""
    rows = []
    for name, bits in heat.rows.items():
        order = summary["strategies"][name]["order"]
        cells = [
            _heat(f"{bit:.2f}", share, _rank_words(order, unit))
            for unit, bit, share in zip(heat.units, bits, heat.shares(name), strict=True)
        ]
        words = order_words(order, summary["unit_names"], " → ")
        head = _strategy_cell(name, looks[name], heat.estimators[name])
        rows.append(tag("tr", head, *cells, tag("td", text(words), class_="implied")))
    return table(("strategy, estimator", *heat.names, "implied order"), rows, "heatmap bits")


def _tall_heat(heat: HeatMap, summary: dict[str, Any], looks: dict[str, int]) -> Html:
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
        rows.append(tag("tr", tag("th", text(unit_name), scope="row"), *cells))
    header = [f"{name} {heat.estimators[name]}".strip() for name in heat.rows]
    return table(("unit", *header), rows, "heatmap tall")


def budget_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    """What each strategy was trained on and what fitting cost."""
    rows = []
    for name, entry in ranked(summary).items():
        cells = [_cell(label, text(figure)) for label, figure in _budget(entry).items()]
        rows.append(tag("tr", _strategy_cell(name, looks[name]), *cells))
    header = ("strategy", *_budget(summary["strategies"][summary["baseline"]]))
    equal = not any("not equal" in caveat for caveat in budget_caveats(summary))
    words = "All strategies had the same" if equal else "The strategies did not have the same"
    return section(
        "Budget",
        table(header, rows, "stack"),
        note(
            f"{words} tokens and FLOPs, fitting included where its FLOPs are known, to within 1 %. "
            "An estimator that counts rather than multiplies has no FLOPs to state: its seconds "
            "count. Seconds are means over seeds."
        ),
    )


def _budget(entry: dict[str, Any]) -> dict[str, str]:
    """One row of the budget by the headings of its columns."""
    train, select = fmean(entry["train_seconds"]), fmean(entry["selection_seconds"])
    flops = entry["selection_flops"]
    return {
        "tokens": si(entry["trained_tokens"]),
        "model FLOPs": si(entry["model_flops"]),
        "FLOPs of fitting": si(flops) if flops else "not known" if select else "none",
        "training": f"{train:,.1f} s",
        "fitting the selector": f"{select:,.2f} s" if select else "none",
        "share of the time": f"{100 * fitting_share(entry):.2f} %" if select else "none",
        "parameters": f"{entry['parameters']:,}",
    }


def _strategy_cell(name: str, look: int, below: str = "") -> Html:
    """The strategy, and what it changes in small letters underneath."""
    strategy, _, changes = name.partition(" ")
    small = tag("small", text(f"{changes} {below}".strip()))
    label = tag("span", Html(swatch(look)), tag("span", text(strategy), small), class_="label")
    return tag("th", label, scope="row", class_="name")


def _cell(label: str, *children: Html, class_: str | None = None) -> Html:
    """A cell that still says what it is when the phone layout stacks the row."""
    return tag("td", tag("span", *children), data_label=label, class_=class_)


def _heat(value: str, share: float, below: str) -> Html:
    """A cell whose tint follows `share`; the figure itself is always printed."""
    small = (tag("small", text(below)),) if below else ()
    strength = round(0.06 + 0.44 * share, 3)
    return tag("td", text(value), *small, class_="heat", style=f"--heat:{strength}")


def _rank_words(order: Sequence[int] | None, unit: int) -> str:
    return f"predicted {ordinal(list(order).index(unit) + 1)}" if order else ""

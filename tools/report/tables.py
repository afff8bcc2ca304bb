"""The tables of the page: result, accuracy and bits of each unit, budget."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tools.report.findings import budget_caveats
from tools.report.marks import swatch
from tools.report.markup import Html, note, section, table, tag, text
from tools.report.summary import ranked
from tools.report.words import metric_words, order_words, ordinal, percent, points, si


def result_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    metric = metric_words(summary)
    versus = f"points against {summary['baseline']}"
    rows = []
    for name, entry in ranked(summary).items():
        pair = summary["paired"].get(name)
        spread = "" if entry["std"] is None else f" ± {percent(entry['std'])}"
        mean = tag("b", text(f"{percent(entry['mean'])} %"))
        seeds = ", ".join(percent(value) for value in entry["per_seed"])
        difference = "baseline" if pair is None else points(pair["difference"], "−")
        rows.append(
            tag(
                "tr",
                _strategy_cell(name, looks[name]),
                _cell("order", text(order_words(entry["order"], summary["unit_names"], " → "))),
                _cell(metric, mean, text(spread), _bar(entry, looks[name]), class_="score"),
                _cell("per seed", text(seeds)),
                _cell(versus, text(difference), class_="number"),
            )
        )
    several = any(entry["std"] is not None for entry in summary["strategies"].values())
    score = f"{metric}, mean ± std" if several else metric
    header = ("strategy", "order of prediction", score, "per seed", versus)
    return section("Result", table(header, rows, "stack"), note(_result_note(summary, several)))


def _result_note(summary: dict[str, Any], several: bool) -> str:
    spread = "± is the sample standard deviation over seeds, dots are single seeds. "
    return (
        f"Held-out problems, last evaluation. {spread if several else ''}Points against "
        f"{summary['baseline']} are the mean difference over the seeds that both have."
    )


def _bar(entry: dict[str, Any], look: int) -> Html:
    """The mean as a bar from 0 to 100 %, the seeds as dots on it."""
    bar = tag("rect", x=0, y=3, width=round(200 * entry["mean"], 1), height=8, rx=2)
    track = tag("rect", x=0, y=3, width=200, height=8, rx=2, class_="track")
    seeds = entry["per_seed"] if len(entry["per_seed"]) > 1 else []
    dots = [tag("circle", cx=round(200 * x, 1), cy=7, r=3.2, class_="dot") for x in seeds]
    return tag(
        "svg",
        track,
        bar,
        *dots,
        viewBox="-4 0 208 14",
        class_=f"bar s{look}",
        aria_hidden="true",
    )


def accuracy_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    every = [a for entry in summary["strategies"].values() for a in entry["unit_accuracy"]]
    rows = []
    for name, entry in ranked(summary).items():
        cells = [
            _heat(
                f"{percent(accuracy)} %",
                _share(accuracy, every),
                _rank_words(entry["order"], unit),
            )
            for unit, accuracy in enumerate(entry["unit_accuracy"])
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
    fitted = {n: e for n, e in summary["strategies"].items() if e["bits"] is not None}
    if not fitted:
        nothing = "No strategy of this comparison fitted an estimator of mutual information."
        return section("Mutual information with the source", note(nothing))
    every = [bit for entry in fitted.values() for bit in entry["bits"]]
    names = summary["unit_names"]
    rows = []
    for name, entry in fitted.items():
        cells = [
            _heat(f"{bit:.2f}", _share(bit, every), _rank_words(entry["order"], unit))
            for unit, bit in enumerate(entry["bits"])
        ]
        order = order_words(entry["order"], names, " → ")
        rows.append(
            tag(
                "tr",
                _strategy_cell(name, looks[name], entry["estimator"] or ""),
                *cells,
                tag("td", text(order), class_="implied"),
            )
        )
    header = ("strategy, estimator", *names, "implied order")
    return section(
        "Mutual information with the source",
        table(header, rows, "heatmap bits"),
        note(
            "Bits that the source tells about each unit, estimated on the training split, mean "
            "over seeds. The stronger the tint, the more; the order follows from them."
        ),
    )


def budget_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    rows = []
    for name, entry in ranked(summary).items():
        cells = [_cell(label, text(figure)) for label, figure in _budget(entry).items()]
        rows.append(tag("tr", _strategy_cell(name, looks[name]), *cells))
    header = ("strategy", *_budget(summary["strategies"][summary["baseline"]]))
    equal = not budget_caveats(summary)
    words = "All strategies had the same" if equal else "The strategies did not have the same"
    below = f"{words} tokens and model FLOPs, to within 1 %. Seconds are means over seeds."
    return section("Budget", table(header, rows, "stack"), note(below))


def _budget(entry: dict[str, Any]) -> dict[str, str]:
    """One row of the budget by the headings of its columns."""
    train, select = fmean(entry["train_seconds"]), fmean(entry["selection_seconds"])
    return {
        "tokens": si(entry["trained_tokens"]),
        "model FLOPs": si(entry["model_flops"]),
        "training": f"{train:,.1f} s",
        "fitting the selector": f"{select:,.2f} s" if select else "none",
        "share of the time": f"{100 * select / (train + select):.2f} %" if select else "none",
        "parameters": f"{entry['parameters']:,}",
    }


def _strategy_cell(name: str, look: int, below: str = "") -> Html:
    words = tag("span", text(name), tag("small", text(below)))
    label = tag("span", swatch(look), words, class_="label")
    return tag("th", label, scope="row", class_="name")


def _cell(label: str, *children: Html, class_: str | None = None) -> Html:
    """A cell that still says what it is when the phone layout stacks the row."""
    return tag("td", tag("span", *children), data_label=label, class_=class_)


def _heat(value: str, share: float, below: str) -> Html:
    """A cell whose tint follows `share`; the figure itself is always printed."""
    small = (tag("small", text(below)),) if below else ()
    strength = round(0.06 + 0.44 * share, 3)
    return tag("td", text(value), *small, class_="heat", style=f"--heat:{strength}")


def _share(value: float, values: Sequence[float]) -> float:
    """Where a value lies between the least and the greatest; 1 where all are the same."""
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 1.0


def _rank_words(order: Sequence[int] | None, unit: int) -> str:
    return "" if order is None else f"predicted {ordinal(list(order).index(unit) + 1)}"

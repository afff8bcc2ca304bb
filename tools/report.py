"""Reports on a comparison of strategies: summary, terminal table, plot and a page to read.

The caller trains one model per strategy and seed and hands over one `RunResult` for each.
Everything here is arithmetic on those figures: no training, no files read, no network.

What counts is the last evaluation of a run, never its best one. Strategies are compared seed
by seed with a baseline, over the seeds that both have.
"""

from __future__ import annotations

import html
import json
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NewType

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

BASELINE = "ntp"
FEATURED = "max_mi"
TABLE_WIDTH = 80
SAMPLES_SHOWN = 12
TILES_SHOWN = 16
ABBREVIATION = 4
# Differences below this (half a point) are called level, whatever their sign.
LEVEL = 0.005
# Budgets further apart than this are called unequal.
BUDGET_TOLERANCE = 0.01

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


# --- Checks -----------------------------------------------------------------------------------


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


# --- Summary ----------------------------------------------------------------------------------


def summarise(comparison: Comparison) -> dict[str, Any]:
    """Figures of the last evaluation per strategy, and paired differences to the baseline.

    `order` is None where the seeds of a strategy used different orders; `orders` has them all.
    `std` is the sample standard deviation, None with one seed.
    """
    check(comparison)
    grouped = _by_strategy(comparison.runs)
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


def _by_strategy(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Runs of each strategy, by seed; strategies in the order in which they first occur."""
    grouped: dict[str, list[RunResult]] = {}
    for run in runs:
        grouped.setdefault(run.strategy, []).append(run)
    return {name: sorted(group, key=lambda run: run.seed) for name, group in grouped.items()}


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
        "unit_accuracy": _column_means([run.unit_accuracy[-1] for run in runs]),
        "bits": _column_means(fitted) if fitted else None,
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


def _column_means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [fmean(column) for column in zip(*rows, strict=True)]


# --- Words and numbers ------------------------------------------------------------------------


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _points(difference: float | None, minus: str = "-") -> str:
    """A difference of fractions in points, with its sign; zero has none."""
    if difference is None:
        return "n/a"
    size = f"{abs(100 * difference):.1f}"
    if float(size) == 0:
        return size
    return ("+" if difference > 0 else minus) + size


def _si(value: float) -> str:
    """A number to three figures with an SI suffix: 1280000 is `1.28 M`."""
    for exponent, suffix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 0.9995 * 10**exponent:
            return f"{value / 10**exponent:.3g} {suffix}"
    return f"{value:.3g} "


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def abbreviate(names: Sequence[str]) -> list[str]:
    """The shortest prefix of each name that is its own; numbers from 1 where one gets long."""
    prefixes = [_own_prefix(name, names) for name in names]
    if any(not 0 < len(prefix) <= ABBREVIATION for prefix in prefixes):
        return [str(number) for number in range(1, len(names) + 1)]
    return prefixes


def _own_prefix(name: str, names: Sequence[str]) -> str:
    for length in range(1, len(name) + 1):
        if sum(other.startswith(name[:length]) for other in names) == 1:
            return name[:length]
    return ""


def _ranked(summary: dict[str, Any]) -> list[str]:
    """Names of the strategies, the highest mean first."""
    strategies = summary["strategies"]
    return sorted(strategies, key=lambda name: -strategies[name]["mean"])


def _order_words(order: Sequence[int] | None, names: Sequence[str], arrow: str) -> str:
    if order is None:
        return "differs by seed"
    return arrow.join(names[unit] for unit in order)


def _metric_words(summary: dict[str, Any]) -> str:
    return str(summary["metric"]).replace("_", " ")


def headline(summary: dict[str, Any]) -> str:
    """What came out, in one sentence, as far as the figures bear it."""
    metric = f"{_metric_words(summary)} on held-out problems"
    baseline = summary["baseline"]
    if not summary["paired"]:
        entry = summary["strategies"][baseline]
        seeds = _seed_words(len(entry["seeds"]))
        return f"{baseline} reaches {_percent(entry['mean'])} % {metric}, {seeds}."
    name = _featured(summary)
    pair = summary["paired"][name]
    if pair["difference"] is None:
        own, base = (summary["strategies"][key]["mean"] for key in (name, baseline))
        return (
            f"{name} reaches {_percent(own)} % {metric} and {baseline} {_percent(base)} %, but "
            "they share no seed, so that they cannot be compared in pairs."
        )
    figures = f"{_percent(pair['mean'])} % against {_percent(pair['baseline_mean'])} % {metric}"
    return _verdict(name, baseline, pair, figures)


def _verdict(name: str, baseline: str, pair: dict[str, Any], figures: str) -> str:
    differences, mean = pair["per_seed"], pair["difference"]
    seeds = _seed_words(len(differences))
    if abs(mean) < LEVEL:
        return f"{name} and {baseline} end level: {figures}, {seeds}."
    side = "ahead of" if mean > 0 else "behind"
    gap = f"{abs(100 * mean):.1f} points {side} {baseline}"
    if len(differences) == 1:
        return f"{name} ends {gap}: {figures}, on a single seed."
    agreeing = sum(difference * mean > 0 for difference in differences)
    if agreeing == len(differences):
        every = "both seeds" if agreeing == 2 else f"every one of {agreeing} seeds"
        return f"{name} ends {gap}, and {side.split()[0]} on {every}: {figures}."
    return (
        f"No clear winner: {name} ends {gap} on average, but is {side.split()[0]} on only "
        f"{agreeing} of {len(differences)} seeds: {figures}."
    )


def _featured(summary: dict[str, Any]) -> str:
    """The strategy that the headline is about: `max_mi`, else the best but the baseline."""
    paired = summary["paired"]
    return FEATURED if FEATURED in paired else next(n for n in _ranked(summary) if n in paired)


def _seed_words(count: int) -> str:
    return "on a single seed" if count == 1 else f"mean of {count} seeds"


def _lead(summary: dict[str, Any]) -> str:
    """The sentences under the headline: who is first of all, and in which order."""
    ranked = _ranked(summary)
    best = summary["strategies"][ranked[0]]
    sentences = []
    if len(ranked) > 2:
        mean = _percent(best["mean"])
        sentences.append(
            f"Of {len(ranked)} strategies, {ranked[0]} has the highest mean, {mean} %."
        )
    name = _featured(summary) if summary["paired"] else ranked[0]
    order = summary["strategies"][name]["order"]
    if order is not None:
        words = _order_words(order, summary["unit_names"], ", then ")
        sentences.append(f"{name} predicts {words}.")
    sentences.append("Every answer was put back into its natural order before it was scored.")
    return " ".join(sentences)


def caveats(summary: dict[str, Any]) -> list[str]:
    """What a reader should know before believing the figures."""
    counts = [len(entry["seeds"]) for entry in summary["strategies"].values()]
    return [
        _seed_caveat(min(counts), max(counts)),
        *_budget_caveats(summary),
        "The last evaluation of each run counts, not its best one. A malformed answer is wrong.",
        "The joint estimator takes the source as one variable. Where the target is a function of "
        "the source, as in arithmetic, it equals the entropy of each digit: ordering by it is "
        "ordering by entropy.",
        "Whether maximal mutual information is the best order depends on the estimator and on "
        "the task. This comparison is evidence for its own only.",
    ]


def _seed_caveat(fewest: int, most: int) -> str:
    if fewest == 1:
        return (
            "One seed says little: another seed can turn the ranking round. Run at least three "
            "seeds of every strategy before drawing a conclusion."
        )
    if fewest == 2:
        return "Two seeds say little about the spread. Run at least three of every strategy."
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return (
        f"Means are over {count} seeds. Differences of the size of the standard "
        "deviation can be chance."
    )


def _budget_caveats(summary: dict[str, Any]) -> list[str]:
    found = []
    for field, words in (("trained_tokens", "tokens"), ("model_flops", "model FLOPs")):
        values = {name: entry[field] for name, entry in summary["strategies"].items()}
        low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        if values[high] - values[low] > BUDGET_TOLERANCE * values[high]:
            found.append(
                f"Budgets are not equal: {high} was trained on {_si(values[high]).strip()} {words}"
                f", {low} on {_si(values[low]).strip()}."
            )
    return found


# --- Terminal table ---------------------------------------------------------------------------


def format_table(summary: dict[str, Any]) -> str:
    """A plain table for a terminal of 80 columns, the highest mean first."""
    baseline = summary["baseline"]
    header = ("strategy", "order", "mean ± std", "per seed", f"vs {_clip(baseline, 10)}")
    rows = [_table_row(name, summary) for name in _ranked(summary)]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(5)]
    # The seeds take what is left, and go on underneath where that is too little.
    spare = TABLE_WIDTH - sum(widths) + widths[3] - 2 * (len(widths) - 1)
    widths[3] = max(min(widths[3], spare), len(header[3]))
    rule = "  ".join("-" * width for width in widths)
    lines = [f"{_metric_words(summary)} at the last evaluation, percent"]
    lines += [*_table_lines(header, widths), rule]
    for row in rows:
        lines += _table_lines(row, widths)
    lines += ["", *textwrap.wrap(_table_legend(summary), TABLE_WIDTH)]
    return "\n".join(_clip(line, TABLE_WIDTH) for line in lines)


def _table_row(name: str, summary: dict[str, Any]) -> tuple[str, str, str, str, str]:
    entry = summary["strategies"][name]
    spread = "" if entry["std"] is None else f" ± {_percent(entry['std'])}"
    pair = summary["paired"].get(name)
    return (
        _clip(name, 16),
        _short_order(entry["order"], summary["unit_names"]),
        _percent(entry["mean"]) + spread,
        " ".join(_percent(value) for value in entry["per_seed"]),
        "-" if pair is None else _points(pair["difference"]),
    )


def _table_lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    lines = []
    for number, seeds in enumerate(textwrap.wrap(row[3], widths[3]) or [""]):
        strategy, order, mean, _, difference = row if number == 0 else ("",) * 5
        cells = (
            strategy.ljust(widths[0]),
            order.ljust(widths[1]),
            mean.ljust(widths[2]),
            seeds.ljust(widths[3]),
            difference.rjust(widths[4]),
        )
        lines.append("  ".join(cells).rstrip())
    return lines


def _short_order(order: Sequence[int] | None, names: Sequence[str], width: int = 17) -> str:
    """The order in abbreviated names if they fit, else in numbers counted from 1."""
    by_name = _order_words(order, abbreviate(names), ">")
    if len(by_name) <= width:
        return by_name
    numbers = [str(index + 1) for index in range(len(names))]
    return _clip(_order_words(order, numbers, ">"), width)


def _table_legend(summary: dict[str, Any]) -> str:
    return (
        f"order: what is predicted first stands first ({_unit_legend(summary)}). ±: sample "
        f"standard deviation over seeds. vs {summary['baseline']}: mean difference in points "
        "over shared seeds."
    )


def _unit_legend(summary: dict[str, Any]) -> str:
    """What the abbreviations and the numbers of units stand for."""
    names = summary["unit_names"]
    entries = []
    for number, (short, name) in enumerate(zip(abbreviate(names), names, strict=True), start=1):
        keys = str(number) if short == str(number) else f"{number} or {short}"
        entries.append(f"{keys} = {name}")
    return ", ".join(entries)


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


# --- Looks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """How a strategy is drawn. Dash and marker tell it apart where colour does not."""

    light: str
    """Colour on white."""
    dark: str
    """Colour on black."""
    dash: tuple[float, ...]
    """Dash pattern in line widths; empty for a solid line."""
    marker: str
    """Matplotlib's letter of the marker."""


# Okabe and Ito's colours, darkened where they would be too pale for a line on white.
LOOKS = (
    Look("#474f5c", "#d3dae3", (5, 2), "s"),
    Look("#0072b2", "#4aa8e8", (), "o"),
    Look("#d55e00", "#ff8c42", (), "^"),
    Look("#009e73", "#2fc79a", (6, 2, 1, 2), "D"),
    Look("#c765a2", "#d264a8", (2, 1.5), "v"),
    Look("#6b4a00", "#f0d860", (8, 2), "P"),
    Look("#2aa5e0", "#9ad4ff", (4, 1, 1, 1, 1, 1), "X"),
)
# A strategy keeps its look from one report to the next.
PREFERRED = {
    name: index
    for index, name in enumerate(
        ("ntp", "max_mi", "reverse", "frequency", "random", "min_mi", "fixed")
    )
}


def _looks(strategies: Iterable[str]) -> dict[str, int]:
    """Index into `LOOKS` of each strategy; only more than seven strategies share one."""
    names = list(strategies)
    chosen = {name: PREFERRED[name] for name in names if name in PREFERRED}
    free = [index for index in range(len(LOOKS)) if index not in chosen.values()]
    unknown = [name for name in names if name not in chosen]
    for number, name in enumerate(unknown):
        chosen[name] = free[number] if number < len(free) else number % len(LOOKS)
    return chosen


# --- Plot -------------------------------------------------------------------------------------


def plot(comparison: Comparison, path: Path) -> None:
    """Draws the metric against trained tokens, 900 by 550 pixels, as PNG."""
    check(comparison)
    figure = Figure(figsize=(9.0, 5.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    summary = summarise(comparison)
    grouped = _by_strategy(comparison.runs)
    looks = _looks(grouped)
    for rank, name in enumerate(_ranked(summary)):
        label = f"{_clip(name, 24)}: {_legend_order(summary, name)}"
        _draw_strategy(axes, grouped[name], LOOKS[looks[name]], label, 3 + len(grouped) - rank)
    _dress(axes, comparison, summary)
    _add_legend(figure)
    with path.open("wb") as file:
        canvas.print_figure(file, format="png")


def _legend_order(summary: dict[str, Any], name: str) -> str:
    order, names = summary["strategies"][name]["order"], summary["unit_names"]
    words = _order_words(order, names, ", ")
    return words if len(words) <= 40 else _short_order(order, names, 40)


def _draw_strategy(
    axes: Axes, runs: Sequence[RunResult], look: Look, label: str, layer: int
) -> None:
    if len(runs) > 1:
        for run in runs:
            percent = [100 * value for value in run.metric]
            axes.plot(run.tokens, percent, color=look.light, linewidth=0.9, alpha=0.35)
    means = [100 * value for value in _column_means([run.metric for run in runs])]
    (line,) = axes.plot(
        runs[0].tokens,
        means,
        label=label,
        color=look.light,
        linewidth=2.2,
        marker=look.marker,
        markersize=8 if look.marker in "PX" else 6.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        markevery=max(1, len(means) // 10),
        clip_on=False,
        zorder=layer,
    )
    if look.dash:
        line.set_dashes(look.dash)


def _dress(axes: Axes, comparison: Comparison, summary: dict[str, Any]) -> None:
    """Title, labels, grid and limits."""
    ink, muted = "#1d2530", "#5b6472"
    title = "\n".join(textwrap.wrap(comparison.title, 70, max_lines=2, placeholder=" …"))
    axes.set_title(
        title, loc="left", fontsize=14, fontweight="bold", color=ink, pad=12, parse_math=False
    )
    label = f"{_metric_words(summary)} on held-out problems (%)"
    axes.set_ylabel(label, fontsize=11, color=ink, parse_math=False)
    axes.set_xlabel(f"trained tokens   ({_seeds_note(summary)})", fontsize=11, color=ink)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _si(value).strip()))
    axes.set_xlim(0, max(1, *(run.tokens[-1] for run in comparison.runs)))
    axes.set_ylim(0, 100 * _ceiling(comparison))
    axes.grid(axis="y", color="#d9dee5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#a9b2bf")
    axes.tick_params(colors=muted, labelsize=10, length=0, pad=6)


def _add_legend(figure: Figure) -> None:
    """Underneath the axes, where it covers no curve."""
    legend = figure.legend(
        loc="outside lower left",
        ncols=2,
        fontsize=10,
        frameon=False,
        title="strategy: order of prediction",
        title_fontsize=10,
        alignment="left",
        handlelength=3.6,
        columnspacing=2.5,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _seeds_note(summary: dict[str, Any]) -> str:
    counts = {len(entry["seeds"]) for entry in summary["strategies"].values()}
    if counts == {1}:
        return "one seed per strategy"
    if len(counts) == 1:
        return f"thick: mean of {counts.pop()} seeds, thin: single seeds"
    return "thick: mean over seeds, thin: single seeds"


def _ceiling(comparison: Comparison) -> float:
    """Upper end of the metric's axis: 1, or a round number when all curves stay low."""
    highest = max(max(run.metric) for run in comparison.runs)
    return next(top for top in (0.05, 0.1, 0.2, 0.5, 1.0) if highest <= 0.95 * top or top == 1.0)


# --- HTML building blocks ---------------------------------------------------------------------

# Text that is escaped already. A type of its own, so that a type checker finds what is not.
Html = NewType("Html", str)


def _text(value: object) -> Html:
    return Html(html.escape(str(value)))


def _join(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def _tag(tag: str, *children: Html, **attributes: object) -> Html:
    """One element. `class_` stands for class; other underscores in names become hyphens."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{written}>{''.join(children)}</{tag}>")


def _section(title: str, *children: Html) -> Html:
    return _tag("section", _tag("h2", _text(title)), *children)


def _note(text: str) -> Html:
    return _tag("p", _text(text), class_="note")


def _table(header: Sequence[str], rows: Iterable[Html], class_: str) -> Html:
    cells = [_tag("th", _text(title), scope="col") for title in header]
    head = _tag("thead", _tag("tr", *cells))
    table = _tag("table", head, _tag("tbody", *rows), class_=class_)
    return _tag("div", table, class_="scroll")


# --- SVG curves -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """Geometry of the learning curves: data to pixels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_max: float
    y_max: float

    def x(self, tokens: float) -> float:
        """Pixels from the left edge."""
        inner = self.width - self.left - self.right
        return round(self.left + inner * tokens / self.x_max, 1)

    def y(self, fraction: float) -> float:
        """Pixels from the upper edge."""
        inner = self.height - self.top - self.bottom
        return round(self.height - self.bottom - inner * fraction / self.y_max, 1)


def _curves(comparison: Comparison, summary: dict[str, Any], wide: bool) -> Html:
    """Learning curves as inline SVG: a wide one with names at the ends, one for phones."""
    x_max = float(max(1, *(run.tokens[-1] for run in comparison.runs)))
    y_max = _ceiling(comparison)
    if wide:
        frame = Frame(900, 400, 48, 165, 14, 46, x_max, y_max)
    else:
        frame = Frame(360, 300, 50, 16, 12, 44, x_max, y_max)
    grouped = _by_strategy(comparison.runs)
    looks = _looks(grouped)
    # The best one is drawn last, on top.
    names = list(reversed(_ranked(summary)))
    lines = [_curve(name, grouped[name], looks[name], frame) for name in names]
    labels = _end_labels(summary, frame) if wide else Html("")
    return _tag(
        "svg",
        _axes(frame, _metric_words(summary)),
        *lines,
        labels,
        viewBox=f"0 0 {frame.width} {frame.height}",
        class_="curves wide" if wide else "curves narrow",
        role="img",
        aria_label=f"{_metric_words(summary)} against trained tokens, one curve per strategy",
    )


def _axes(frame: Frame, metric: str) -> Html:
    floor = frame.height - frame.bottom
    end = frame.width - frame.right
    parts = []
    for value in MaxNLocator(5).tick_values(0, 100 * frame.y_max):
        if 0 <= value <= 100 * frame.y_max + 1e-9:
            y = frame.y(value / 100)
            class_ = "axis" if value == 0 else "grid"
            parts.append(_tag("line", x1=frame.left, x2=end, y1=y, y2=y, class_=class_))
            mark = _text(f"{value:g} %")
            parts.append(_tag("text", mark, x=frame.left - 8, y=y + 4, text_anchor="end"))
    for value in MaxNLocator(5).tick_values(0, frame.x_max):
        if 0 <= value <= frame.x_max:
            mark = _text(_si(value).strip())
            parts.append(_tag("text", mark, x=frame.x(value), y=floor + 18, text_anchor="middle"))
    middle = (frame.left + end) / 2
    title = _text(f"trained tokens (upwards: {metric})")
    parts.append(
        _tag("text", title, x=middle, y=frame.height - 6, text_anchor="middle", class_="title")
    )
    return _tag("g", *parts)


def _curve(name: str, runs: Sequence[RunResult], look: int, frame: Frame) -> Html:
    tokens = runs[0].tokens
    means = _column_means([run.metric for run in runs])
    parts = []
    if len(runs) > 1:
        parts = [_polyline(tokens, run.metric, frame, "seed", None) for run in runs]
    dash = " ".join(f"{2.4 * length:g}" for length in LOOKS[look].dash) or None
    parts.append(_polyline(tokens, means, frame, "mean", dash))
    step = max(1, len(means) // 10)
    for index in range(len(means) - 1, -1, -step):
        place = f"{name}, {_si(tokens[index]).strip()} tokens: {_percent(means[index])} %"
        marker = _marker(LOOKS[look].marker, frame.x(tokens[index]), frame.y(means[index]))
        parts.append(_tag("g", _tag("title", _text(place)), marker))
    return _tag("g", *parts, class_=f"s{look}")


def _polyline(
    tokens: Sequence[int], values: Sequence[float], frame: Frame, class_: str, dash: str | None
) -> Html:
    pairs = zip(tokens, values, strict=True)
    points = " ".join(f"{frame.x(token)},{frame.y(value)}" for token, value in pairs)
    return _tag("polyline", points=points, class_=class_, stroke_dasharray=dash)


# Corners of each marker around its middle, in pixels; the disc has none.
_CORNERS = {
    "s": "-3.6,-3.6 3.6,-3.6 3.6,3.6 -3.6,3.6",
    "^": "0,-4.7 4.3,3.4 -4.3,3.4",
    "v": "0,4.7 4.3,-3.4 -4.3,-3.4",
    "D": "0,-5 5,0 0,5 -5,0",
    "P": "-1.7,-4.6 1.7,-4.6 1.7,-1.7 4.6,-1.7 4.6,1.7 1.7,1.7 1.7,4.6 -1.7,4.6 -1.7,1.7 "
    "-4.6,1.7 -4.6,-1.7 -1.7,-1.7",
    "X": "-4.6,-2.5 -2.5,-4.6 0,-2.1 2.5,-4.6 4.6,-2.5 2.1,0 4.6,2.5 2.5,4.6 0,2.1 "
    "-2.5,4.6 -4.6,2.5 -2.1,0",
}


def _marker(kind: str, x: float, y: float) -> Html:
    place = f"translate({x} {y})"
    if kind in _CORNERS:
        return _tag("polygon", points=_CORNERS[kind], transform=place, class_="marker")
    return _tag("circle", r=4.2, transform=place, class_="marker")


def _end_labels(summary: dict[str, Any], frame: Frame) -> Html:
    """Names at the right ends of the curves, pushed apart where they would overlap."""
    strategies = summary["strategies"]
    wanted = [(frame.y(strategies[name]["mean"]), name) for name in _ranked(summary)]
    parts = []
    for y, (_, name) in zip(_spread([y for y, _ in wanted], frame), wanted, strict=True):
        x = frame.x(strategies[name]["trained_tokens"]) + 12
        words = _text(f"{_clip(name, 12)} ")
        mean = _tag("tspan", _text(f"{_percent(strategies[name]['mean'])} %"), class_="value")
        parts.append(_tag("text", words, mean, x=x, y=round(y + 4, 1), class_="end"))
    return _tag("g", *parts)


def _spread(places: Sequence[float], frame: Frame, gap: float = 18.0) -> list[float]:
    """Ascending places, at least `gap` apart and above the floor of the frame if they fit."""
    apart: list[float] = []
    for place in places:
        apart.append(max(place, apart[-1] + gap) if apart else place)
    floor: float = frame.height - frame.bottom
    for index in range(len(apart) - 1, -1, -1):
        apart[index] = min(apart[index], floor)
        floor = apart[index] - gap
    return apart


def _swatch(look: int) -> Html:
    """A short piece of the strategy's curve, for legends and tables."""
    dash = " ".join(f"{2.4 * length:g}" for length in LOOKS[look].dash) or None
    line = _tag("polyline", points="1,7 33,7", class_="mean", stroke_dasharray=dash)
    marker = _marker(LOOKS[look].marker, 17, 7)
    return _tag(
        "svg",
        line,
        marker,
        viewBox="0 0 34 14",
        class_=f"swatch s{look}",
        aria_hidden="true",
    )


# --- HTML page --------------------------------------------------------------------------------


def render_html(comparison: Comparison, summary: dict[str, Any], path: Path) -> None:
    """Writes one self-contained page: no scripts, nothing to load."""
    check(comparison)
    looks = _looks(_by_strategy(comparison.runs))
    body = _tag(
        "main",
        _header(comparison, summary),
        _section("Result", _result_table(summary, looks)),
        _curves_section(comparison, summary, looks),
        _accuracy_section(summary, looks),
        _bits_section(summary, looks),
        _samples_section(comparison, summary, looks),
        _budget_section(summary, looks),
        _section("Before you believe it", _caveat_list(summary)),
        _reproduce_section(comparison),
    )
    path.write_text(_document(comparison.title, body), encoding="utf-8")


def _document(title: str, body: Html) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{_text(title)}</title>\n<style>{_css()}</style>\n</head>\n"
        f"<body>{body}</body>\n</html>\n"
    )


def _header(comparison: Comparison, summary: dict[str, Any]) -> Html:
    return _tag(
        "header",
        _tag("p", _text(comparison.title), class_="title"),
        _tag("h1", _text(headline(summary))),
        _tag("p", _text(_lead(summary)), class_="lead"),
    )


def _strategy_cell(name: str, look: int, below: str = "") -> Html:
    words = _tag("span", _text(name), _tag("small", _text(below)))
    label = _tag("span", _swatch(look), words, class_="label")
    return _tag("th", label, scope="row", class_="name")


def _cell(label: str, *children: Html, class_: str | None = None) -> Html:
    """A cell that still says what it is when the phone layout stacks the row."""
    return _tag("td", _tag("span", *children), data_label=label, class_=class_)


def _result_table(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    metric = _metric_words(summary)
    versus = f"points against {summary['baseline']}"
    rows = []
    for name in _ranked(summary):
        entry, pair = summary["strategies"][name], summary["paired"].get(name)
        spread = "" if entry["std"] is None else f" ± {_percent(entry['std'])}"
        mean = _tag("b", _text(f"{_percent(entry['mean'])} %"))
        seeds = ", ".join(_percent(value) for value in entry["per_seed"])
        difference = "baseline" if pair is None else _points(pair["difference"], "−")
        rows.append(
            _tag(
                "tr",
                _strategy_cell(name, looks[name]),
                _cell("order", _text(_order_words(entry["order"], summary["unit_names"], " → "))),
                _cell(metric, mean, _text(spread), _bar(entry, looks[name]), class_="score"),
                _cell("per seed", _text(seeds)),
                _cell(versus, _text(difference), class_="number"),
            )
        )
    several = any(entry["std"] is not None for entry in summary["strategies"].values())
    score = f"{metric}, mean ± std" if several else metric
    header = ("strategy", "order of prediction", score, "per seed", versus)
    return _join((_table(header, rows, "stack"), _note(_result_note(summary, several))))


def _result_note(summary: dict[str, Any], several: bool) -> str:
    spread = "± is the sample standard deviation over seeds, dots are single seeds. "
    return (
        f"Held-out problems, last evaluation. {spread if several else ''}Points against "
        f"{summary['baseline']} are the mean difference over the seeds that both have."
    )


def _bar(entry: dict[str, Any], look: int) -> Html:
    """The mean as a bar from 0 to 100 %, the seeds as dots on it."""
    bar = _tag("rect", x=0, y=3, width=round(200 * entry["mean"], 1), height=8, rx=2)
    track = _tag("rect", x=0, y=3, width=200, height=8, rx=2, class_="track")
    seeds = entry["per_seed"] if len(entry["per_seed"]) > 1 else []
    dots = [_tag("circle", cx=round(200 * x, 1), cy=7, r=3.2, class_="dot") for x in seeds]
    return _tag(
        "svg",
        track,
        bar,
        *dots,
        viewBox="-4 0 208 14",
        class_=f"bar s{look}",
        aria_hidden="true",
    )


def _curves_section(comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]) -> Html:
    items = []
    for name in _ranked(summary):
        order = _order_words(summary["strategies"][name]["order"], summary["unit_names"], " → ")
        words = _tag("span", _tag("b", _text(name)), _text(f" {order}"))
        items.append(_tag("li", _swatch(looks[name]), words))
    return _section(
        "Learning curves",
        _tag("ul", *items, class_="legend"),
        _curves(comparison, summary, wide=True),
        _curves(comparison, summary, wide=False),
        _note(f"{_seeds_note(summary).capitalize()}. Hover over a marker for its value."),
    )


def _heat(value: str, share: float, below: str = "") -> Html:
    """A cell whose tint follows `share`; the figure itself is always printed."""
    small = (_tag("small", _text(below)),) if below else ()
    strength = round(0.06 + 0.44 * share, 3)
    return _tag("td", _text(value), *small, class_="heat", style=f"--heat:{strength}")


def _share(value: float, values: Sequence[float]) -> float:
    """Where a value lies between the least and the greatest; 1 where all are the same."""
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 1.0


def _accuracy_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    names = summary["unit_names"]
    every = [a for entry in summary["strategies"].values() for a in entry["unit_accuracy"]]
    rows = []
    for name in _ranked(summary):
        entry = summary["strategies"][name]
        cells = [
            _heat(
                f"{_percent(accuracy)} %",
                _share(accuracy, every),
                _rank_words(entry["order"], unit),
            )
            for unit, accuracy in enumerate(entry["unit_accuracy"])
        ]
        rows.append(_tag("tr", _strategy_cell(name, looks[name]), *cells))
    return _section(
        "Accuracy of each unit of the answer",
        _table(("strategy", *names), rows, "heatmap"),
        _note(
            "Share of right units at the last evaluation, mean over seeds, in natural order. "
            "Below each: when it was predicted. The stronger the tint, the higher in this table. A "
            "whole answer is right only if all its units are."
        ),
    )


def _rank_words(order: Sequence[int] | None, unit: int) -> str:
    return "" if order is None else f"predicted {_ordinal(list(order).index(unit) + 1)}"


def _bits_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    fitted = {n: e for n, e in summary["strategies"].items() if e["bits"] is not None}
    if not fitted:
        text = "No strategy of this comparison fitted an estimator of mutual information."
        return _section("Mutual information with the source", _note(text))
    every = [bit for entry in fitted.values() for bit in entry["bits"]]
    names = summary["unit_names"]
    rows = []
    for name, entry in fitted.items():
        cells = [
            _heat(f"{bit:.2f}", _share(bit, every), _rank_words(entry["order"], unit))
            for unit, bit in enumerate(entry["bits"])
        ]
        order = _order_words(entry["order"], names, " → ")
        rows.append(
            _tag(
                "tr",
                _strategy_cell(name, looks[name], entry["estimator"] or ""),
                *cells,
                _tag("td", _text(order), class_="implied"),
            )
        )
    header = ("strategy, estimator", *names, "implied order")
    return _section(
        "Mutual information with the source",
        _table(header, rows, "heatmap bits"),
        _note(
            "Bits that the source tells about each unit, estimated on the training split, mean "
            "over seeds. The stronger the tint, the more; the order follows from them."
        ),
    )


# --- HTML page: samples -----------------------------------------------------------------------


def _samples_section(
    comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]
) -> Html:
    grouped = _by_strategy(comparison.runs)
    opened = {summary["baseline"], _featured(summary) if summary["paired"] else ""}
    blocks = [
        _samples_block(grouped[name][0], looks[name], name in opened) for name in _ranked(summary)
    ]
    names = summary["unit_names"]
    short = zip(abbreviate(names), names, strict=True)
    legend = ", ".join(f"{abbreviation} = {name}" for abbreviation, name in short)
    return _section(
        "Problems and answers",
        _note(
            f"The first {SAMPLES_SHOWN} problems of the last evaluation at most, as they came, "
            "not picked. Digits stand in the order in which the model predicted them: above each "
            f"its rank, below it its place in the answer ({legend}). ✗ and a broken frame mark a "
            "wrong digit."
        ),
        *blocks,
    )


def _samples_block(run: RunResult, look: int, opened: bool) -> Html:
    shown = run.samples[:SAMPLES_SHOWN]
    right = sum(bool(sample["correct"]) for sample in shown)
    count = f" {right} of {len(shown)} right, seed {run.seed}" if shown else " no samples kept"
    head = _tag("summary", _swatch(look), _tag("b", _text(run.strategy)), _text(count))
    cards = _tag("ul", *(_sample(sample, run) for sample in shown), class_="samples")
    # `open` has no value in HTML; an empty one is the same.
    return _tag("details", head, cards, open="" if opened else None)


def _sample(sample: dict[str, Any], run: RunResult) -> Html:
    good = bool(sample["correct"])
    verdict = _tag("span", _text("✓ right" if good else "✗ wrong"), class_="verdict")
    read = _tag("span", _text(f"read as {sample['prediction']}"))
    truth = Html("") if good else _tag("span", _text(f"correct {sample['target']}"))
    return _tag(
        "li",
        _tag("div", _tag("code", _text(sample["source"])), verdict, class_="problem"),
        _tag("div", *_tiles(sample, run), class_="tiles"),
        _tag("div", read, truth, class_="read"),
        class_="good" if good else "bad",
    )


def _tiles(sample: dict[str, Any], run: RunResult) -> list[Html]:
    """The digits as they were predicted. A malformed answer has no places, only ranks."""
    raw, target = str(sample["raw"]), str(sample["target"])
    units: list[int | None] = [None] * len(raw)
    if len(raw) == len(target) == len(run.order):
        units = list(run.order)
    tiles = [
        _tile(rank, digit, run, unit, not sample["correct"] and _differs(target, unit, digit))
        for rank, (digit, unit) in enumerate(zip(raw, units, strict=True))
    ]
    if len(tiles) > TILES_SHOWN:
        tiles = [*tiles[:TILES_SHOWN], _tag("span", _text("…"))]
    return tiles or [_tag("span", _text("empty answer"), class_="note")]


def _differs(target: str, unit: int | None, digit: str) -> bool:
    return unit is None or target[unit] != digit


def _tile(rank: int, digit: str, run: RunResult, unit: int | None, wrong: bool) -> Html:
    place = "?" if unit is None else abbreviate(run.unit_names)[unit]
    return _tag(
        "span",
        _tag("i", _text(rank + 1)),
        _tag("b", _text(digit)),
        _tag("small", _text(f"{place} ✗" if wrong else place)),
        class_="tile off" if wrong else "tile",
        title=_tile_title(rank, None if unit is None else run.unit_names[unit]),
    )


def _tile_title(rank: int, unit: str | None) -> str:
    return f"predicted {_ordinal(rank + 1)}: " + (unit or "the answer has the wrong length")


# --- HTML page: budget, caveats, reproduction -------------------------------------------------


def _budget_section(summary: dict[str, Any], looks: dict[str, int]) -> Html:
    rows = []
    for name in _ranked(summary):
        entry = summary["strategies"][name]
        train, select = fmean(entry["train_seconds"]), fmean(entry["selection_seconds"])
        share = select / (train + select) if train + select > 0 else 0.0
        rows.append(
            _tag(
                "tr",
                _strategy_cell(name, looks[name]),
                _cell("tokens", _text(_si(entry["trained_tokens"]).strip())),
                _cell("model FLOPs", _text(_si(entry["model_flops"]).strip())),
                _cell("training", _text(f"{train:,.1f} s")),
                _cell("fitting the selector", _text(f"{select:,.2f} s" if select else "none")),
                _cell("share of the time", _text(f"{100 * share:.2f} %" if select else "none")),
                _cell("parameters", _text(f"{entry['parameters']:,}")),
            )
        )
    header = (
        "strategy",
        "tokens",
        "model FLOPs",
        "training",
        "fitting the selector",
        "share of the time",
        "parameters",
    )
    equal = not _budget_caveats(summary)
    words = "All strategies had the same" if equal else "The strategies did not have the same"
    text = f"{words} tokens and model FLOPs, to within 1 %. Seconds are means over seeds."
    return _section("Budget", _table(header, rows, "stack"), _note(text))


def _caveat_list(summary: dict[str, Any]) -> Html:
    return _tag("ul", *(_tag("li", _text(text)) for text in caveats(summary)))


def _reproduce_section(comparison: Comparison) -> Html:
    facts = [("commit", comparison.commit or "unknown"), *sorted(comparison.environment.items())]
    pairs = (_join((_tag("dt", _text(k)), _tag("dd", _text(v)))) for k, v in facts)
    return _section(
        "Run it again",
        _tag("pre", _tag("code", _text(comparison.command)), class_="command"),
        _tag("dl", *pairs),
        _tag(
            "details",
            _tag("summary", _text("Configuration")),
            _tag("pre", _tag("code", _text(comparison.config_yaml))),
        ),
    )


# --- CSS --------------------------------------------------------------------------------------


def _css() -> str:
    """The style sheet, with the strategies' colours in both modes."""
    light = "".join(f"--s{index}:{look.light};" for index, look in enumerate(LOOKS))
    dark = "".join(f"--s{index}:{look.dark};" for index, look in enumerate(LOOKS))
    strategies = "".join(f".s{index}{{--c:var(--s{index})}}" for index in range(len(LOOKS)))
    return (
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
        f"{strategies}{_STYLE}"
    )


_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f6f7f9; --ink: #1d2530;
  --muted: #566070; --rule: #dde1e7; --tint: 0, 114, 178; --good: #00694c; --bad: #a83a00; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181e; --card: #1d232b; --ink: #e8ebf0; --muted: #a3adba; --rule: #343c47;
    --tint: 74, 168, 232; --good: #5fd3ac; --bad: #ff9d66; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
header { border-bottom: 1px solid var(--rule); padding-bottom: 1.5rem; }
header .title { margin: 0 0 .5rem; color: var(--muted); overflow-wrap: anywhere; }
h1 { font-size: clamp(1.4rem, 1rem + 2vw, 2rem); line-height: 1.25; margin: 0 0 .75rem;
  text-wrap: pretty; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; }
.lead { margin: 0; max-width: 46rem; font-size: 1.05rem; overflow-wrap: anywhere; }
.note { color: var(--muted); font-size: .875rem; max-width: 46rem; margin: .75rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .5rem .75rem .5rem 0; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
thead th { color: var(--muted); font-size: .8125rem; font-weight: 500; vertical-align: bottom; }
th.name { font-weight: 600; overflow-wrap: anywhere; min-width: 8rem; }
.label { display: flex; align-items: flex-start; }
.label .swatch { margin-top: .32rem; }
.label small { display: block; font-weight: 400; color: var(--muted); }
.swatch { width: 34px; height: 14px; margin-right: .5rem; vertical-align: -1px; flex: none; }
.score { min-width: 11rem; }
.bar { display: block; width: 100%; max-width: 13rem; height: 14px; margin-top: .15rem; }
.bar rect { fill: var(--c); }
.bar .track { fill: var(--rule); }
.bar .dot { fill: var(--paper); stroke: var(--ink); stroke-width: 1.3; }
.mean { fill: none; stroke: var(--c); stroke-width: 2.4; stroke-linejoin: round; }
.seed { fill: none; stroke: var(--c); stroke-width: 1; opacity: .4; }
.marker { fill: var(--c); stroke: var(--paper); stroke-width: 1; }
.curves { display: block; width: 100%; height: auto; }
.curves.narrow { display: none; }
.curves text { fill: var(--muted); font-size: 13px; }
.curves .end { fill: var(--ink); font-weight: 600; }
.curves .value { fill: var(--muted); font-weight: 400; }
.grid { stroke: var(--rule); }
.axis { stroke: var(--muted); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; padding: 0;
  margin: 0 0 1rem; font-size: .875rem; }
.legend li { display: flex; align-items: flex-start; }
.legend .swatch { margin-top: .22rem; }
.heatmap th, .heatmap td { padding: .5rem .6rem; }
.heatmap th:first-child { padding-left: 0; }
.heat { background: rgba(var(--tint), var(--heat)); border: 2px solid var(--paper);
  text-align: center; min-width: 5rem; }
.heatmap thead th:not(:first-child) { text-align: center; }
.heat small { display: block; color: var(--ink); font-size: .75rem; opacity: .85; }
.implied { font-size: .875rem; min-width: 9rem; }
details { border: 1px solid var(--rule); border-radius: 8px; margin: .75rem 0; }
summary { cursor: pointer; padding: .65rem .9rem; overflow-wrap: anywhere; }
.samples { list-style: none; margin: 0; padding: 0 .9rem .9rem; display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); }
.samples li { margin: 0; background: var(--card); border-radius: 6px; padding: .55rem .7rem;
  border-left: 4px solid var(--good); min-width: 0; }
.samples li.bad { border-left: 4px dashed var(--bad); }
.problem, .read { display: flex; justify-content: space-between; gap: .5rem; flex-wrap: wrap; }
.problem code { font-size: 1rem; overflow-wrap: anywhere; }
.read { color: var(--muted); font-size: .8125rem; overflow-wrap: anywhere; }
.verdict { font-size: .8125rem; font-weight: 600; color: var(--good); }
.bad .verdict { color: var(--bad); }
.tiles { display: flex; flex-wrap: wrap; gap: .3rem; margin: .4rem 0; }
.tile { display: grid; justify-items: center; min-width: 2.2rem; padding: .1rem .25rem;
  border: 1.5px solid var(--rule); border-radius: 5px; background: var(--paper);
  line-height: 1.25; }
.tile i { font-style: normal; font-size: .6875rem; color: var(--muted); }
.tile b { font: 600 1.15rem ui-monospace, "Liberation Mono", monospace; white-space: pre; }
.tile small { font-size: .6875rem; color: var(--muted); white-space: nowrap; }
.tile.off { border: 1.5px dashed var(--bad); }
.tile.off b, .tile.off small { color: var(--bad); }
pre { background: var(--card); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto;
  font-size: .875rem; margin: .75rem 0; }
.command { white-space: pre-wrap; overflow-wrap: anywhere; }
details pre { margin: 0 .9rem .9rem; }
code { font-family: ui-monospace, "Liberation Mono", monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem;
  font-size: .9rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
li { margin: .3rem 0; }
@media (max-width: 640px) {
  main { padding: 1.5rem 1rem 3rem; }
  .curves.wide { display: none; }
  .curves.narrow { display: block; }
  .stack thead { display: none; }
  .stack tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--rule); }
  .stack th, .stack td { display: flex; border: 0; padding: .15rem 0; gap: .75rem; }
  .stack td::before { content: attr(data-label); flex: 0 0 38%; color: var(--muted);
    font-size: .875rem; }
  .stack td > span { flex: 1; min-width: 0; }
  .heatmap th, .heatmap td { padding: .4rem .35rem; font-size: .8125rem; }
  .heatmap .label { display: block; }
  .bits thead th:last-child, .implied { display: none; }
  .heatmap .swatch { display: block; margin: 0 0 .15rem; }
  .heatmap th.name { min-width: 4.2rem; }
  .heat { min-width: 3.9rem; }
  .samples { grid-template-columns: repeat(auto-fill, minmax(9.6rem, 1fr)); gap: .45rem;
    padding: 0 .5rem .5rem; }
  .samples li { padding: .45rem .5rem; }
  .tile { min-width: 1.95rem; padding: .1rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; }
}
"""


# --- Files ------------------------------------------------------------------------------------


def write_report(comparison: Comparison, out: Path) -> dict[str, Any]:
    """Writes comparison.json, comparison.png and report.html into `out`; returns the summary.

    All three are rendered beside their places before the first is moved, so that an error
    leaves an earlier report as it was.
    """
    summary = summarise(comparison)
    record = {
        **summary,
        "title": comparison.title,
        "command": comparison.command,
        "config_yaml": comparison.config_yaml,
        "runs": [asdict(run) for run in comparison.runs],
    }
    _write_together(
        {
            out / "comparison.json": lambda path: _write_json(record, path),
            out / "comparison.png": lambda path: plot(comparison, path),
            out / "report.html": lambda path: render_html(comparison, summary, path),
        }
    )
    return summary


def _write_json(record: dict[str, Any], path: Path) -> None:
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_together(writers: dict[Path, Callable[[Path], None]]) -> None:
    beside = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in writers}
    try:
        for path, write in writers.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(beside[path])
        for path, temporary in beside.items():
            os.replace(temporary, path)
    finally:
        for temporary in beside.values():
            temporary.unlink(missing_ok=True)

"""What a comparison shows, in sentences: headline, lead and caveats."""

from __future__ import annotations

from typing import Any

from tools.report.measures import Measure, headline_measure
from tools.report.summary import featured, ranked
from tools.report.words import UNITS_SHOWN, held_out, order_words, si

# Differences below this are called level, whatever their sign: half a point of a share, a
# thousandth of the baseline's mean of any other metric.
LEVEL = 0.005
LEVEL_RATIO = 0.001
# Budgets further apart than this are called unequal.
BUDGET_TOLERANCE = 0.01
JOINT = (
    "The joint estimator takes the source as one variable. Where the target is a function of "
    "the source, as in arithmetic, it equals the entropy of each digit: ordering by it is "
    "ordering by entropy."
)


def headline(summary: dict[str, Any]) -> str:
    """What came out, in one sentence, as far as the figures bear it."""
    measure = headline_measure(summary)
    metric = f"{measure.words} on {held_out(summary)}"
    baseline = summary["baseline"]
    if not summary["paired"]:
        entry = summary["strategies"][baseline]
        seeds = _seed_words(len(entry["seeds"]))
        return f"{baseline} reaches {measure.value(entry['mean'])} {metric}, {seeds}."
    name = featured(summary)
    pair = summary["paired"][name]
    if pair["difference"] is None:
        own, base = (measure.value(summary["strategies"][key]["mean"]) for key in (name, baseline))
        return (
            f"{name} reaches {own} {metric} and {baseline} {base}, but "
            "they share no seed, so that they cannot be compared in pairs."
        )
    lower = "" if measure.higher_is_better else f" ({measure.better})"
    figures = (
        f"{measure.value(pair['mean'])} against {measure.value(pair['baseline_mean'])} "
        f"{metric}{lower}"
    )
    return _verdict(name, pair, measure, figures)


def _verdict(name: str, pair: dict[str, Any], measure: Measure, figures: str) -> str:
    gains = [measure.gain(difference) for difference in pair["per_seed"]]
    mean, baseline = measure.gain(pair["difference"]), pair["against"]
    seeds = _seed_words(len(gains))
    if _is_level(pair, measure):
        return f"{name} and {baseline} end level: {figures}, {seeds}."
    side = "ahead of" if mean > 0 else "behind"
    gap = f"{measure.size(mean)}{measure.unit} {side} {baseline}"
    if len(gains) == 1:
        return f"{name} ends {gap}: {figures}, on a single seed."
    agreeing = sum(gain * mean > 0 for gain in gains)
    if agreeing == len(gains):
        every = "both seeds" if agreeing == 2 else f"every one of {agreeing} seeds"
        return f"{name} ends {gap}, and {side.split()[0]} on {every}: {figures}."
    return (
        f"No clear winner: {name} ends {gap} on average, but is {side.split()[0]} on only "
        f"{agreeing} of {len(gains)} seeds: {figures}."
    )


def _is_level(pair: dict[str, Any], measure: Measure) -> bool:
    limit = LEVEL if measure.is_share else LEVEL_RATIO * abs(pair["baseline_mean"])
    return abs(pair["difference"]) < limit or pair["difference"] == 0


def _seed_words(count: int) -> str:
    return "on a single seed" if count == 1 else f"mean of {count} seeds"


def lead(summary: dict[str, Any]) -> str:
    """The sentences under the headline: how sure it is, who is first of all, in which order."""
    measure = headline_measure(summary)
    names = list(ranked(summary))
    name = featured(summary) if summary["paired"] else names[0]
    sentences = []
    if summary["paired"] and (ends := summary["paired"][name]["ci95"]):
        sentences.append(_certainty(ends, measure))
    if len(names) > 2:
        mean = measure.value(summary["strategies"][names[0]]["mean"])
        sentences.append(f"Of {len(names)} strategies, {names[0]} has the best mean, {mean}.")
    order = summary["strategies"][name]["order"]
    if order and len(order) <= UNITS_SHOWN:
        words = order_words(order, summary["unit_names"], ", then ")
        sentences.append(f"{name} predicts {words}.")
    sentences.append(summary["scoring"])
    return " ".join(sentences).strip()


def _certainty(ends: list[float], measure: Measure) -> str:
    words = (
        f"The 95 % confidence interval of that difference is {measure.interval(ends, '−')}"
        f"{measure.unit}"
    )
    if ends[0] <= 0 <= ends[1]:
        return f"{words}: it includes zero, so that chance alone may explain the difference."
    return f"{words}."


def caveats(summary: dict[str, Any]) -> list[str]:
    """What a reader should know before believing the figures."""
    strategies = summary["strategies"]
    counts = [len(entry["seeds"]) for entry in strategies.values()]
    found = [_seed_caveat(min(counts), max(counts)), *budget_caveats(summary)]
    if summary["missing"]:
        found.append(f"Not complete, and left out: {', '.join(summary['missing'])}.")
    found.append("The last evaluation of each run counts, not its best one.")
    found += summary["task_caveats"]
    if len(summary["paired"]) > 1 and any(p["ci95"] for p in summary["paired"].values()):
        found.append(
            "Each confidence interval is for its own strategy: of strategies that do not differ "
            "from the baseline, one in twenty has an interval without zero by chance."
        )
    if any(entry["estimator"] == "joint" for entry in strategies.values()):
        found.append(JOINT)
    found += summary["advice"]
    found.append(
        "Whether maximal mutual information is the best order depends on the estimator and on "
        "the task. This comparison is evidence for its own only."
    )
    return found


def _seed_caveat(fewest: int, most: int) -> str:
    if fewest == 1:
        return (
            "One seed says little: another seed can turn the ranking round. Run at least three "
            "seeds of every strategy before drawing a conclusion."
        )
    if fewest == 2:
        return "Two seeds say little about the spread. Run at least three of every strategy."
    count = str(fewest) if fewest == most else f"{fewest} to {most}"
    return (
        f"Means are over {count} seeds. Differences of the size of the standard "
        "deviation can be chance. The confidence intervals assume that differences are normally "
        "distributed over seeds, which so few seeds cannot show."
    )


def budget_caveats(summary: dict[str, Any]) -> list[str]:
    """Where strategies had more tokens, FLOPs or time than others, fitting included."""
    strategies = summary["strategies"]
    flops = {n: e["model_flops"] + (e["selection_flops"] or 0.0) for n, e in strategies.items()}
    fitting = any(entry["selection_flops"] for entry in strategies.values())
    return [
        *_unequal({n: e["trained_tokens"] for n, e in strategies.items()}, "tokens"),
        *_unequal(flops, "FLOPs, fitting included" if fitting else "model FLOPs"),
        *(
            f"Fitting {name} took {sum(entry['selection_seconds']):,.1f} s, "
            f"{100 * share:.1f} % of the time of its runs, on top of the same tokens."
            for name, entry in strategies.items()
            if (share := fitting_share(entry)) > BUDGET_TOLERANCE
        ),
    ]


def fitting_share(entry: dict[str, Any]) -> float:
    """What fitting takes of the wall time of fitting and training together."""
    select, train = sum(entry["selection_seconds"]), sum(entry["train_seconds"])
    return float(select / (select + train)) if select else 0.0


def _unequal(values: dict[str, float], words: str) -> list[str]:
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if values[high] - values[low] <= BUDGET_TOLERANCE * values[high]:
        return []
    return [
        f"Budgets are not equal: {high} was trained on {si(values[high])} {words}"
        f", {low} on {si(values[low])}."
    ]

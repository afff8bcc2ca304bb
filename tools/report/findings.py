"""What a comparison shows, in sentences: headline, lead and caveats."""

from __future__ import annotations

from typing import Any

from tools.report.summary import featured, ranked
from tools.report.words import metric_words, order_words, percent, si

# Differences below this (half a point) are called level, whatever their sign.
LEVEL = 0.005


# Budgets further apart than this are called unequal.
BUDGET_TOLERANCE = 0.01


def headline(summary: dict[str, Any]) -> str:
    """What came out, in one sentence, as far as the figures bear it."""
    metric = f"{metric_words(summary)} on held-out problems"
    baseline = summary["baseline"]
    if not summary["paired"]:
        entry = summary["strategies"][baseline]
        seeds = _seed_words(len(entry["seeds"]))
        return f"{baseline} reaches {percent(entry['mean'])} % {metric}, {seeds}."
    name = featured(summary)
    pair = summary["paired"][name]
    if pair["difference"] is None:
        own, base = (summary["strategies"][key]["mean"] for key in (name, baseline))
        return (
            f"{name} reaches {percent(own)} % {metric} and {baseline} {percent(base)} %, but "
            "they share no seed, so that they cannot be compared in pairs."
        )
    figures = f"{percent(pair['mean'])} % against {percent(pair['baseline_mean'])} % {metric}"
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


def _seed_words(count: int) -> str:
    return "on a single seed" if count == 1 else f"mean of {count} seeds"


def lead(summary: dict[str, Any]) -> str:
    """The sentences under the headline: who is first of all, and in which order."""
    names = list(ranked(summary))
    sentences = []
    if len(names) > 2:
        mean = percent(summary["strategies"][names[0]]["mean"])
        sentences.append(f"Of {len(names)} strategies, {names[0]} has the highest mean, {mean} %.")
    name = featured(summary) if summary["paired"] else names[0]
    order = summary["strategies"][name]["order"]
    if order is not None:
        words = order_words(order, summary["unit_names"], ", then ")
        sentences.append(f"{name} predicts {words}.")
    sentences.append("Every answer was put back into its natural order before it was scored.")
    return " ".join(sentences)


def caveats(summary: dict[str, Any]) -> list[str]:
    """What a reader should know before believing the figures."""
    counts = [len(entry["seeds"]) for entry in summary["strategies"].values()]
    return [
        _seed_caveat(min(counts), max(counts)),
        *budget_caveats(summary),
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
    count = str(fewest) if fewest == most else f"{fewest} to {most}"
    return (
        f"Means are over {count} seeds. Differences of the size of the standard "
        "deviation can be chance."
    )


def budget_caveats(summary: dict[str, Any]) -> list[str]:
    found = []
    for field, words in (("trained_tokens", "tokens"), ("model_flops", "model FLOPs")):
        values = {name: entry[field] for name, entry in summary["strategies"].items()}
        low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        if values[high] - values[low] > BUDGET_TOLERANCE * values[high]:
            found.append(
                f"Budgets are not equal: {high} was trained on {si(values[high])} {words}"
                f", {low} on {si(values[low])}."
            )
    return found

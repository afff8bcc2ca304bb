"""Hold criteria that choose an order to comparisons of orders that were trained.

    python -m tools.judge_orders runs/study/multiplication runs/study/subtraction \\
        --criteria ntp,reverse,max_mi:estimator=joint,max_mi:estimator=any_order:seed=1 \\
        --out judged.json --plot judged.png

Each folder is one of `tools.compare_strategies --orders`. Every criterion chooses on the training
examples of that comparison. Printed are its regret, and, where it prices whole orders, Kendall's
tau with what training gave; --out has all figures of all orders besides.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pretrain.config import load_config
from pretrain.config.strict_yaml import load_yaml
from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.files import json_text, write_text
from pretrain.paths import path_argument
from tools.comparison.judgement import MEASURES, Trained
from tools.comparison.variants import Variant, parse_variants

CRITERIA = "ntp,reverse,max_mi:estimator=joint,max_mi:estimator=any_order"


def judge(trained: Trained, criterion: Variant) -> dict[str, Any]:
    """What a criterion chooses on a comparison's examples, and how good that is.

    Raises:
        UserError: it is none for this task, or cannot order these examples.
    """
    from pretrain import registry
    from pretrain.selection.fitter import CountingFitter
    from pretrain.tasks.fixed_width.config import FixedWidthData
    from pretrain.tasks.fixed_width.rule import rule_of

    values = load_yaml(trained.config_yaml)
    values["selection"] = {**values["selection"], "fixed": None, **criterion.selection}
    config = load_config(None, values)
    dataset = FixedWidthData.of(config).dataset()
    rule = rule_of(config, dataset)
    started, cost = time.perf_counter(), None
    if config.selection.fitted and config.selection.estimator in registry.ORDER_ESTIMATORS:
        finding = rule.finding()
        order, cost, flops = finding.order, finding.cost, finding.flops
    else:
        selection = CountingFitter(config, rule, dataset.tokenizer.fingerprint).fit(None)[0]
        order, flops = selection.order, selection.flops
    seconds = time.perf_counter() - started
    return {
        "criterion": criterion.label,
        "order": list(order),
        "seconds": round(seconds, 1),
        "share_of_flops": (flops or 0) / rule.run_flops,
        "regret": {measure: trained.regret(order, measure) for measure in MEASURES},
        "tau": None
        if cost is None
        else {measure: trained.foretold(cost, measure) for measure in MEASURES},
    }


def judge_all(folders: Sequence[Path], criteria: Sequence[Variant]) -> list[dict[str, Any]]:
    """Every criterion on every comparison.

    Raises:
        UserError: a folder cannot be read, or a criterion cannot choose there.
    """
    several = [Trained.read(folder) for folder in folders]
    result = []
    with tqdm(total=len(several) * len(criteria), desc="criteria", disable=None) as bar:
        for trained in several:
            judged = []
            for criterion in criteria:
                judged.append(judge(trained, criterion))
                bar.update()
            best = {measure: list(trained.best(measure)) for measure in MEASURES}
            result.append({**trained.as_json(), "best": best, "criteria": judged})
    return result


def in_words(result: Sequence[dict[str, Any]]) -> str:
    """For people: a table for each comparison, and mean regrets."""
    lines: list[str] = []
    for task in result:
        best = ", ".join(f"{'-'.join(map(str, task['best'][m]))} ({m})" for m in MEASURES)
        lines += [
            f"{task['title']}: {len(task['orders'])} orders, seeds "
            f"{', '.join(map(str, task['seeds']))}; best: {best}",
            f"  {'criterion':40}  {'order':12} {'regret: area':>12} {'third':>6} {'end':>6}"
            f" {'tau: area':>10} {'third':>6} {'end':>6} {'seconds':>8} {'FLOPs':>6}",
        ]
        for judged in task["criteria"]:
            taus = [found[0] if found else None for found in _taus(judged)]
            lines.append(
                f"  {judged['criterion']:40}  {'-'.join(map(str, judged['order'])):12} "
                + " ".join(
                    f"{_number(judged['regret'][m]):>{12 if m == 'area' else 6}}" for m in MEASURES
                )
                + " "
                + f"{_number(taus[0]):>10} {_number(taus[1]):>6} {_number(taus[2]):>6}"
                + f" {judged['seconds']:8.1f} {judged['share_of_flops']:6.1%}"
            )
        lines.append("")
    lines.append("mean regret over tasks (those where the order was trained), by area:")
    for criterion in dict.fromkeys(j["criterion"] for task in result for j in task["criteria"]):
        regrets = [
            judged["regret"]["area"]
            for task in result
            for judged in task["criteria"]
            if judged["criterion"] == criterion and judged["regret"]["area"] is not None
        ]
        mean = sum(regrets) / len(regrets) if regrets else None
        lines.append(f"  {criterion:40}  {_number(mean):>6}  of {len(regrets)}")
    return "\n".join(lines)


def _taus(judged: Mapping[str, Any]) -> list[Sequence[float] | None]:
    found: Mapping[str, Sequence[float] | None] = judged["tau"] or {}
    return [found.get(measure) for measure in MEASURES]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw(result: Sequence[dict[str, Any]], path: Path) -> None:
    """Orders of each comparison by their area, a dot for each seed, and what criteria chose."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(result), figsize=(4.2 * len(result), 5.6), squeeze=False, layout="constrained"
    )
    for axis, task in zip(axes[0], result, strict=True):
        orders = sorted(task["orders"], key=lambda name: _mean(task["orders"][name]["area"]))
        chosen: dict[str, list[str]] = {}
        for judged in task["criteria"]:
            chosen.setdefault("-".join(map(str, judged["order"])), []).append(judged["criterion"])
        for row, name in enumerate(orders):
            areas = task["orders"][name]["area"]
            marked = name in chosen
            axis.plot(areas, [row] * len(areas), "o", color="0.6", markersize=4)
            axis.plot(_mean(areas), row, "|", color="C3" if marked else "0.2", markersize=12)
            axis.annotate(
                ", ".join(map(_short, chosen.get(name, []))),
                (max(areas), row),
                xytext=(7, 0),
                textcoords="offset points",
                verticalalignment="center",
                fontsize=6,
                color="C3",
            )
        left, right = axis.get_xlim()
        axis.set_xticks([tick for tick in axis.get_xticks() if left <= tick <= right])
        axis.set_xlim(left, right + 0.6 * (right - left))  # room for names
        labels = [name.replace("-", "") for name in orders]
        axis.set_yticks(range(len(orders)), labels, fontsize=7)
        axis.set_title(task["title"], fontsize=9)
        axis.set_xlabel("area under the curve: mean score over training", fontsize=8)
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _short(criterion: str) -> str:
    return criterion.removeprefix("max_mi estimator=")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main(argv: Sequence[str] | None = None) -> int:
    """Judge, write and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools.judge_orders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Callable[..., Any] = parser.add_argument
    add("comparisons", type=path_argument, nargs="+", help="folders of comparisons of orders")
    add("--criteria", default=CRITERIA, help=f"comma-separated strategies ({CRITERIA})")
    add("--out", type=path_argument, help="JSON file to write")
    add("--plot", type=path_argument, help="PNG file to draw")
    add("--json", action="store_true", help="print the JSON object")
    options = parser.parse_args(argv)
    try:
        result = judge_all(options.comparisons, parse_variants(options.criteria))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.out:
        write_text(options.out, json_text(result) + "\n")
    if options.plot:
        draw(result, options.plot)
    print(json_text(result) if options.json else in_words(result))
    return 0


if __name__ == "__main__":
    run_program(main)

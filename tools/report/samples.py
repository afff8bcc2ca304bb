"""Examples of the last evaluation with what the models made of them."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from pretrain.tasks.presentation import Presentation
from tools.report.marks import swatch
from tools.report.results import Comparison, RunResult, by_strategy
from tools.report.summary import featured, ranked
from tools.report.templates import render
from tools.report.words import abbreviate

SAMPLES_SHOWN = 12


def samples_section(
    comparison: Comparison, summary: dict[str, Any], looks: dict[str, int]
) -> Markup:
    """A block of samples per strategy, of its first seed."""
    presentation, names = comparison.presentation, summary["unit_names"]
    grouped = by_strategy(comparison.runs)
    opened = {summary["baseline"], featured(summary) if summary["paired"] else ""}
    blocks = [
        {
            "name": name,
            "swatch": swatch(looks[name]),
            "count": _count(grouped[name][0]),
            "cards": [_card(presentation, sample, grouped[name][0]) for sample in _shown(run)],
            "open": name in opened,
        }
        for name in ranked(summary)
        for run in grouped[name][:1]
    ]
    return render(
        "tools.report:samples.html",
        title=presentation.samples_title,
        how_to_read=presentation.how_to_read(names, abbreviate(names)),
        most=SAMPLES_SHOWN,
        narrow=presentation.narrow,
        blocks=blocks,
    )


def _card(presentation: Presentation, sample: dict[str, Any], run: RunResult) -> Markup:
    names = run.unit_names
    # A model that has every order may have written each answer in one of its own.
    order = sample.get("order", run.order)
    values = presentation.sample(sample, order, names, abbreviate(names))
    return render(presentation.template, **values)


def _shown(run: RunResult) -> list[dict[str, Any]]:
    """The first samples of each kind."""
    shown: list[dict[str, Any]] = []
    for kind in dict.fromkeys(sample.get("kind") for sample in run.samples):
        shown += [sample for sample in run.samples if sample.get("kind") == kind][:SAMPLES_SHOWN]
    return shown


def _count(run: RunResult) -> str:
    shown = _shown(run)
    if not shown:
        return " no samples kept"
    if all("correct" in sample for sample in shown):
        right = sum(bool(sample["correct"]) for sample in shown)
        return f" {right} of {len(shown)} right, seed {run.seed}"
    return f" {len(shown)} samples, seed {run.seed}"

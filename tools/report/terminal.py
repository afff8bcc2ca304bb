"""The summary as a plain table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from tools.report.summary import ranked
from tools.report.words import abbreviate, clip, metric_words, percent, points, short_order

TABLE_WIDTH = 80


def format_table(summary: dict[str, Any]) -> str:
    """A plain table for a terminal of 80 columns, the highest mean first."""
    baseline = summary["baseline"]
    header = ("strategy", "order", "mean ± std", "per seed", f"vs {clip(baseline, 10)}")
    rows = [_table_row(name, summary) for name in ranked(summary)]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(5)]
    # The seeds take what is left, and go on underneath where that is too little.
    spare = TABLE_WIDTH - sum(widths) + widths[3] - 2 * (len(widths) - 1)
    widths[3] = max(min(widths[3], spare), len(header[3]))
    rule = "  ".join("-" * width for width in widths)
    lines = [f"{metric_words(summary)} at the last evaluation, percent"]
    lines += [*_table_lines(header, widths), rule]
    for row in rows:
        lines += _table_lines(row, widths)
    lines += ["", *textwrap.wrap(_table_legend(summary), TABLE_WIDTH)]
    return "\n".join(clip(line, TABLE_WIDTH) for line in lines)


def _table_row(name: str, summary: dict[str, Any]) -> tuple[str, str, str, str, str]:
    entry = summary["strategies"][name]
    spread = "" if entry["std"] is None else f" ± {percent(entry['std'])}"
    pair = summary["paired"].get(name)
    return (
        clip(name, 16),
        short_order(entry["order"], summary["unit_names"]),
        percent(entry["mean"]) + spread,
        " ".join(percent(value) for value in entry["per_seed"]),
        "-" if pair is None else points(pair["difference"]),
    )


def _table_lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    lines = []
    for number, seeds in enumerate(textwrap.wrap(row[3], widths[3]) or [""]):
        strategy, order, mean, _, difference = row if number == 0 else ("",) * 5
        left = zip((strategy, order, mean, seeds), widths, strict=False)
        cells = [text.ljust(width) for text, width in left]
        lines.append("  ".join([*cells, difference.rjust(widths[4])]).rstrip())
    return lines


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

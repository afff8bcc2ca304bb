"""The summary as a plain table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from tools.report.measures import Measure, headline_measure
from tools.report.summary import ranked
from tools.report.words import UNITS_SHOWN, abbreviate, clip, short_order

TABLE_WIDTH = 80
NAME_WIDTH = 22


def format_table(summary: dict[str, Any]) -> str:
    """A plain table for a terminal of 80 columns, the best mean first."""
    measure, baseline = headline_measure(summary), summary["baseline"]
    header = ("strategy", "order", "mean ± std", "per seed", f"vs {clip(baseline, 10)}")
    rows = [_table_row(name, summary, measure) for name in ranked(summary)]
    kept = [column for column in range(5) if column != 1 or _has_orders(summary)]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(5)]
    widths[0] = min(widths[0], NAME_WIDTH)
    # The seeds take what is left, and go on underneath where that is too little.
    spare = TABLE_WIDTH - sum(widths[i] for i in kept) + widths[3] - 2 * (len(kept) - 1)
    widths[3] = max(min(widths[3], spare), len(header[3]))
    rule = "  ".join("-" * widths[column] for column in kept)
    how = "percent" if measure.is_share else measure.better
    lines = [f"{measure.words} at the last evaluation, {how}"]
    lines += [*_table_lines(header, widths, kept), rule]
    for row in rows:
        lines += _table_lines(row, widths, kept)
    lines += _intervals(summary, measure)
    lines += ["", *textwrap.wrap(_table_legend(summary, measure), TABLE_WIDTH)]
    return "\n".join(clip(line, TABLE_WIDTH) for line in lines)


def _has_orders(summary: dict[str, Any]) -> bool:
    return 0 < len(summary["unit_names"]) <= UNITS_SHOWN


def _table_row(name: str, summary: dict[str, Any], measure: Measure) -> tuple[str, ...]:
    entry = summary["strategies"][name]
    spread = "" if entry["std"] is None else f" ± {measure.bare(entry['std'])}"
    pair = summary["paired"].get(name)
    return (
        name,
        short_order(entry["order"], summary["unit_names"]) if _has_orders(summary) else "",
        measure.bare(entry["mean"]) + spread,
        " ".join(measure.bare(value) for value in entry["per_seed"]),
        "-" if pair is None else measure.difference(pair["difference"]),
    )


def _table_lines(row: Sequence[str], widths: Sequence[int], kept: Sequence[int]) -> list[str]:
    """One row; a long name and many seeds go on underneath."""
    columns = [[cell] for cell in row]
    columns[0] = _wrapped_name(row[0], widths[0])
    columns[3] = textwrap.wrap(row[3], widths[3]) or [""]
    lines = []
    for number in range(max(len(columns[0]), len(columns[3]))):
        cells = [cells[number] if number < len(cells) else "" for cells in columns]
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        padded[4] = cells[4].rjust(widths[4])
        lines.append("  ".join(padded[column] for column in kept).rstrip())
    return lines


def _wrapped_name(name: str, width: int) -> list[str]:
    """The name on one line if it fits, else the strategy and each field on lines of their own."""
    if len(name) <= width:
        return [name]
    return [line for part in name.split() for line in textwrap.wrap(part, width)]


def _intervals(summary: dict[str, Any], measure: Measure) -> list[str]:
    """Confidence intervals of the differences, where there are several seeds."""
    lines = [
        f"  {name}: {measure.interval(pair['ci95'])}"
        for name, pair in summary["paired"].items()
        if pair["ci95"]
    ]
    return ["", f"95 % confidence interval against {summary['baseline']}:", *lines] if lines else []


def _table_legend(summary: dict[str, Any], measure: Measure) -> str:
    orders = f"order: what is predicted first stands first ({_unit_legend(summary)}). "
    unit = " in points" if measure.is_share else ""
    intervals = any(pair["ci95"] for pair in summary["paired"].values())
    return (
        f"{orders if _has_orders(summary) else ''}±: sample "
        f"standard deviation over seeds. vs {summary['baseline']}: mean difference{unit} "
        f"over shared seeds{', intervals by Student’s t' if intervals else ''}."
    )


def _unit_legend(summary: dict[str, Any]) -> str:
    """What the abbreviations and the numbers of units stand for."""
    names = summary["unit_names"]
    entries = []
    for number, (short, name) in enumerate(zip(abbreviate(names), names, strict=True), start=1):
        keys = str(number) if short == str(number) else f"{number} or {short}"
        entries.append(f"{keys} = {name}")
    return ", ".join(entries)

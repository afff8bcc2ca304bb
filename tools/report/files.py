"""The three files of a report, written together or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pretrain.files import json_text
from tools.report.chart import plot
from tools.report.page import render_html
from tools.report.results import Comparison
from tools.report.summary import summarise


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
    text = json_text(record, indent=2, ascii_only=False)
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

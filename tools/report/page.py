"""The page to read: one HTML file without scripts that loads nothing."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tools.report.figures import curves_section, distance_section, other_curves_section
from tools.report.findings import caveats, headline, lead
from tools.report.look import LOOKS, looks_of
from tools.report.results import Comparison, check
from tools.report.samples import samples_section
from tools.report.tables import (
    accuracy_section,
    bits_section,
    budget_section,
    metrics_section,
    result_section,
)
from tools.report.templates import render


def render_html(comparison: Comparison, summary: dict[str, Any], path: Path) -> None:
    """Writes one self-contained page: no scripts, nothing to load."""
    check(comparison)
    looks = looks_of(summary["strategies"])
    sections = (
        result_section(summary, looks),
        metrics_section(summary),
        curves_section(comparison, summary, looks),
        distance_section(comparison, summary, looks),
        other_curves_section(comparison, summary, looks),
        accuracy_section(summary, looks),
        bits_section(summary, looks),
        samples_section(comparison, summary, looks),
        budget_section(summary, looks),
    )
    page = render(
        "tools.report:page.html",
        title=comparison.title,
        css=_css(),
        headline=headline(summary),
        lead=lead(summary),
        sections=sections,
        caveats=caveats(summary),
        command=comparison.command,
        facts=[
            ("commit", comparison.commit or "unknown"),
            *sorted(comparison.environment.items()),
        ],
        config_yaml=comparison.config_yaml,
    )
    path.write_text(page + "\n", encoding="utf-8")


def _css() -> Markup:
    """The style sheet, with the strategies' colours in both modes."""
    light = "".join(f"--s{index}:{look.light};" for index, look in enumerate(LOOKS))
    dark = "".join(f"--s{index}:{look.dark};" for index, look in enumerate(LOOKS))
    strategies = "".join(f".s{index}{{--c:var(--s{index})}}" for index in range(len(LOOKS)))
    rest = files("tools.report").joinpath("page.css").read_text(encoding="utf-8")
    # Of this package alone: nothing in it is from a run.
    return Markup(
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
        f"{strategies}\n{rest}"
    )

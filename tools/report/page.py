"""The page to read: one HTML file without scripts that loads nothing."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from tools.report.figures import curves_section, distance_section, other_curves_section
from tools.report.findings import caveats, headline, lead
from tools.report.look import LOOKS, looks_of
from tools.report.markup import Html, section, tag, text
from tools.report.results import Comparison, check
from tools.report.samples import samples_section
from tools.report.tables import (
    accuracy_section,
    bits_section,
    budget_section,
    metrics_section,
    result_section,
)


def render_html(comparison: Comparison, summary: dict[str, Any], path: Path) -> None:
    """Writes one self-contained page: no scripts, nothing to load."""
    check(comparison)
    looks = looks_of(summary["strategies"])
    body = tag(
        "main",
        _header(comparison, summary),
        result_section(summary, looks),
        metrics_section(summary),
        Html(curves_section(comparison, summary, looks)),
        Html(distance_section(comparison, summary, looks)),
        Html(other_curves_section(comparison, summary, looks)),
        accuracy_section(summary, looks),
        bits_section(summary, looks),
        Html(samples_section(comparison, summary, looks)),
        budget_section(summary, looks),
        _caveats_section(summary),
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
        f"<title>{text(title)}</title>\n<style>{_css()}</style>\n</head>\n"
        f"<body>{body}</body>\n</html>\n"
    )


def _css() -> str:
    """The style sheet, with the strategies' colours in both modes."""
    light = "".join(f"--s{index}:{look.light};" for index, look in enumerate(LOOKS))
    dark = "".join(f"--s{index}:{look.dark};" for index, look in enumerate(LOOKS))
    strategies = "".join(f".s{index}{{--c:var(--s{index})}}" for index in range(len(LOOKS)))
    rest = files("tools.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
        f"{strategies}\n{rest}"
    )


def _header(comparison: Comparison, summary: dict[str, Any]) -> Html:
    return tag(
        "header",
        tag("p", text(comparison.title), class_="title"),
        tag("h1", text(headline(summary))),
        tag("p", text(lead(summary)), class_="lead"),
    )


def _caveats_section(summary: dict[str, Any]) -> Html:
    items = (tag("li", text(caveat)) for caveat in caveats(summary))
    return section("Before you believe it", tag("ul", *items))


def _reproduce_section(comparison: Comparison) -> Html:
    facts = [("commit", comparison.commit or "unknown"), *sorted(comparison.environment.items())]
    pairs = [tag(*part) for k, v in facts for part in (("dt", text(k)), ("dd", text(v)))]
    return section(
        "Run it again",
        tag("pre", tag("code", text(comparison.command)), class_="command"),
        tag("dl", *pairs),
        tag(
            "details",
            tag("summary", text("Configuration")),
            tag("pre", tag("code", text(comparison.config_yaml))),
        ),
    )

"""Drawings of matplotlib inside the page."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from tests.tools.report.examples import Page, make_comparison, make_run, render, two_strategies
from tools import report
from tools.report.chart import plot
from tools.report.figures import curves_section, distance_section
from tools.report.look import LOOKS, looks_of
from tools.report.marks import swatch


def curves_of(comparison: report.Comparison) -> Page:
    summary = report.summarise(comparison)
    return Page(curves_section(comparison, summary, looks_of(summary["strategies"])))


def test_markers_say_their_values_and_names_stand_at_the_ends() -> None:
    page = curves_of(two_strategies([0.2, 0.4], [0.5, 0.9]))
    # Once in the wide drawing, once in that for phones.
    assert page.words.count("max_mi, 3 k tokens: 70.0 %") == 2
    assert page.words.count("ntp, 1 k tokens: 0.0 %") == 2
    assert page.words.count("max_mi 70.0 %") == 1
    assert page.words.count("ntp 30.0 %") == 1


def test_drawings_take_the_colours_of_the_page_and_have_no_ids() -> None:
    page = curves_of(two_strategies([0.2], [0.5]))
    styles = " ".join(attributes.get("style") or "" for _, attributes in page.tags)
    assert "var(--s0)" in styles
    assert "var(--s1)" in styles
    assert "#" not in styles
    assert "font-family" not in styles
    assert not any(
        {"id", "clip-path", "xlink:href"} & attributes.keys() for _, attributes in page.tags
    )


def test_names_of_curves_that_end_together_at_the_top_stay_inside_and_apart() -> None:
    runs = [make_run(name, final=1.0) for name in ("ntp", "max_mi", "reverse", "random", "min_mi")]
    page = curves_of(make_comparison(*runs))
    places = [
        float(attributes["y"] or 0)
        for tag, attributes in page.tags
        if tag == "text" and "font-weight: 700" in (attributes["style"] or "")
    ]
    places.sort()
    assert len(places) == 5
    assert places[0] > 10  # of 288 from the upper edge, where a letter has about 10
    # 18 pixels at 100 to the inch are 12.96 points.
    assert all(after - before >= 12.9 for before, after in pairwise(places))


def test_distances_have_a_line_at_zero() -> None:
    comparison = two_strategies([0.2, 0.4], [0.5, 0.9])
    summary = report.summarise(comparison)
    page = Page(distance_section(comparison, summary, looks_of(summary["strategies"])))
    assert "max_mi +40.0" in page.words
    assert "0" in page.words
    alone = make_comparison(make_run())
    assert distance_section(alone, report.summarise(alone), {"ntp": 0}) == ""


def test_every_look_has_a_swatch_of_its_own() -> None:
    drawn = [swatch(look) for look in range(len(LOOKS))]
    assert len(set(drawn)) == len(LOOKS)
    for number, text in enumerate(drawn):
        line, marker = ElementTree.fromstring(text)
        assert f"stroke: var(--s{number})" in line.attrib["style"]
        assert f"fill: var(--s{number})" in marker.attrib["style"]


def test_names_that_no_font_draws_make_a_page_and_an_image(tmp_path: Path) -> None:
    comparison = make_comparison(make_run("ntp"), make_run("max_mi\x00 a\x1b=$_{ <b>"))
    Page(render(comparison, tmp_path / "report.html"))
    plot(comparison, tmp_path / "plot.png")

import random
from dataclasses import replace
from pathlib import Path

from tests.tools.report.examples import (
    BITS,
    Page,
    make_comparison,
    make_run,
    render,
    two_strategies,
)
from tools import report


def test_page_is_balanced_and_loads_nothing(tmp_path: Path) -> None:
    comparison = two_strategies([0.2, 0.4, 0.3], [0.5, 0.9, 0.8])
    text = render(comparison, tmp_path / "report.html")
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base"}
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "data"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert report.headline(report.summarise(comparison)) in page.words


def test_page_escapes_everything(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    sample = {"source": evil, "target": evil, "prediction": evil, "raw": evil, "correct": False}
    run = make_run(evil, unit_names=(evil, "b", "c", "d"), samples=(sample,), bits=BITS)
    comparison = make_comparison(
        replace(run, estimator=evil, metrics={evil: (0.0, 0.9, 0.5)}),
        title=evil,
        metric_name=evil,
        config_yaml=evil,
        commit=evil,
        environment={evil: evil},
        command=evil,
    )
    text = render(comparison, tmp_path / "report.html")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    Page(text)


def test_any_figures_make_a_balanced_page_and_a_narrow_table(tmp_path: Path) -> None:
    generator = random.Random(0)
    for trial in range(5):
        seeds = generator.randint(1, 4)
        names = generator.sample(
            ["ntp", "max_mi", "reverse", "random", "x", "y", "z", "w"], 1 + trial
        )
        runs = [make_run(name, s, generator.random()) for name in names for s in range(seeds)]
        comparison = make_comparison(*runs)
        Page(render(comparison, tmp_path / "report.html"))
        table = report.format_table(report.summarise(comparison))
        assert max(map(len, table.split("\n"))) <= 80

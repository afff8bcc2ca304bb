from dataclasses import replace
from io import BytesIO
from pathlib import Path

import matplotlib.image

from tests.tools.report.examples import Page, make_comparison, make_run, render, two_strategies
from tools import report


def test_plot_is_a_png_of_900_by_550(tmp_path: Path) -> None:
    comparison = replace(two_strategies([0.2, 0.4], [0.5, 0.9]), title="costs $5 and $6 _{ " * 12)
    path = tmp_path / "plot.png"
    report.plot(comparison, path)
    pixels = matplotlib.image.imread(BytesIO(path.read_bytes()), format="png")
    assert pixels.shape[:2] == (550, 900)
    assert pixels[..., :3].std() > 0.01  # something is drawn


def test_plot_of_a_single_evaluation(tmp_path: Path) -> None:
    run = make_run(tokens=(0,), metric=(0.0,), unit_accuracy=((0.0,) * 4,))
    report.plot(make_comparison(run), tmp_path / "plot.png")
    Page(render(make_comparison(run), tmp_path / "report.html"))

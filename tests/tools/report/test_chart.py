from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image

from tests.tools.report.examples import Page, make_comparison, make_run, render, two_strategies
from tools.report import Comparison
from tools.report.chart import plot


def pixels_of(comparison: Comparison, path: Path) -> Any:
    plot(comparison, path)
    return matplotlib.image.imread(BytesIO(path.read_bytes()), format="png")


def test_plot_is_a_png_of_900_by_550(tmp_path: Path) -> None:
    runs = [make_run(name, seed) for name in ("ntp", "reverse") for seed in (0, 1)]
    comparison = make_comparison(*runs, title="costs $5 and $6 _{ " * 12)
    pixels = pixels_of(comparison, tmp_path / "plot.png")
    assert pixels.shape[:2] == (550, 900)
    assert pixels[..., :3].std() > 0.01  # something is drawn


def test_bits_of_fitted_strategies_are_drawn_underneath(tmp_path: Path) -> None:
    pixels = pixels_of(two_strategies([0.2, 0.4], [0.5, 0.9]), tmp_path / "plot.png")
    assert pixels.shape[0] > 550
    assert pixels.shape[1] == 900
    assert pixels[550:, :, :3].std() > 0.01


def test_plot_of_a_single_evaluation(tmp_path: Path) -> None:
    run = make_run(tokens=(0,), metrics={"exact_match": (0.0,)}, unit_accuracy=((0.0,) * 4,))
    plot(make_comparison(run), tmp_path / "plot.png")
    Page(render(make_comparison(run), tmp_path / "report.html"))

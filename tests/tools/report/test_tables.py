from pathlib import Path

from tests.tools.report.examples import Page, render, two_strategies


def test_budget_gives_the_share_of_the_selection(tmp_path: Path) -> None:
    comparison = two_strategies([0.2], [0.5])
    words = Page(render(comparison, tmp_path / "report.html")).words
    assert "10.00 %" in words  # 10 s of 90 + 10 s
    assert "90.0 s" in words
    assert "400,000" in words

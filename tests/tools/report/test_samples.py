from pathlib import Path

from pretrain.tasks.arithmetic.presentation import TILES_SHOWN
from tests.tools.report.examples import ORDERS, Page, make_comparison, make_run, make_sample, render


def test_page_numbers_the_digits_by_their_rank(tmp_path: Path) -> None:
    run = make_run("max_mi", samples=(make_sample(ORDERS["max_mi"], "0245", "0295"),))
    page = Page(render(make_comparison(run), tmp_path / "report.html"))
    titles = [attributes["title"] for tag, attributes in page.tags if attributes.get("title")]
    assert titles == [
        "predicted 1st: tens",
        "predicted 2nd: hundreds",
        "predicted 3rd: units",
        "predicted 4th: thousands",
    ]
    # rank, digit, place: the tens are wrong, and not by colour alone
    start = page.words.index("te ✗") - 2
    tiles = page.words[start : start + 12]
    assert tiles == ["1", "9", "te ✗", "2", "2", "h", "3", "5", "u", "4", "0", "th"]
    assert "✗ wrong" in page.words


def test_an_answer_in_an_order_of_its_own_is_shown_in_that_order(tmp_path: Path) -> None:
    own = {**make_sample((3, 0, 1, 2), "0245", "0245"), "order": [3, 0, 1, 2]}
    run = make_run("any_order", samples=(own,))
    page = Page(render(make_comparison(run), tmp_path / "report.html"))
    start = page.words.index("u") - 2
    assert page.words[start : start + 6] == ["1", "5", "u", "2", "0", "th"]


def test_malformed_answers_are_shown_whatever_they_are(tmp_path: Path) -> None:
    bad = {"source": "35*07=", "target": "0245", "prediction": "", "correct": False}
    samples = ({**bad, "raw": ""}, {**bad, "raw": "42"}, {**bad, "raw": "9" * 500})
    page = Page(render(make_comparison(make_run(samples=samples)), tmp_path / "report.html"))
    assert "empty answer" in page.words
    assert page.words.count("? ✗") == 2 + TILES_SHOWN

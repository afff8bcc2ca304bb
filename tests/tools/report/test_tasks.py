"""Reports of labels and of text: other metrics, other directions, other samples."""

import json
from pathlib import Path

import pytest

from tests.tools.report.examples import (
    LABELS,
    Page,
    label_comparison,
    make_label_run,
    make_text_run,
    render,
    text_comparison,
)
from tools import report
from tools.report import Comparison
from tools.report.files import write_report


def texts() -> Comparison:
    finals = {"ntp": (6.0, 6.2, 6.1), "max_mi features=before": (5.9, 6.0, 6.0), "random": (7,) * 3}
    runs = [make_text_run(s, seed, f) for s, all_ in finals.items() for seed, f in enumerate(all_)]
    return text_comparison(*runs)


def labels() -> Comparison:
    finals = {"ntp": (0.5, 0.4), "max_mi": (0.6, 0.7), "max_mi estimator=pmi": (0.5, 0.5)}
    runs = [make_label_run(s, seed, f) for s, all_ in finals.items() for seed, f in enumerate(all_)]
    return label_comparison(*runs)


def test_lower_is_better_is_ranked_and_worded_so() -> None:
    summary = report.summarise(texts())
    assert report.headline(summary) == (
        "max_mi features=before ends 0.1333 ahead of ntp, and ahead on every one of 3 seeds: 5.967 "
        "against 6.100 joint bits per token on held-out text (lower is better)."
    )
    pair = summary["paired"]["max_mi features=before"]
    assert pair["difference"] == pytest.approx(-0.4 / 3)
    assert pair["per_seed"] == pytest.approx([-0.1, -0.2, -0.1])
    # Standard error 0.1 / 3; t is 4.3027.
    half = 4.3027 * 0.1 / 3
    assert pair["ci95"] == pytest.approx([-0.4 / 3 - half, -0.4 / 3 + half], abs=1e-5)
    table = report.format_table(summary)
    lines = table.split("\n")
    assert "lower is better" in lines[0]
    assert [line.split("  ")[0] for line in lines[3:6]] == [
        "max_mi features=before", "ntp", "random",
    ]  # fmt: skip
    assert "max_mi features=before: -0.2768 to +0.0101" in table
    assert "points" not in table


def test_the_headline_is_about_the_first_variant_of_max_mi_not_the_best() -> None:
    names = {"ntp": 0.5, "max_mi estimator=presence": 0.4, "max_mi estimator=pmi": 0.6}
    runs = [make_label_run(name, 0, final) for name, final in names.items()]
    summary = report.summarise(label_comparison(*runs))
    assert report.headline(summary).startswith("max_mi estimator=presence ends 10.0 points behind")


def test_several_intervals_are_a_caveat() -> None:
    words = "one in twenty has an interval without zero by chance"
    assert words in " ".join(report.caveats(report.summarise(texts())))
    two = text_comparison(*(make_text_run(s, k) for s in ("ntp", "max_mi") for k in (0, 1)))
    assert words not in " ".join(report.caveats(report.summarise(two)))


def test_a_long_name_goes_on_underneath_field_by_field() -> None:
    name = "max_mi estimator=presence_top tie_bits=0"
    runs = make_label_run("ntp", 0, 0.5), make_label_run(name, 0, 0.6)
    lines = report.format_table(report.summarise(label_comparison(*runs))).split("\n")
    assert lines[3].split() == ["max_mi", "60.0", "60.0", "+10.0"]
    assert lines[4:6] == ["estimator=presence_top", "tie_bits=0"]


def test_behind_and_level_without_shares() -> None:
    worse = text_comparison(make_text_run("ntp", 0, 6.0), make_text_run("max_mi", 0, 6.5))
    assert "max_mi ends 0.5000 behind ntp" in report.headline(report.summarise(worse))
    level = text_comparison(make_text_run("ntp", 0, 6.0), make_text_run("max_mi", 0, 6.005))
    assert "max_mi and ntp end level" in report.headline(report.summarise(level))


def test_every_metric_has_its_mean_spread_and_differences() -> None:
    summary = report.summarise(texts())
    own = summary["strategies"]["max_mi features=before"]["metrics"]
    assert own["conditional_perplexity"]["per_seed"] == [64.0, 65.0, 66.0]
    assert own["conditional_perplexity"]["mean"] == 65.0
    assert own["conditional_perplexity"]["std"] == 1.0
    assert "plan_bits" not in summary["strategies"]["ntp"]["metrics"]
    paired = summary["paired"]["random"]["metrics"]
    assert paired["conditional_perplexity"]["difference"] == 0.0
    assert "plan_bits" not in paired
    curve = summary["paired"]["random"]["curve"]
    assert curve["tokens"] == [1000, 2000, 3000]
    assert curve["mean"] == pytest.approx([0.0, 0.0, 0.9])
    curves = summary["strategies"]["random"]["curves"]
    assert curves["metrics"]["joint_bits_per_token"]["mean"] == [9.0, 7.0, 7.0]


@pytest.mark.parametrize("make", [labels, texts])
def test_a_whole_report_is_written(make, tmp_path: Path) -> None:
    comparison = make()
    write_report(comparison, tmp_path)
    record = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert record["task"] == comparison.task
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe"}
    assert "Accuracy of each unit of the answer" not in page.words
    table = report.format_table(report.summarise(comparison))
    assert max(map(len, table.split("\n"))) <= 80


def test_page_of_text_has_no_units_and_marks_plans(tmp_path: Path) -> None:
    page = Page(render(texts(), tmp_path / "report.html"))
    assert "order of prediction" not in page.words
    assert "Mutual information with the source" not in page.words
    assert {"Other metrics", "Distance to the baseline"} <= set(page.words)
    assert tag_count(page, "mark") == 6  # two samples of three strategies
    assert " the <plan> unclosed" in page.words  # left as it is
    assert '{"a": [1, null]}' in page.words
    assert any("never stands alone" in word for word in page.words)


def tag_count(page: Page, name: str) -> int:
    return sum(tag == name for tag, _ in page.tags)


def test_page_of_labels_shows_the_most_informative_and_what_was_missed(tmp_path: Path) -> None:
    page = Page(render(labels(), tmp_path / "report.html"))
    rows = [word for word in page.words if word in LABELS]
    assert rows[:3] == ["role::label 39", "role::label 38", "role::label 37"]
    assert any("10 more units tell less" in word for word in page.words)
    assert any("… and 37 more" in word for word in page.words)
    start = page.words.index("✗ 1 of 2 found")
    assert page.words[start : start + 7] == [
        "✗ 1 of 2 found", "1", "role::label 7 ✗", "2", "role::label 2 ✓", "missed", "role::label 1",
    ]  # fmt: skip
    assert "each example its own" in page.words
    assert "a <b>text</b>" in page.words
    assert any("add frequency to --strategies" in word for word in page.words)


def test_pages_of_every_task_escape_what_they_show(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    samples = (
        {"kind": evil, "source": evil, "raw": f"<plan>{evil}</plan>", "selected": [evil]},
        {"tokens": [evil, evil], "position": 0},
        {evil: evil, "deep": {evil: evil}},
    )
    for make, run in ((text_comparison, make_text_run), (label_comparison, make_label_run)):
        runs = [run("ntp"), run(f"max_mi features={evil}")]
        for shown in (samples, (dict.fromkeys(("source", "target", "raw", "prediction"), evil),)):
            changed = [report.RunResult(**{**vars(r), "samples": shown}) for r in runs]
            comparison = make(*changed, missing=(evil,))
            text = render(comparison, tmp_path / "report.html")
            assert "<script" not in text
            assert "&lt;script&gt;" in text
            Page(text)


def test_fitting_counts_in_the_budget() -> None:
    def budget(flops: float | None, seconds: float) -> str:
        run = make_text_run("max_mi")
        changed = {**vars(run), "selection_flops": flops, "selection_seconds": seconds}
        runs = make_text_run("ntp"), report.RunResult(**changed)
        return " ".join(report.caveats(report.summarise(text_comparison(*runs))))

    assert "max_mi was trained on 3 T FLOPs, fitting included, ntp on 2 T" in budget(1e12, 0.1)
    assert "Fitting max_mi took 10.0 s, 10.0 % of the time of its runs" in budget(None, 10.0)
    assert "Fitting" not in budget(1e9, 0.1)


def test_runs_that_are_missing_are_named() -> None:
    summary = report.summarise(text_comparison(make_text_run(), missing=("max_mi-seed1",)))
    assert "Not complete, and left out: max_mi-seed1." in report.caveats(summary)

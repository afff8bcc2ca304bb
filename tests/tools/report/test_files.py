import json
from pathlib import Path
from typing import Any

import pytest

from pretrain.tasks.presentation import Presentation
from tests.tasks.toy import ToyData
from tests.tools.report.examples import (
    Page,
    make_comparison,
    make_run,
    make_sample,
    two_strategies,
)
from tools.report import Comparison, files
from tools.report.files import write_report


def test_write_report_writes_three_files_and_nothing_else(tmp_path: Path) -> None:
    comparison = two_strategies([0.2, 0.4], [0.5, 0.9])
    out = tmp_path / "new" / "folder"
    summary = write_report(comparison, out)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["comparison.json", "comparison.png", "report.html"]
    record = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert {key: record[key] for key in summary} == json.loads(json.dumps(summary))
    assert record["runs"][3]["metrics"]["exact_match"] == [0.0, 0.9, 0.9]


def test_an_earlier_report_survives_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = two_strategies([0.2], [0.5])
    write_report(comparison, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(comparison: Comparison, summary: dict[str, Any], path: Path) -> None:
        path.write_text("half a page")
        raise RuntimeError("no ink")

    monkeypatch.setattr(files, "render_html", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        write_report(two_strategies([0.9], [0.1]), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_json_has_no_number_for_is_null(tmp_path: Path) -> None:
    sample = {**make_sample((0, 1, 2, 3), "0245", "0245"), "score": float("nan")}
    write_report(make_comparison(make_run(samples=(sample,))), tmp_path)
    record = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert record["runs"][0]["samples"][0]["score"] is None


KEYS = (
    "task", "metric", "higher_is_better", "held_out", "scoring", "unit_names", "baseline",
    "strategies", "paired", "missing", "commit", "environment", "title", "command",
    "config_yaml", "runs",
)  # fmt: skip
"""Of comparison.json: what others read of it."""


def test_the_record_keeps_its_keys(tmp_path: Path) -> None:
    write_report(two_strategies([0.2, 0.4], [0.5, 0.9]), tmp_path)
    record = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert set(KEYS) <= record.keys()
    assert {"mean", "std", "per_seed", "seeds", "order", "bits", "curves"} <= (
        record["strategies"]["max_mi"].keys()
    )
    assert {"against", "difference", "ci95", "per_seed", "curve"} <= record["paired"][
        "max_mi"
    ].keys()


def test_a_task_with_nothing_of_its_own_to_show_is_reported(tmp_path: Path) -> None:
    presentation = ToyData().presentation()
    assert type(presentation) is Presentation
    name = "wrong_letters"
    runs = [
        make_run(strategy, metrics={name: (4.0, 2.0, final)}, samples=({"source": "abca|"},))
        for strategy, final in (("ntp", 1.0), ("reverse", 0.5))
    ]
    comparison = make_comparison(
        *runs,
        task="toy",
        presentation=presentation,
        metric_name=name,
        higher_is_better=False,
        measures={name: {"better": "lower", "unit": "letters", "comparable": True}},
    )
    write_report(comparison, tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "abca|" in page.words
    assert any("0.5000 ahead of ntp" in words for words in page.words)
    assert any("held-out examples" in words for words in page.words)

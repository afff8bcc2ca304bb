"""Figures of scaling: the page's tables are those of the program, and known answers."""

import json
from pathlib import Path

import pytest

from tools.bench import scaling_figures

ROOT = Path(__file__).resolve().parents[3]


def run(capsys, *arguments):
    code = scaling_figures.main(list(arguments))
    return code, *capsys.readouterr()


def test_the_page_has_the_tables_as_they_are_computed_now(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert [table for table in out.strip().split("\n\n") if table not in page] == []


def test_what_follows_from_the_number_of_ranks():
    small, large = scaling_figures.job_of(8), scaling_figures.job_of(1024)
    assert (small.interval, large.interval) == (1.0, 2.0)
    assert (small.requests, large.requests) == (24.0, 1536.0)
    assert (small.checkpoint_files, small.checkpoint_creates, small.resume_opens) == (9, 17, 64)
    assert large.resume_opens == 1_048_576


def test_what_a_configuration_costs(capsys):
    config = str(ROOT / "configs" / "gpt_175b.yaml")
    code, out, _ = run(capsys, "--json", "--config", config, "--ranks", "8,1024")
    assert code == 0
    (found,) = json.loads(out)["runs"]  # 8 ranks are fewer than one copy takes
    assert (found["ranks"], found["data_parallel"]) == (1024, 16)
    assert found["bubble"] == pytest.approx(7 / (96 * 3 + 7))
    assert found["checkpoint"] == pytest.approx(12 * 175e9, rel=0.01)
    assert found["checkpoint"] / 1024 < found["checkpoint_rank"] < 1.1 * found["checkpoint"] / 1024


def test_ranks_that_are_no_numbers_are_refused(capsys):
    code, _, err = run(capsys, "--ranks", "8,many")
    assert code == 2
    assert "--ranks 8,many" in err

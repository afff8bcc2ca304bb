"""What one file says of a task is all that training, selecting, resuming and showing it take."""

import json
import math
from pathlib import Path

import pytest

from pretrain import registry
from pretrain.main import main
from tools.fit_selection import main as fit_selection
from tools.inspect_selection import main as inspect_selection
from tools.show_batch import main as show_batch

ARGUMENTS = {
    "data.task": "toy",
    "model.hidden_size": "32",
    "model.sequence_length": "10",
    "optimizer.warmup_steps": "1",
    "optimizer.learning_rate": "0.01",
    "training.steps": "6",
    "training.global_batch": "16",
    "checkpoint.save_every": "3",
    "checkpoint.keep_last": "0",
    "run.log_every": "1",
    "run.progress": "false",
    "run.tensorboard": "false",
}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.TASKS, "toy", "tests.tasks.toy:ToyData")


def arguments(**more: object) -> list[str]:
    given = {**ARGUMENTS, **{name.replace("__", "."): str(each) for name, each in more.items()}}
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


def test_it_trains_is_scored_resumes_and_is_shown(tmp_path, capsys):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert main(arguments(run__directory=whole)) == 0
    selection = json.loads((whole / "selection.json").read_text())
    # 4, 3, 2 and 1 letters are alike likely, in all words; units are numbered backwards.
    assert selection["strategy"] == "max_mi"
    assert selection["estimator"] == "pairwise"
    assert selection["order"] == [3, 2, 1, 0]
    assert selection["unit_names"] == ["letter 3", "letter 2", "letter 1", "letter 0"]
    result = json.loads((whole / "result.json").read_text())
    (evaluation,) = map(json.loads, (whole / "evaluation.jsonl").read_text().splitlines())
    for record in (result, evaluation):
        assert record["headline"] == "wrong_letters"
        assert record["higher_is_better"] is False
        assert record["measures"] == {
            "wrong_letters": {"better": "lower", "unit": "letters", "comparable": True},
            "exact_match": {"better": "higher", "unit": "share", "comparable": True},
        }
        wrong = sum(1 - right for right in record["unit_accuracy"])
        assert record["metrics"]["wrong_letters"] == pytest.approx(wrong)
    assert result["fingerprint"] == selection["fingerprint"]
    expected = losses(whole)
    assert expected[6] < expected[1]

    half = whole / "checkpoints" / "step-00000003"
    assert main(arguments(run__directory=resumed, checkpoint__resume=half)) == 0
    assert losses(resumed) == {step: expected[step] for step in (4, 5, 6)}

    capsys.readouterr()
    assert show_batch([str(whole), "--step", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["selection"] == selection["fingerprint"]
    for each in shown["shown"]:
        word, _, answer = each["text"].removesuffix("<<").partition("|>>")
        # The order of max_mi undoes the reversal.
        assert answer == word


def test_its_order_is_inspected(capsys):
    assert inspect_selection([*arguments(), "--all-pairs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bits"] == pytest.approx([0, 1, math.log2(3), 2])
    assert found["order"] == [3, 2, 1, 0]


def test_its_table_is_fitted_by_itself_and_used(tmp_path, capsys):
    table = tmp_path / "table"
    assert fit_selection([*arguments(), "--out", str(table), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["made_from"]["task"] == "toy"
    again = arguments(run__directory=tmp_path / "run", selection__table=table, training__steps=1)
    assert main(again) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["fingerprint"] == report["selection"]["fingerprint"]
    capsys.readouterr()  # a warning of the run's
    small = ["--selection.memory_gb", "1e-8", "--out", str(tmp_path / "small")]
    assert fit_selection([*arguments(), *small]) == 2
    assert capsys.readouterr().err.startswith("error: selection.memory_gb 1e-08: ")

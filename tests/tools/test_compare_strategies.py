import json

import pytest

from pretrain.config import load_config
from pretrain.errors import ConfigError
from tools import compare_strategies
from tools.compare_strategies import main, plan, split_names, split_seeds

SMALL = [
    "--model.hidden_size", "16", "--model.sequence_length", "10", "--training.steps", "4",
    "--training.global_batch", "8", "--training.evaluation_examples", "20",
    "--optimizer.warmup_steps", "1", "--run.log_every", "2", "--run.device", "cpu",
]  # fmt: skip


def test_runs_differ_in_strategy_seed_and_folder_only(tmp_path):
    runs = plan(load_config(None, {"training": {"steps": 7}}), ["ntp", "max_mi"], [0, 3], tmp_path)
    assert [run.name for run in runs] == [
        "ntp-seed0", "max_mi-seed0", "ntp-seed3", "max_mi-seed3",
    ]  # fmt: skip
    dumps = [run.config.model_dump() for run in runs]
    for dump in dumps:
        del dump["selection"]["strategy"], dump["training"]["seed"], dump["run"]["directory"]
    assert all(dump == dumps[0] for dump in dumps)


def test_arguments_are_checked():
    assert split_names("ntp, max_mi") == ["ntp", "max_mi"]
    assert split_seeds("0,2") == [0, 2]
    for text in ("best", "ntp,ntp", ""):
        with pytest.raises(ConfigError, match="--strategies"):
            split_names(text)
    for text in ("a", "1,1", "-1", ""):
        with pytest.raises(ConfigError, match="--seeds"):
            split_seeds(text)


@pytest.mark.distributed
def test_a_comparison_is_trained_reported_and_not_trained_again(tmp_path, capsys, monkeypatch):
    arguments = ["--strategies", "ntp,reverse", "--seeds", "0", "--out", str(tmp_path), *SMALL]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "reverse" in first
    summary = json.loads((tmp_path / "comparison.json").read_text())
    assert summary["metric"] == "exact_match"
    for strategy in ("ntp", "reverse"):
        entry = summary["strategies"][strategy]
        assert 0.0 <= entry["mean"] <= 1.0
        assert len(entry["per_seed"]) == 1
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    assert "<html" in (tmp_path / "report.html").read_text()
    layout = json.loads((tmp_path / "ntp-seed0" / "result.json").read_text())["layout"]
    assert "data 2" in layout

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(compare_strategies, "launch", fail)
    assert main(arguments) == 0
    assert "complete, not trained again" in capsys.readouterr().out

    # Another configuration in the same folder is refused, naming what differs.
    assert main([*arguments, "--training.seed", "0", "--optimizer.learning_rate", "0.5"]) == 2
    assert "optimizer.learning_rate is 0.001 there, 0.5 here" in capsys.readouterr().err


@pytest.mark.distributed
def test_a_failing_run_shows_the_end_of_its_log(tmp_path, capsys):
    arguments = ["--strategies", "ntp", "--out", str(tmp_path), *SMALL, "--processes", "1"]
    assert main([*arguments, "--model.sequence_length", "5"]) == 2
    error = capsys.readouterr().err
    assert "run ntp-seed0 failed with exit code 2" in error
    assert "model.sequence_length 5 is too short" in error

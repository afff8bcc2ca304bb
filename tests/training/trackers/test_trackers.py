"""Trackers without a network: Weights & Biases offline, MLflow in a folder."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from pretrain.config import Config
from pretrain.errors import ConfigError, UserError
from pretrain.selection.selector import Selection
from pretrain.tasks.base import Evaluation, Metric
from pretrain.training.callbacks import StepRecord
from pretrain.training.trackers.base import Tracker, tracker_classes

ROOT = Path(__file__).resolve().parents[3]
MAIN = ROOT / "pretrain/main.py"


class Fake(Tracker):
    """Keeps what it is told; fails when asked to."""

    name = "fake"
    package = "json"
    told: ClassVar[list[tuple]] = []
    failing = ""

    def begin(self, start):
        if self.failing == "begin":
            raise ConnectionError("no route")
        self.told.append(("begin", start.known, start.step, start.settings["training"]["steps"]))
        return start.known or "first"

    def numbers(self, values, step):
        if self.failing == "numbers":
            raise ConnectionError("no route")
        self.told.append(("numbers", dict(values), step))

    def fact(self, name, value):
        self.told.append((name, value))

    def file(self, path):
        self.told.append(("file", path.name))

    def finish(self, ended):
        self.told.append(("finish", ended))


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(Fake, "told", [])
    return Fake


def record(step: int) -> StepRecord:
    return StepRecord(step, 10, 0.5, 0.1, 1.0, 0, 0.1, 0.0, 100.0, 1e6, None, {"ahead": 0.25})


def evaluation() -> Evaluation:
    metric = Metric("exact_match", 0.75, "higher", "share")
    return Evaluation("exact_match", (metric,), (0.5, 1.0), 4, 0.1, ())


def test_a_run_that_goes_on_is_the_same_run_there(fake, tmp_path):
    config = Config()
    (tmp_path / "config.yaml").write_text("model: {}")
    first = fake(config, tmp_path)
    first.on_selection(1, Selection("max_mi", (1, 0), ("tens", "units")))
    first.on_log(record(5))
    first.on_evaluation(5, 50, evaluation())
    first.on_stop(5)
    first.close()
    steps = config.training.steps
    begin, selection, numbers, scores, file, finish = fake.told
    assert begin == ("begin", None, 0, steps)
    assert selection == ("selection", "max_mi: units, tens")
    assert numbers[2] == 5
    assert numbers[1]["train/loss"] == 0.5
    assert numbers[1]["train/loss_ahead"] == 0.25
    assert "train/mfu" not in numbers[1]
    unit = "evaluation/unit_"
    assert scores[1] == {"evaluation/exact_match": 0.75, f"{unit}0": 0.5, f"{unit}1": 1.0}
    assert (file, finish) == (("file", "config.yaml"), ("finish", "stopped"))
    fake(config, tmp_path, 5)
    assert fake.told[-1] == ("begin", "first", 5, steps)
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"fake": "first"}


def test_a_tracker_that_fails_is_left_alone_and_training_goes_on(
    fake, tmp_path, capsys, monkeypatch
):
    tracker = fake(Config(), tmp_path)
    monkeypatch.setattr(Fake, "failing", "numbers")
    tracker.on_log(record(1))
    tracker.on_log(record(2))
    tracker.close()
    assert fake.told == [("begin", None, 0, Config().training.steps)]
    told = capsys.readouterr().err
    assert told.count("warning: run.trackers fake: ConnectionError: no route") == 1
    assert str(tmp_path) in told


def test_a_run_that_ends_by_an_error_has_failed(fake, tmp_path):
    fake(Config(), tmp_path).close()
    assert fake.told[-1] == ("finish", "failed")


def test_what_cannot_begin_is_refused(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(Fake, "failing", "begin")
    with pytest.raises(UserError, match=r"run\.trackers fake: ConnectionError: no route; mend it"):
        fake(Config(), tmp_path)
    assert not (tmp_path / "trackers.json").exists()


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("pretrain.training.trackers.base.find_spec", lambda name: None)
    config = Config.model_validate({"run": {"trackers": ["mlflow"]}})
    said = r"mlflow is not installed; pip install 'mifirst\[mlflow\]'"
    with pytest.raises(ConfigError, match=said):
        tracker_classes(config)


def test_runs_are_in_both_trackers_and_go_on_there(tmp_path):
    run, store = tmp_path / "run", tmp_path / "mlflow"
    environment = os.environ | {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": store.as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "OMP_NUM_THREADS": "1",
    }
    for steps in (4, 8):
        command = [
            sys.executable, str(MAIN), "--model.sequence_length", "16", "--run.log_every", "2",
            "--training.evaluate_every", "4", "--training.evaluation_examples", "8",
            "--training.global_batch", "8", "--run.directory", str(run), "--run.progress", "false",
            "--training.steps", str(steps), "--run.trackers", '["wandb", "mlflow"]',
        ]  # fmt: skip
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "warning: run.trackers" not in done.stderr
    names = json.loads((run / "trackers.json").read_text())

    starts = sorted((run / "wandb").glob(f"offline-run-*-{names['wandb']}"))
    assert len(starts) == len(list((run / "wandb").glob("offline-run-*"))) == 2
    for start in starts:
        kept = (start / f"run-{names['wandb']}.wandb").read_bytes()
        assert b"train/loss" in kept
        assert b"evaluation/exact_match" in kept

    found = list(store.glob(f"*/{names['mlflow']}"))
    assert len(found) == 1
    folder = found[0]
    assert len(list(folder.parent.glob("*/meta.yaml"))) == 1
    losses = (folder / "metrics/train/loss").read_text().splitlines()
    recorded = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [int(line.split()[2]) for line in losses] == [2, 4, 6, 8]
    assert [float(line.split()[1]) for line in losses] == [line["loss"] for line in recorded]
    assert (folder / "params/model.sequence_length").read_text() == "16"
    assert (folder / "tags/resumed_at").read_text() == "4"
    assert (folder / "artifacts/evaluation.jsonl").read_bytes() == (
        run / "evaluation.jsonl"
    ).read_bytes()

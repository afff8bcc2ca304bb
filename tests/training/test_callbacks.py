"""Records of a run that is killed, goes back, or has no room."""

import json
import math
import os
from pathlib import Path

import pytest

from pretrain.errors import UserError
from pretrain.tasks.base import Evaluation, Metric
from pretrain.training.callbacks import JsonLines, StepRecord, TensorBoard


def record(step: int) -> StepRecord:
    return StepRecord(step, 10 * step, 1.0 / step, 0.1, 1.0, 0, 0.1, 0.0, 100.0, 1e6, None)


def evaluation() -> Evaluation:
    metric = Metric("exact_match", 0.5, "higher", "share")
    return Evaluation("exact_match", (metric,), (0.5,), 4, 0.1, ())


def steps_of(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def points(directory: Path, tag: str) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(directory / "tensorboard")).Reload()
    return [event.step for event in read.Scalars(tag)]


@pytest.mark.parametrize("start,left", [(0, []), (10, [5, 10])])
def test_every_start_voids_the_events_after_it(tmp_path, start, left):
    killed = TensorBoard(tmp_path)
    for step in (5, 10, 15, 20):
        killed.on_log(record(step))
    killed.on_evaluation(20, 200, evaluation())  # written through
    again = TensorBoard(tmp_path, start)
    again.on_log(record(start + 3))
    again.on_evaluation(start + 3, 30, evaluation())
    again.close()
    assert points(tmp_path, "train/loss") == [*left, start + 3]
    assert points(tmp_path, "evaluation/exact_match") == [start + 3]


def test_lines_of_a_stretch_that_is_trained_again_are_kept_aside(tmp_path):
    first = JsonLines(tmp_path)
    for step in (1, 2, 3, 4):
        first.on_log(record(step))
    first.on_evaluation(4, 40, evaluation())
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "half a li')
    for start, kept, aside in ((2, [1, 2], [3, 4]), (0, [], [3, 4, 1, 2])):
        JsonLines(tmp_path, start).close()
        assert steps_of(tmp_path / "metrics.jsonl") == kept
        assert steps_of(tmp_path / "abandoned" / "metrics.jsonl") == aside
        assert steps_of(tmp_path / "evaluation.jsonl") == []
    assert steps_of(tmp_path / "abandoned" / "evaluation.jsonl") == [4]


def test_a_score_that_is_no_number_is_null_and_said(tmp_path, capsys):
    values = (Metric("loss", math.inf, "lower", "nats"), Metric("bits", math.nan, "lower", "bits"))
    bad = Evaluation("bits", values, (), 4, 0.1, ())
    assert bad.not_finite == ("bits", "loss")
    records = JsonLines(tmp_path)
    records.on_evaluation(5, 50, evaluation())
    assert not capsys.readouterr().err
    records.on_evaluation(10, 100, bad)
    records.close()
    assert "after step 10: bits, loss: no finite number, null in the" in capsys.readouterr().err
    lines = (tmp_path / "evaluation.jsonl").read_text().splitlines()
    found = json.loads(lines[-1], parse_constant=lambda name: pytest.fail(name))
    assert found["metrics"] == {"loss": None, "bits": None}


def full(*_args, **_kwargs):
    raise OSError(28, os.strerror(28))


def test_a_full_disk_costs_events_and_not_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.__init__", full)
    callback = TensorBoard(tmp_path)
    callback.on_log(record(1))
    callback.on_evaluation(1, 10, evaluation())
    callback.close()
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_records_that_cannot_be_begun_are_an_error_that_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(UserError, match=r"selection\.jsonl: No space left on device"):
        JsonLines(tmp_path)

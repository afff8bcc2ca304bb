"""Being asked to stop, by signal, by file and by time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pretrain.config import load_config
from pretrain.distributed.ranks import discover
from pretrain.testing.processes import call_on
from pretrain.training.health.stopping import LOOK_SECONDS, SIGNALS, Stopper

ROOT = Path(__file__).resolve().parents[3]


def test_nobody_has_asked(tmp_path):
    assert Stopper(tmp_path).reason == ""
    assert Stopper(tmp_path, max_minutes=60).reason == ""


def test_a_signal_asks_once_and_the_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(number) for number in SIGNALS]
    stopper = Stopper(tmp_path)
    with stopper.listening():
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)  # handlers run between two instructions
        assert stopper.reason == "SIGUSR1"
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert (tmp_path / "stop").read_text() == "SIGUSR1\n"


def test_what_one_rank_is_asked_another_finds_in_the_folder(tmp_path):
    first, other = Stopper(tmp_path), Stopper(tmp_path)
    other.ask("SIGTERM")
    assert first.reason == "SIGTERM"


def test_a_file_and_the_time_ask_too(tmp_path):
    (tmp_path / "stop").touch()
    stopper = Stopper(tmp_path)
    assert stopper.reason == f"{tmp_path / 'stop'} is there"
    stopper.forget()
    assert not (tmp_path / "stop").exists()
    assert Stopper(tmp_path).reason == ""
    assert Stopper(tmp_path, max_minutes=1e-12).reason == "training.max_minutes are over"


def test_asking_in_a_folder_that_is_gone_still_counts(tmp_path):
    stopper = Stopper(tmp_path / "gone")
    stopper.ask("SIGTERM")
    assert stopper.reason == "SIGTERM"


def interrupted(directory: str, task: dict, at: int):
    """A run that is asked to stop when its evaluation begins at step `at`."""
    from pretrain.inference.decoding import GreedyDecoder
    from pretrain.training import job

    usual = GreedyDecoder.generate

    def generate(self, *arguments, **named):
        metrics = (Path(directory) / "metrics.jsonl").read_text().count("\n")
        if metrics == at:
            (Path(directory) / "stop").touch()
            time.sleep(LOOK_SECONDS)
        return usual(self, *arguments, **named)

    GreedyDecoder.generate = generate
    options = {
        "model": {"layers": 1, "hidden_size": 16, "sequence_length": 48},
        "optimizer": {"warmup_steps": 1},
        "training": {
            "steps": 4, "global_batch": 4, "evaluate_every": 2, "evaluation_examples": 20,
        },
        "run": {
            "directory": directory, "log_every": 1, "progress": False, "tensorboard": False,
        },
    }  # fmt: skip
    return job.run(load_config(None, options | task), discover())


@pytest.mark.distributed
@pytest.mark.parametrize(
    "data",
    [
        {},
        {"task": "multilabel", "path": "data/debtags.sample.jsonl", "minimum_documents": 5},
        {"task": "text", "path": "data/shakespeare.sample.txt"},
    ],
    ids=lambda data: data.get("task", "arithmetic"),
)
def test_a_run_is_stopped_in_an_evaluation_too(data, tmp_path):
    run = tmp_path / "run"

    def go(at: int) -> tuple[list[int], list[int]]:
        """Exit codes of both ranks, and evaluated steps."""
        codes = call_on(2, interrupted, str(run), {"data": data}, at)
        lines = (run / "evaluation.jsonl").read_text().splitlines()
        return codes, [json.loads(line)["step"] for line in lines]

    assert go(2) == ([75, 75], [])
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000002"]
    # It is made up for, and may be broken off again.
    assert go(2) == ([75, 75], [])
    assert go(4) == ([75, 75], [2])
    # The last one too.
    assert go(0) == ([0, 0], [2, 4])


@pytest.mark.distributed
def test_a_terminated_run_saves_and_goes_on(tmp_path):
    folder = tmp_path / "run"
    command = [
        sys.executable, "pretrain/main.py", "--config", "configs/smoke/multiplication.yaml",
        "--run.directory", str(folder), "--run.log_every", "1", "--run.progress", "false",
        "--run.tensorboard", "false", "--training.steps", "100000",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 75, out
    assert "(SIGTERM); the same command goes on from there" in out
    (saved,) = (folder / "checkpoints").iterdir()
    done = int(saved.name.removeprefix("step-"))
    assert metrics.read_text().count("\n") == done
    again = subprocess.run(
        [*command, "--training.max_minutes", "0.0001"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert again.returncode == 75, again.stderr
    assert f"going on from {saved}, {done:,} steps done" in again.stdout

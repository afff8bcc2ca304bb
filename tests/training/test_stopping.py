"""Being asked to stop, by signal, by file and by time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pretrain.training.stopping import SIGNALS, Stopper

ROOT = Path(__file__).resolve().parents[2]


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

"""The command: frames of 80 columns and of wide terminals, and what it loads."""

import os
import subprocess
import sys

import pytest

from launcher.__main__ import main
from pretrain.testing.processes import call_on


@pytest.fixture
def shown(made, capsys, monkeypatch):
    """The lines of one frame."""

    def show(columns=80, path=None):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["watch", "--once", str(path or made.path)]) == 0
        return capsys.readouterr().out.splitlines()

    return show


def test_a_frame_of_80_columns_says_it_all(made, shown):
    made.metrics(mfu=0.412).checkpoint(80, ago=125)
    (made.path / "checkpoints" / ".step-00000100.partial").mkdir()
    made.lines("evaluation.jsonl", [
        {"step": 80, "headline": "exact_match", "metrics": {"exact_match": 0.25}, "samples": []}
    ])  # fmt: skip
    made.lines("bad_steps.jsonl", [{"step": 41, "reason": "the loss was a spike"}])
    made.attempts(("start", 0, 500, "", ""), ("end", 30, 400, "requeued", ""),
                  ("start", 30, 300, "", ""))  # fmt: skip
    made.ranks({}, {}, {}, {}, slow=[{"rank": 3, "host": "n1", "times": 2.14}])
    lines = shown()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    text = "\n".join(line.rstrip() for line in lines)
    for expected in (
        "training", "step 100 of 200", "50 %, 50 s left", "step 100\n", "3.0700 at step 100",
        "exact match 0.2500 at step 80", "20,480 tokens/s, 500 ms a step, MFU 41.2 %",
        "step 80, 2 min 5 s ago, 2 MB; step 100 is being written",
        "1, the last 41: the loss was a spike", "1, from step 30", "4 on 2 hosts",
        "rank 3 on n1 (2.1 times the others)", "job         7",
    ):  # fmt: skip
        assert expected in text, expected


def test_a_wide_terminal_has_the_figures_beside_the_curve(made, shown):
    made.metrics().ranks({})
    lines = shown(140)
    assert max(map(len, lines)) <= 140
    assert any("┤" in line and "checkpoint" in line for line in lines)


def test_many_silent_ranks_of_a_long_named_run_stay_within_the_lines(made, shown):
    path = made.path.rename(made.path.with_name("r" * 150))
    made.path = path
    made.metrics().ranks(*[{"seconds_silent": 20.0}] * 1024)
    lines = shown(path=path)
    assert max(map(len, lines)) <= 80
    assert "rank 0 on n0, rank 1 on n0, rank 2 on n1 and 1021 more" in " ".join(lines)


def test_what_a_file_says_cannot_steer_the_terminal(made, shown):
    made.metrics().ranks({"operation": "done", "failed": "\x1b[2J[red]x[/red]\n\x07"}, age=99)
    text = "\n".join(shown())
    assert "\x1b" not in text
    assert "[2J[red]x[/red]" in text


def test_a_folder_that_holds_no_run_is_refused(tmp_path, capsys):
    assert main(["watch", "--once", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["watch", "--once", str(tmp_path / "none")]) == 2
    assert "is not there; give the run.directory of a run" in capsys.readouterr().err
    assert main(["watch", "--interval", "0", str(tmp_path)]) == 2


def test_neither_torch_nor_deepspeed_is_loaded(made):
    made.metrics().ranks({}).checkpoint(50)
    program = (
        "import sys; from launcher.__main__ import main; "
        f"code = main(['watch', '--once', {str(made.path)!r}]); "
        "print(code, [name for name in ('torch', 'deepspeed', 'megatron') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 []"


def _train(directory: str, *more: str) -> int:
    from pretrain.main import main as train

    return train([
        "--run.directory", directory, "--run.device", "cpu", "--run.tensorboard", "false",
        "--run.progress", "false", "--run.log_every", "1", "--model.layers", "1",
        "--model.hidden_size", "16", "--model.attention_heads", "2",
        "--model.sequence_length", "10", "--training.global_batch", "8",
        "--training.steps", "4", "--training.evaluation_examples", "8", *more,
    ])  # fmt: skip


@pytest.mark.distributed
def test_a_real_run_is_shown_as_stopped_and_as_complete(tmp_path, shown):
    directory = tmp_path / "real"
    assert call_on(1, _train, str(directory), "--training.max_minutes", "0.0001") == [75]
    text = "\n".join(shown(path=directory))
    assert "stopped" in text
    assert "training.max_minutes are over" in text
    assert call_on(1, _train, str(directory)) == [0]
    text = "\n".join(shown(path=directory))
    for expected in ("complete", "step 4 of 4", "100 %", "checkpoint  step 4", "exact match",
                     "1, from step "):  # fmt: skip
        assert expected in text, expected

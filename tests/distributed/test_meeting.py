"""Who is missing where processes meet, and what each finds out about its host."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pretrain.distributed import meeting
from pretrain.distributed.meeting import (
    MissingRanksError,
    Place,
    bound,
    fair_share,
    here,
    meet,
    placed,
)
from pretrain.distributed.ranks import Ranks, discover, free_port
from pretrain.testing.processes import call_on

ROOT = Path(__file__).resolve().parents[2]
TWO = Ranks("srun", 0, 2, 0, 2)


@pytest.mark.parametrize(
    "cores,expected",
    [
        ([range(8)], [8]),
        # Nothing is dealt out: eight cores are shared by two, by three.
        ([range(8), range(8)], [4, 4]),
        ([range(8), range(8), range(8)], [2, 2, 2]),
        # mpirun --map-by slot:PE=4, srun with bound tasks: dealt out, and not divided again.
        ([range(4), range(4, 8)], [4, 4]),
        # One core each, as mpirun -n 2 binds.
        ([[0], [1]], [1, 1]),
        # Two sockets with two processes each.
        ([range(4), range(4), range(4, 8), range(4, 8)], [2, 2, 2, 2]),
        # More processes than cores.
        ([[0], [0], [0]], [1, 1, 1]),
    ],
)
def test_cores_are_divided_among_those_that_may_use_them(cores, expected):
    places = [Place(rank, "h", tuple(own)) for rank, own in enumerate(cores)]
    assert [fair_share(place, places) for place in places] == expected


def test_where_a_launcher_does_not_say_it_the_place_is_that_among_its_host():
    places = [Place(rank, "h", (0,)) for rank in (4, 5, 7)]
    silent = discover({"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1"})
    assert not silent.placed
    assert placed(silent, places) == Ranks("torchrun", 5, 8, 1, 3)
    # What a launcher says counts; only how many there are is counted.
    assert placed(Ranks("srun", 5, 8, 2, 4), places) == Ranks("srun", 5, 8, 2, 3)


def test_a_missing_rank_is_named_with_the_way_out(monkeypatch, capsys):
    monkeypatch.setattr(meeting, "SAY_SECONDS", 1.0)
    with pytest.raises(MissingRanksError) as error:
        meet(TWO, f"127.0.0.1:{free_port()}", 3.0)
    assert error.value.exit_code == 74
    assert str(error.value).startswith("rank 1 of 2 did not come within 3 s (run.start_timeout_se")
    assert "unset SLURM_PROCID to run one process" in str(error.value)
    said = capsys.readouterr().err
    assert f"rank 0 on {socket.gethostname()} waits at 127.0.0.1:" in said
    assert "rank 1 of 2 did not come yet" in said


def test_a_first_rank_that_does_not_come_is_named(monkeypatch):
    port = free_port()
    began = time.monotonic()
    with pytest.raises(MissingRanksError, match=f"rank 0 does not answer at 127.0.0.1:{port} with"):
        meet(replace(TWO, rank=1), f"127.0.0.1:{port}", 3.0)
    assert time.monotonic() - began < 20


def test_one_process_meets_nobody():
    _, places = meet(Ranks("none", 0, 1, 0, 1), None, 1.0)
    assert places == [here(0)]


def neighbours(port: int) -> list[int]:
    ranks = discover()
    _, places = meet(ranks, f"127.0.0.1:{port}", 60.0)
    return [place.rank for place in places]


@pytest.mark.distributed
def test_all_learn_who_is_on_their_host():
    # Each lets the store go at once: the first, which holds it, must be the last to need it.
    for _ in range(5):
        assert call_on(2, neighbours, free_port()) == [[0, 1], [0, 1]]


def test_a_launcher_that_binds_is_told_of_once(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    two = [Place(0, "h", (0,)), Place(1, "h", (1,))]
    ranks = Ranks("openmpi", 0, 2, 0, 2)
    assert bound(ranks, two) == (
        "mpirun has bound 2 processes of this host to 2 of 8 cores; --bind-to none shares them, "
        "--map-by slot:PE=N gives each N"
    )
    assert bound(ranks, [Place(0, "h", tuple(range(8)))]) == ""
    assert bound(Ranks("torchrun", 0, 2, 0, 2), two) == ""


@pytest.mark.distributed
def test_a_shell_inside_of_srun_ends_with_a_sentence(tmp_path):
    left = {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "0",
            "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "localhost"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "pretrain/main.py", "--run.directory", str(tmp_path / "run"),
         "--run.device", "cpu", "--run.start_timeout_seconds", "3", "--training.global_batch", "8"],
        cwd=ROOT, env={**os.environ, **left, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 74, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: rank 1 of 2 did not come within 3 s" in done.stderr
    assert "srun --pty bash" in done.stderr

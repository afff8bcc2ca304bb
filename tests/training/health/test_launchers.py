"""What becomes of ranks when their launcher gets a signal: the table of docs/first-run.md, with the
real launchers and ranks that do nothing but wait to be stopped, and then save for a second."""

import os
import signal
import sys
import time

import pytest

from pretrain.training.health.launchers import launcher_name
from tests.training.health.ranks import ended, started

PYTHON, TORCHRUN = [sys.executable], ["torchrun", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
                                      "--rdzv-endpoint", "localhost:0"]  # fmt: skip
DEEPSPEED = ["deepspeed", "--num_accelerators", "2", "--master_port"]
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", sys.executable]
GONE = ", which started this, is gone"


@pytest.mark.distributed
@pytest.mark.parametrize(
    "launcher,number,code,why",
    [
        # launcher, signal to it, its exit code, why the ranks saved; None where they did not
        ("python", "SIGTERM", 75, "SIGTERM"),
        ("python", "SIGUSR1", 75, "SIGUSR1"),
        ("python", "SIGINT", -2, None),
        ("torchrun", "SIGTERM", 1, "SIGTERM"),
        ("torchrun", "SIGUSR1", -10, GONE),
        ("torchrun", "SIGINT", 1, None),
        ("torchrun", "SIGKILL", -9, GONE),
        ("deepspeed", "SIGTERM", -15, GONE),
        ("deepspeed", "SIGUSR1", -10, GONE),
        ("deepspeed", "SIGINT", -2, GONE),
        ("mpirun", "SIGTERM", 1, None),
        ("mpirun", "SIGUSR1", 75, "SIGUSR1"),
        ("mpirun", "SIGINT", 1, None),
        ("mpirun", "SIGKILL", -9, GONE),
    ],
)
def test_a_signal_to_a_launcher(launcher, number, code, why, tmp_path):
    from pretrain.distributed.ranks import free_port

    command = {"python": PYTHON, "torchrun": TORCHRUN, "mpirun": MPIRUN,
               "deepspeed": [*DEEPSPEED, str(free_port())]}[launcher]  # fmt: skip
    ranks = 1 if launcher == "python" else 2
    process = started(command, tmp_path)
    try:
        found, saved = ended(tmp_path, process, ranks, getattr(signal, number))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert found == code
    assert len(saved) == (0 if why is None else ranks)
    assert all(why in said for said in saved.values() if why)


@pytest.mark.distributed
@pytest.mark.parametrize("command", [TORCHRUN, MPIRUN], ids=["torchrun", "mpirun"])
def test_a_file_named_stop_works_under_every_launcher(command, tmp_path):
    process = started(command, tmp_path)
    while len(list(tmp_path.glob("training-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    (tmp_path / "stop").touch()
    assert process.wait(60) == (75 if command is MPIRUN else 1)
    process.communicate()
    assert len(list(tmp_path.glob("saved-*"))) == 2


@pytest.mark.parametrize(
    "command,name",
    [
        (["/usr/bin/mpirun", "-n", "2"], "mpirun"),
        (["slurmstepd: [7.0]"], "slurmstepd"),
        (["/v/bin/python3.11", "/v/bin/torchrun", "--nproc-per-node", "2", "a.py"], "torchrun"),
        (["python", "-u", "-m", "deepspeed.launcher.launch", "--world_info=x"], "deepspeed"),
        (["python", "-m", "torch.distributed.run", "a.py"], "torchrun"),
        (["python", "train.py", "deepspeed"], None),
        (["bash", "-c", "torchrun a.py"], None),
        (["python", "-m", "tools.compare_strategies"], None),
        ([], None),
    ],
)
def test_launchers_are_known_by_their_command_line(command, name):
    assert launcher_name(command) == name

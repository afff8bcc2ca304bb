"""What becomes of the ranks of a shell's `srun` when it, or its job, gets a signal: the row of srun
in the table of docs/first-run.md, on a real SLURM."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.cluster import Cluster
from tests.training.health.ranks import ended, started, under_way, what_became

SRUN = ["srun", "--quiet", "--ntasks=2", "--time=10", "--job-name=shell", sys.executable]

pytestmark = [pytest.mark.distributed, pytest.mark.alone]


@pytest.fixture
def srun(cluster: Cluster, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An `srun` of two ranks that wait to be stopped; nothing is left of it."""
    process = started(SRUN, tmp_path, cluster.environment)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    cluster.run("scancel", "--name", "shell", check=False)


@pytest.mark.parametrize(
    "numbers,codes,why",
    [
        # signals to srun, its exit code, why the ranks saved; None where they did not
        (["SIGTERM"], [137], None),
        (["SIGUSR1"], [75], "SIGUSR1"),
        # The ranks get SIGINT, then SIGKILL: which of the two they die of is a race.
        (["SIGINT", "SIGINT"], [130, 137], None),
        (["SIGKILL"], [-9], None),
    ],
    ids=["SIGTERM", "SIGUSR1", "two SIGINT", "SIGKILL"],
)
def test_a_signal_to_srun(numbers, codes, why, srun, tmp_path):
    found, saved = ended(tmp_path, srun, 2, *(getattr(signal, number) for number in numbers))
    assert found in codes
    assert list(saved.values()) == ([] if why is None else [why, why])


def test_one_interrupt_of_srun_does_nothing(srun, tmp_path):
    members = under_way(tmp_path, srun, 2)
    srun.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert srun.poll() is None
    srun.send_signal(signal.SIGUSR1)
    assert what_became(tmp_path, srun, members) == (75, {"0": "SIGUSR1", "1": "SIGUSR1"})


@pytest.mark.parametrize(
    "options,why", [([], "SIGTERM"), (["--signal=TERM"], "SIGTERM"), (["--signal=USR1"], "SIGUSR1")]
)
def test_scancel_reaches_the_ranks_themselves(options, why, srun, cluster, tmp_path):
    members = under_way(tmp_path, srun, 2)
    cluster.run("scancel", *options, "--name", "shell")
    assert what_became(tmp_path, srun, members) == (75, {"0": why, "1": why})

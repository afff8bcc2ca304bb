"""A rank that dies or stalls ends the job, and the message names it. Real processes."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from pretrain.config import load_config
from pretrain.distributed.ranks import free_port
from pretrain.run_files import RANKS
from pretrain.testing.forks import environment, forks
from pretrain.training.health.heartbeat import LOST

STEPS = 10_000
PATIENCE = 120.0


def member(mode: str, directory: Path) -> None:
    """Steps that only talk to each other; `mode` says what goes wrong on the second rank."""
    import torch
    import torch.distributed as dist

    from pretrain.distributed import topology
    from pretrain.spans import span
    from pretrain.training.health.heartbeat import Heartbeat

    limits = {"silence_seconds": 3, "timeout_seconds": 3, "start_timeout_seconds": 60}
    config = load_config(None, {"training": {"global_batch": 2}, "run": limits})
    with topology.start(config) as here:
        heart = Heartbeat(config.run, here, directory, interval=0.2)
        with heart.beating():
            for step in range(STEPS):
                with span("forward"):
                    time.sleep(0.1 if mode == "slow" and here.ranks.rank else 0.02)
                with span("data"):
                    if mode == "stalls" and here.ranks.rank and step == 20:
                        time.sleep(3600)
                    if mode == "fails" and here.ranks.rank and step == 20:
                        raise ValueError("no more data")
                with span("backward"):
                    dist.all_reduce(torch.ones(()))
                heart.on_step(step + 1)
                if mode == "slow" and step == 150:
                    break


def written_down(rank: int, port: int, mode: str, directory: Path) -> None:
    """A rank whose standard error goes to a file."""
    os.environ.update(environment(rank, 2, port))
    with (directory / f"{rank}.err").open("w") as file:
        os.dup2(file.fileno(), 2)
    member(mode, directory)


class Pair:
    """Two ranks that nobody but their heartbeats watches."""

    def __init__(self, mode: str, directory: Path) -> None:
        self.mode, self.directory = mode, directory
        directory.mkdir()
        port = free_port()
        self.ranks = [
            forks().Process(target=written_down, args=(rank, port, mode, directory))
            for rank in (0, 1)
        ]
        for process in self.ranks:
            process.start()

    def wait_for_steps(self) -> None:
        """Until both have stepped."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                said = json.loads((self.directory / RANKS).read_text())["ranks"]
                if min(rank["step"] for rank in said) > 5:
                    return
            except (OSError, ValueError):
                pass
            time.sleep(0.1)
        raise TimeoutError(self.said(0) + self.said(1))

    def code(self, rank: int) -> int | None:
        self.ranks[rank].join(PATIENCE)
        return self.ranks[rank].exitcode

    def said(self, rank: int) -> str:
        lines = (self.directory / f"{rank}.err").read_text().splitlines()
        return "\n".join(line for line in lines if "Warning" not in line)

    def send(self, rank: int, number: signal.Signals) -> None:
        os.kill(self.ranks[rank].pid, number)

    def kill(self) -> None:
        for process in self.ranks:
            process.kill()
            process.join()


MODES = ("second dies", "first dies", "stops", "stalls", "fails", "slow")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    made = {mode: Pair(mode, folder / mode.replace(" ", "_")) for mode in MODES}
    yield made
    for pair in made.values():
        pair.kill()


@pytest.mark.distributed
@pytest.mark.parametrize("mode,dead", [("second dies", 1), ("first dies", 0)])
def test_the_death_of_a_rank_ends_the_others_and_names_it(mode, dead, pairs):
    pair = pairs[mode]
    pair.wait_for_steps()
    pair.send(dead, signal.SIGKILL)
    alive = 1 - dead
    assert pair.code(alive) == LOST
    said = pair.said(alive)
    assert f"error: rank {alive} on " in said
    assert " lost contact in step " in said
    assert f": rank {dead} on " in said
    assert " is gone" in said
    assert "Traceback" not in said


@pytest.mark.distributed
def test_a_stopped_process_ends_the_job(pairs):
    pair = pairs["stops"]
    pair.wait_for_steps()
    pair.send(1, signal.SIGSTOP)
    assert pair.code(0) == LOST
    assert "error: rank 1 on " in pair.said(0)
    assert "said nothing for 3 s (run.silence_seconds)" in pair.said(0)


@pytest.mark.distributed
def test_a_stalled_rank_ends_the_job_and_shows_where_it_stands(pairs):
    pair = pairs["stalls"]
    assert [pair.code(rank) for rank in (0, 1)] == [LOST, LOST]
    assert "error: rank 1 on " in pair.said(0)
    assert "in step 21, data did not get on for 3 s (run.timeout_seconds)" in pair.said(0)
    assert "1 other ranks are further and wait" in pair.said(0)
    assert "rank 1 stands here:" in pair.said(1)
    assert "in member" in pair.said(1)


@pytest.mark.distributed
def test_a_rank_that_fails_shows_its_error_and_the_others_name_it(pairs):
    pair = pairs["fails"]
    assert pair.code(1) == 1
    assert "ValueError: no more data" in pair.said(1)
    assert pair.code(0) == LOST
    assert " is gone (ValueError: no more data)" in pair.said(0)


@pytest.mark.distributed
def test_a_slow_rank_is_named_and_goes_on(pairs):
    pair = pairs["slow"]
    assert [pair.code(rank) for rank in (0, 1)] == [0, 0]
    assert "warning: rank 1 on " in pair.said(0)
    said = json.loads((pair.directory / RANKS).read_text())
    assert [slow["rank"] for slow in said["stragglers"]] == [1]

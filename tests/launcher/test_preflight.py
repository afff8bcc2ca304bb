"""The check before training: ends in time, and names who is slow or does not come."""

import os
import signal
import subprocess
import sys
import time

import pytest

from launcher.preflight import Times, laggards, neighbours, report, slow, verdicts
from pretrain.distributed.ranks import free_port

SECONDS = 12


def ranks(members: list[int], world: int = 3) -> dict[int, subprocess.Popen[str]]:
    """Ranks of srun's, each on a node of its own."""
    port = free_port()
    common = {
        "SLURM_NTASKS": str(world), "SLURM_STEP_ID": "0", "SLURM_LOCALID": "0",
        "SLURM_TASKS_PER_NODE": f"1(x{world})", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "MIFIRST_NODES": ",".join(f"n{i}" for i in range(world)),
        "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "FATAL",
    }  # fmt: skip
    return {
        rank: subprocess.Popen(
            [sys.executable, "-m", "launcher.preflight", "--seconds", str(SECONDS)],
            env={**os.environ, **common, "SLURM_PROCID": str(rank), "SLURMD_NODENAME": f"n{rank}"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in members
    }  # fmt: skip


@pytest.mark.distributed
@pytest.mark.alone
def test_nodes_that_are_missing_or_hang_are_named_in_time():
    said = {}
    for name, members, hangs, speaks in (
        ("missing", [0, 1], None, 0), ("hanging", [0, 1, 2], 1, 0), ("headless", [1], None, 1)
    ):  # fmt: skip
        began = time.monotonic()
        started = ranks(members)
        if hangs is not None:
            started[hangs].send_signal(signal.SIGSTOP)
        said[name] = started[speaks].communicate()[0]
        assert started[speaks].returncode == 1
        assert time.monotonic() - began < SECONDS + 30  # torch has to start as well
        if hangs is not None:
            started[hangs].kill()
        for rank, process in started.items():
            if rank != speaks:
                process.communicate()
    assert said["missing"].splitlines() == [
        f"error: after {SECONDS} s, these did not reach the first node: node n2 (rank 2)"
    ]
    assert said["hanging"].splitlines() == [
        f"error: after {SECONDS} s, these did not reach the first node: node n1 (rank 1)"
    ]
    assert "node n1 (rank 1) did not reach the first node at 127.0.0.1:" in said["headless"]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_pairs_of_a_round_fit_and_everybody_has_a_partner(count):
    rounds = list(zip(*[neighbours(position, count) for position in range(count)], strict=True))
    for partners in rounds:
        for position, partner in enumerate(partners):
            assert partner == -1 or partners[partner] == position
    for position in range(count):
        assert any(partner >= 0 for partner in neighbours(position, count))
    assert neighbours(0, 1) == []


def test_a_slow_node_is_named_and_the_one_beside_it_is_not():
    # In a ring of four, node 2 is slow with both neighbours.
    exchange = {"n0": (0.1, 0.1), "n1": (0.1, 0.9), "n2": (0.9, 0.9), "n3": (0.9, 0.1)}
    times = [Times(node, 2.0, 0.1, pair, 0.5) for node, pair in exchange.items()]
    assert verdicts(times) == ["warning: node n2 takes 0.90 s to exchange data, the median 0.10 s"]


def test_of_two_nodes_none_is_called_slow():
    assert slow({"a": 1.0, "b": 9.0}) == []
    assert slow({"a": 1.0, "b": 1.0, "c": 3.1}) == ["c"]
    assert slow({"a": 0.001, "b": 0.001, "c": 0.01}) == []


def test_those_who_got_least_far_are_named_by_node():
    text = laggards([5, 3, 3, 4], ["a", "b", "b", "c"])
    assert text == "did not exchange data: node b (ranks 1, 2)"


def test_nodes_that_differ_are_told_apart():
    one, other = {"versions": "torch 2.13"}, {"versions": "torch 2.12"}
    assert report({"a": one, "b": one}) == ["versions    torch 2.13"]
    assert report({"a": one, "b": other, "c": one}) == [
        "warning: nodes have different versions",
        "versions    torch 2.13 (a, c)",
        "versions    torch 2.12 (b)",
    ]

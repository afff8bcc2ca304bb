"""Ranks on one machine, forked from a process which has imported everything, so that a fresh one
takes a moment instead of seconds. For tests and benchmarks on CPUs."""

from __future__ import annotations

import os
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext


def forks() -> ForkServerContext:
    """Starts processes that have imported everything."""
    # Read by torch and DeepSpeed when they are imported.
    os.environ.update({"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"})
    context = get_context("forkserver")
    context.set_forkserver_preload(["pretrain.testing.preloaded"])
    return context


def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun would set."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
    }

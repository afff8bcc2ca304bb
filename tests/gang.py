"""Starting several real processes that talk over gloo, and collecting what each returns."""

import os
import pickle
import random
import socket
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


def free_port() -> int:
    """A free port below those that the system hands out by itself, so that it stays free."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


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


def _member(
    rank: int, ranks: int, ports: list[int], calls: list[tuple[Any, ...]], pipe: Connection
) -> None:
    results: list[Any] = []
    try:
        for port, (function, *arguments) in zip(ports, calls, strict=True):
            os.environ.update(environment(rank, ranks, port))
            results.append(function(*arguments))
        # As bytes: tensors would otherwise be shared with a process that is about to end.
        pipe.send_bytes(pickle.dumps(("done", results)))
    except BaseException:
        pipe.send_bytes(pickle.dumps(("failed", traceback.format_exc())))


def run_gang(
    ranks: int, calls: list[tuple[Callable[..., Any], *tuple[Any, ...]]], timeout: float = 300.0
) -> list[list[Any]]:
    """Run each call on `ranks` processes, one call after the other in the same processes.

    Every call gets a rendezvous port of its own. Returns, per call, the results in rank order; a
    member's error is raised here with its traceback.
    """
    # Read by torch when it is imported, before a member's first line.
    os.environ["OMP_NUM_THREADS"] = "1"
    context = get_context("spawn")
    ports = [free_port() for _ in calls]
    members = []
    for rank in range(ranks):
        here, there = context.Pipe()
        process = context.Process(target=_member, args=(rank, ranks, ports, calls, there))
        process.start()
        there.close()
        members.append((process, here))
    try:
        collected = []
        for rank, (_, pipe) in enumerate(members):
            if not pipe.poll(timeout):
                raise TimeoutError(f"rank {rank} of {ranks} said nothing for {timeout:.0f} s")
            try:
                state, value = pickle.loads(pipe.recv_bytes())
            except EOFError:
                raise RuntimeError(f"rank {rank} of {ranks} died") from None
            if state == "failed":
                raise RuntimeError(f"rank {rank} of {ranks} failed:\n{value}")
            collected.append(value)
    finally:
        for process, _ in members:
            process.join(5)
            process.kill()
    return [list(per_rank) for per_rank in zip(*collected, strict=True)]

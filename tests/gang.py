"""Starting several real processes that talk over gloo, and collecting what each returns.

They are forked from a process that has imported everything (tests.preloaded), so that a fresh one
takes a moment, and each call gets fresh ones.
"""

import os
import pickle
import random
import socket
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

Call = tuple[Callable[..., Any], *tuple[Any, ...]]


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
    rank: int,
    ranks: int,
    port: int,
    pipe: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.update(environment(rank, ranks, port))
    try:
        answer = ("done", function(*arguments))
    except BaseException:
        answer = ("failed", traceback.format_exc())
    # As bytes: tensors would otherwise be shared with a process that is about to end.
    pipe.send_bytes(pickle.dumps(answer))


def forks() -> ForkServerContext:
    """Starts processes that have imported everything."""
    # Read by torch and DeepSpeed when they are imported.
    os.environ.update({"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"})
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    return context


def call_on(
    ranks: int, function: Callable[..., Any], *arguments: Any, timeout: float = 300.0
) -> list[Any]:
    """What the function returns on each of `ranks` processes, in rank order. A member's error is
    raised here with its traceback."""
    context = forks()
    port = free_port()
    members: list[tuple[BaseProcess, Connection]] = []
    try:
        for rank in range(ranks):
            here, there = context.Pipe()
            process = context.Process(
                target=_member, args=(rank, ranks, port, there, function, arguments)
            )
            process.start()
            there.close()
            members.append((process, here))
        answers = [_answer(rank, ranks, pipe, timeout) for rank, (_, pipe) in enumerate(members)]
    except BaseException:
        for process, _ in members:
            process.kill()
        raise
    finally:
        for process, _ in members:
            process.join(5.0)
            process.kill()
    return answers


def _answer(rank: int, ranks: int, pipe: Connection, timeout: float) -> Any:
    if not pipe.poll(timeout):
        raise TimeoutError(f"rank {rank} of {ranks} said nothing for {timeout:.0f} s")
    try:
        state, value = pickle.loads(pipe.recv_bytes())
    except EOFError:
        raise RuntimeError(f"rank {rank} of {ranks} died") from None
    if state == "failed":
        raise RuntimeError(f"rank {rank} of {ranks} failed:\n{value}")
    return value


def run_gang(ranks: int, calls: list[Call], timeout: float = 300.0) -> list[list[Any]]:
    """Each call on `ranks` processes, one after the other. Returns, per call, the results in rank
    order."""
    return [call_on(ranks, *call, timeout=timeout) for call in calls]

"""Starting several real processes that talk over gloo, and collecting what each returns.

They are forked from a process that has imported everything, so that a fresh one takes a moment, and
each call gets fresh ones.
"""

import os
import pickle
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pretrain.distributed.ranks import free_port
from pretrain.testing.forks import environment, forks

STREAMS = {1: "out", 2: "err"}
Call = tuple[Callable[..., Any], *tuple[Any, ...]]


def _member(
    rank: int,
    ranks: int,
    port: int,
    pipe: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    said: Path,
) -> None:
    os.environ.update(environment(rank, ranks, port))
    for number, name in STREAMS.items():
        with (said / f"{rank}.{name}").open("w") as file:
            os.dup2(file.fileno(), number)
    try:
        answer = ("done", function(*arguments))
    except BaseException:
        answer = ("failed", traceback.format_exc())
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # As bytes: tensors would otherwise be shared with a process that is about to end.
    pipe.send_bytes(pickle.dumps(answer))


def call_on(
    ranks: int, function: Callable[..., Any], *arguments: Any, timeout: float = 300.0
) -> list[Any]:
    """What the function returns on each of `ranks` processes, in rank order. A member's error is
    raised here with its traceback."""
    context = forks()
    port = free_port()
    members: list[tuple[BaseProcess, Connection]] = []
    said = Path(tempfile.mkdtemp())
    try:
        for rank in range(ranks):
            here, there = context.Pipe()
            process: BaseProcess = context.Process(
                target=_member, args=(rank, ranks, port, there, function, arguments, said)
            )
            process.start()
            there.close()
            members.append((process, here))
        answers = [_answer(rank, ranks, pipe, timeout) for rank, (_, pipe) in enumerate(members)]
    finally:
        # Those that hear of another's failure say so before they end.
        until = time.monotonic() + 5.0
        for process, _ in members:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()
        for name, stream in zip(STREAMS.values(), (sys.stdout, sys.stderr), strict=True):
            for path in sorted(said.glob(f"*.{name}")):
                stream.write(path.read_text(errors="replace"))
        shutil.rmtree(said)
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

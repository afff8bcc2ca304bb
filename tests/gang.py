"""Starting several real processes that talk over gloo, and collecting what each returns."""

import gc
import os
import pickle
import random
import socket
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
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


def _member(rank: int, ranks: int, pipe: Connection) -> None:
    while True:
        try:
            order = pipe.recv()
        except EOFError:  # whoever gave the orders is gone
            return
        if order is None:
            return
        port, (function, *arguments) = order
        os.environ.update(environment(rank, ranks, port))
        try:
            answer = ("done", function(*arguments))
        except BaseException:
            answer = ("failed", traceback.format_exc())
        # Process groups hang on in cycles, each with threads of its own.
        gc.collect()
        # As bytes: tensors would otherwise be shared with a process that is about to end.
        pipe.send_bytes(pickle.dumps(answer))


class Gang:
    """`ranks` processes that make one call after another, each with a rendezvous of its own."""

    def __init__(self, ranks: int) -> None:
        # Read by torch when it is imported, before a member's first line.
        os.environ["OMP_NUM_THREADS"] = "1"
        context = get_context("spawn")
        self.ranks = ranks
        self.members = []
        for rank in range(ranks):
            here, there = context.Pipe()
            process = context.Process(target=_member, args=(rank, ranks, there))
            process.start()
            there.close()
            self.members.append((process, here))

    def call(self, function: Callable[..., Any], *arguments: Any, timeout: float = 300.0) -> Any:
        """Results in rank order. A member's error is raised here with its traceback, and ends the
        gang."""
        port = free_port()
        for _, pipe in self.members:
            pipe.send((port, (function, *arguments)))
        try:
            return [self._answer(rank, timeout) for rank in range(self.ranks)]
        except BaseException:
            self.close(patience=0)
            raise

    def _answer(self, rank: int, timeout: float) -> Any:
        pipe = self.members[rank][1]
        if not pipe.poll(timeout):
            raise TimeoutError(f"rank {rank} of {self.ranks} said nothing for {timeout:.0f} s")
        try:
            state, value = pickle.loads(pipe.recv_bytes())
        except EOFError:
            raise RuntimeError(f"rank {rank} of {self.ranks} died") from None
        if state == "failed":
            raise RuntimeError(f"rank {rank} of {self.ranks} failed:\n{value}")
        return value

    def close(self, patience: float = 5.0) -> None:
        """End the processes."""
        for process, pipe in self.members:
            if process.is_alive() and patience:
                pipe.send(None)
        for process, _ in self.members:
            process.join(patience)
            process.kill()
        self.members = []

    @property
    def alive(self) -> bool:
        """Whether it takes calls."""
        return bool(self.members)

    def __enter__(self) -> "Gang":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Gangs:
    """Gangs of several sizes, each started when it is first needed."""

    def __init__(self) -> None:
        self.gangs: dict[int, Gang] = {}

    def call(self, ranks: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """As :meth:`Gang.call`; a gang that an error has ended is started anew."""
        if ranks not in self.gangs or not self.gangs[ranks].alive:
            self.gangs[ranks] = Gang(ranks)
        return self.gangs[ranks].call(function, *arguments)

    def close(self) -> None:
        """End all processes."""
        for gang in self.gangs.values():
            gang.close()


def run_gang(ranks: int, calls: list[Call], timeout: float = 300.0) -> list[list[Any]]:
    """Each call on the same `ranks` processes, one after the other. Returns, per call, the results
    in rank order."""
    with Gang(ranks) as gang:
        return [gang.call(*call, timeout=timeout) for call in calls]

"""Our counter on one rank and on two, in two processes that stay alive and talk over gloo."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
import torch.distributed as dist

from pretrain.distributed.cpu import keep_freed_memory
from pretrain.distributed.ranks import free_port
from pretrain.errors import UserError
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.table.counts import (
    DEFAULT_BUDGET,
    Marginals,
    ShardedCounts,
    count_pairs,
    window,
)
from pretrain.selection.table.sharding import LayoutChoice, assign_rows, plan_table

CHUNK_TOKENS = 1 << 20
DOCUMENT_TOKENS = 1000
LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Job:
    """What is counted.

    Attributes:
        tokens: [n] int32.
        vocabulary: V.
        window: places to the left and to the right.
    """

    tokens: np.ndarray
    vocabulary: int
    window: int

    @property
    def cut(self) -> Documents:
        """The text in documents of about 1000 tokens, so that it can be dealt out."""
        inner = np.arange(DOCUMENT_TOKENS, len(self.tokens), DOCUMENT_TOKENS)
        return Documents(self.tokens, np.concatenate([[0], inner, [len(self.tokens)]]))

    def count(
        self,
        documents: Documents,
        layout: LayoutChoice,
        group: dist.ProcessGroup | None = None,
    ) -> ShardedCounts:
        """Counts of these documents and those of the other ranks of `group`."""
        stream = stream_of(Examples(documents), CHUNK_TOKENS)
        size = self.vocabulary
        return count_pairs(stream, size, size, window(self.window), group, layout=layout)


@dataclass(frozen=True)
class Part:
    """One count, as one rank saw it.

    Attributes:
        seconds: from tokens in memory to a settled table.
        bytes: of the rank's table.
        work: pairs that the rank counted.
        counted: the sum of its table.
    """

    seconds: float
    bytes: int
    work: int
    counted: int


def over_share(values: np.ndarray) -> float:
    """The largest over the mean: 1 where all ranks have the same."""
    return float(values.max() / values.mean())


def spread(parts: list[Part]) -> tuple[float, float]:
    """(bytes over share, balance) of the ranks as they were measured."""
    held, work = (np.array([part.bytes for part in parts]), np.array([part.work for part in parts]))
    return over_share(held), over_share(work)


def planned(marginals: Marginals, layout: LayoutChoice, ranks: int) -> tuple[float, float]:
    """(bytes over share, balance) of a table as it is planned, before it gives back its room."""
    plan = plan_table(marginals.pairs, len(marginals.columns), DEFAULT_BUDGET, ranks, layout)
    owners = assign_rows(marginals.pairs, plan.sizes, ranks)
    held, work = (
        np.bincount(owners, weights=values, minlength=ranks)
        for values in (plan.sizes, marginals.pairs)
    )
    return over_share(held), over_share(work)


class TwoRanks:
    """The two processes; only one of them is busy where one rank is measured.

    Args:
        pipes: to each of them.
        job: what they count.
    """

    def __init__(self, pipes: list[Connection], job: Job) -> None:
        self.pipes = pipes
        self.pairs = self.one("auto").counted

    def one(self, layout: LayoutChoice) -> Part:
        """All documents on the first rank; the second waits for its turn and takes no time."""
        return self._ask(self.pipes[:1], layout, "alone")[0]

    def apart(self, layout: LayoutChoice) -> list[Part]:
        """Half of the documents in each process at the same time, as if there was no other: what
        the machine allows, since two busy cores are slower than one."""
        return self._ask(self.pipes, layout, "apart")

    def both(self, layout: LayoutChoice) -> list[Part]:
        """Half of the documents on each rank, counted together.

        Raises:
            UserError: the pairs do not add up to those that one rank has counted.
        """
        parts = self._ask(self.pipes, layout, "together")
        counted = sum(part.counted for part in parts)
        if counted != self.pairs:
            raise UserError(f"two ranks counted {counted:,} pairs, one rank {self.pairs:,}")
        return parts

    def _ask(self, pipes: list[Connection], layout: LayoutChoice, how: str) -> list[Part]:
        for pipe in pipes:
            pipe.send((layout, how))
        return [_answer(pipe) for pipe in pipes]


def _answer(pipe: Connection) -> Part:
    if not pipe.poll(LONGEST_SECONDS):
        raise UserError(f"a rank said nothing for {LONGEST_SECONDS:.0f} s")
    try:
        part = pipe.recv()
    except EOFError:
        raise UserError("a rank ended early; its error stands above") from None
    assert isinstance(part, Part)
    return part


@contextmanager
def two_ranks(job: Job) -> Iterator[TwoRanks]:
    """Start the two processes, warm; they end with the context.

    Raises:
        UserError: a process ended early.
    """
    spawn = multiprocessing.get_context("spawn")
    address = f"tcp://127.0.0.1:{free_port()}"
    pipes, processes = [], []
    for rank in range(2):
        here, there = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(rank, address, job, there), daemon=True)
        process.start()
        there.close()
        pipes.append(here)
        processes.append(process)
    try:
        ranks = TwoRanks(pipes, job)
        ranks.both("auto")
        yield ranks
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(30)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _serve(rank: int, address: str, job: Job, orders: Connection) -> None:
    """One rank: counts as often as it is told to."""
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    everything = job.cut
    mine = everything.share(rank, 2)
    while order := orders.recv():
        layout, how = order
        documents = everything if how == "alone" else mine
        group = dist.group.WORLD if how == "together" else None
        # Once untimed: a process that has waited for its turn has things to fetch back.
        job.count(documents, layout, group)
        if how != "alone":
            _start_together()
        orders.send(_timed(job, documents, layout, group))
    dist.destroy_process_group()


def _start_together() -> None:
    """Returns on both ranks at the same instant; a barrier lets one go before the other."""
    start = torch.tensor([time.monotonic() + 0.005], dtype=torch.float64)
    dist.all_reduce(start, op=dist.ReduceOp.MAX)
    while time.monotonic() < start.item():
        pass


def _timed(
    job: Job, documents: Documents, layout: LayoutChoice, group: dist.ProcessGroup | None
) -> Part:
    started = time.perf_counter()
    counts = job.count(documents, layout, group)
    seconds = time.perf_counter() - started
    table = counts.table
    counted = int(table.dense.sum() + table.counts.sum())
    work = counts.work()[0 if group is None else dist.get_rank(group)]
    return Part(seconds, table.bytes, int(work), counted)

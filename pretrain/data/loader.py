"""Batches made ahead of the step, in a thread beside it.

A reader draws and transforms its share of a step's examples, learns how many target tokens the
whole global batch has, and hands the finished batch to the other ranks of its model copy. All of
this goes over gloo groups of its own, so that it never meets the step's communication.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist

from pretrain.data.batch import Batch, positions_of
from pretrain.distributed.topology import Topology
from pretrain.spans import span

Rows = (
    tuple[np.ndarray, np.ndarray, np.ndarray]
    | tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
)
"""Tokens, labels, loss mask and, where documents are packed, the bool starts of documents."""


class BatchSource(Protocol):
    """Where a reader's batches come from. Called in the feed's thread, for each step once."""

    def selection_at(self, step: int) -> Any:
        """What selects the step's targets; called on every rank, so it may communicate."""
        ...

    def read(self, step: int, selector: Any) -> Rows:
        """A reader's tokens, labels and loss mask, each [share, length]; a fourth array says where
        documents begin that do not see each other."""
        ...


class BatchFeed:
    """Iterates over (step, batch) for `steps`; each batch is ready before it is asked for.

    Args:
        source: makes a reader's batches.
        topology: who reads, and who is handed what.
        share: sequences of a reader's batch.
        length: positions of the model.
        steps: steps to serve.
        ahead: batches made in advance; 0 makes each when it is asked for, without a thread.
        stop: asked on the first reader with every batch: whether the run is to stop after it.
    """

    def __init__(
        self,
        source: BatchSource,
        topology: Topology,
        share: int,
        length: int,
        steps: range,
        ahead: int = 2,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.source = source
        self.topology = topology
        self.share = share
        self.length = length
        self.steps = steps
        self.ahead = ahead
        self.stop = stop
        self._turn = threading.Condition()
        self._begun = self._made = steps.start  # steps whose batches were begun, and are made
        self._served = steps.start
        self._limit: int | None = None

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        """Serve the batches; an error in the thread is raised here with its own traceback."""
        if self.ahead == 0:
            for step in self.steps:
                started = time.perf_counter()
                with span("data"):
                    batch = self._make(step)
                self._begun = self._made = step + 1
                yield step, replace(batch, selection_seconds=time.perf_counter() - started)
            return
        ready: queue.Queue[Batch | BaseException] = queue.Queue()
        stop = threading.Event()
        worker = threading.Thread(
            target=self._work, args=(ready, stop), name="batch-feed", daemon=True
        )
        worker.start()
        try:
            for step in self.steps:
                started = time.perf_counter()
                with span("data"):
                    item = ready.get()
                waited = time.perf_counter() - started
                if isinstance(item, BaseException):
                    raise item
                with self._turn:
                    self._served = step + 1
                    self._turn.notify_all()
                yield step, replace(item, selection_seconds=waited)
        finally:
            stop.set()
            with self._turn:
                self._turn.notify_all()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """While inside, no rank makes a batch, and all have made the same ones.

        Every rank enters after the same step. A batch that is under way on one rank may wait for
        others, so all go on to the last one that anybody has begun.
        """
        with self._turn:
            self._limit = self._begun
        last = torch.tensor([self._limit], device=self.topology.device)
        dist.all_reduce(last, dist.ReduceOp.MAX)
        with self._turn:
            self._limit = int(last)
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._made >= int(last))
        try:
            yield
        finally:
            with self._turn:
                self._limit = None
                self._turn.notify_all()

    def _may_begin(self, step: int) -> bool:
        if self._limit is not None:
            return step < self._limit
        return step < self._served + self.ahead

    def _work(self, ready: queue.Queue[Batch | BaseException], stop: threading.Event) -> None:
        try:
            for step in self.steps:
                with self._turn:
                    self._turn.wait_for(partial(self._goes_on, step, stop))
                    if stop.is_set():
                        return
                    self._begun = step + 1
                ready.put(self._make(step))
                with self._turn:
                    self._made = step + 1
                    self._turn.notify_all()
        except BaseException as error:
            ready.put(error)
            with self._turn:  # whoever waits for quiet is told by the next batch
                self._made = self.steps.stop
                self._turn.notify_all()

    def _goes_on(self, step: int, stop: threading.Event) -> bool:
        return stop.is_set() or self._may_begin(step)

    def _make(self, step: int) -> Batch:
        with span("selection"):
            selector = self.source.selection_at(step)
            rows = self._read(step, selector)
        batch = self._hand_over(rows)
        return replace(batch, selector=selector)

    def _read(self, step: int, selector: Any) -> np.ndarray | None:
        """A reader's batch as rows of tokens, labels, flags and, in the last two columns, the
        count and whether to stop.

        Flags: 1 where the label counts, and 2 where a document begins.
        """
        readers = self.topology.readers
        if readers is None:
            return None
        tokens, labels, mask, *starts = self.source.read(step, selector)
        told = torch.tensor([int(mask.sum()), int(readers.rank == 0 and self.stop())])
        if readers.size > 1:
            dist.all_reduce(told, group=readers.group)
        counts = np.tile(told.numpy(), (len(tokens), 1))
        flags = mask.astype(np.int64)
        for begins in starts:
            flags += 2 * begins
        return np.concatenate([tokens, labels, flags, counts], axis=1)

    def _hand_over(self, rows: np.ndarray | None) -> Batch:
        if rows is None:
            packed = torch.empty(self.share, 3 * self.length + 2, dtype=torch.int64)
        else:
            packed = torch.from_numpy(np.ascontiguousarray(rows))
        feed = self.topology.feed
        if feed.size > 1:
            dist.broadcast(packed, dist.get_global_rank(feed.group, 0), group=feed.group)
        tokens, labels, flags, told = packed.split([self.length] * 3 + [2], dim=1)
        return Batch(
            tokens.contiguous(),
            labels.contiguous(),
            (flags & 1).float(),
            int(told[0, 0]),
            positions_of(flags >= 2),
            stop=bool(told[0, 1]),
        )

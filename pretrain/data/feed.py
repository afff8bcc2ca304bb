"""Batches made ahead of the step, in a thread beside it.

A reader draws and transforms its share of a step's examples, learns how many target tokens the
whole global batch has, and hands the finished batch to the other ranks of its model copy. All of
this goes over gloo groups of its own, so that it never meets the step's communication.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist

from pretrain.data.batches import Batch, positions_of
from pretrain.topology import Topology

Rows = (
    tuple[np.ndarray, np.ndarray, np.ndarray]
    | tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
)
"""Tokens, labels, loss mask and, where documents are packed, the bool starts of documents."""


class BatchSource(Protocol):
    """Where a reader's batches come from. Called in the feed's thread, for each step once."""

    def selection_at(self, step: int) -> Any:
        """What the step's examples are selected by; called on every rank, so it may communicate."""
        ...

    def read(self, step: int, selection: Any) -> Rows:
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
    """

    def __init__(
        self,
        source: BatchSource,
        topology: Topology,
        share: int,
        length: int,
        steps: range,
        ahead: int = 2,
    ) -> None:
        self.source = source
        self.topology = topology
        self.share = share
        self.length = length
        self.steps = steps
        self.ahead = ahead

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        """Serve the batches; an error in the thread is raised here with its own traceback."""
        if self.ahead == 0:
            for step in self.steps:
                started = time.perf_counter()
                batch = self._make(step)
                yield step, replace(batch, selection_seconds=time.perf_counter() - started)
            return
        ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=self.ahead)
        stop = threading.Event()
        worker = threading.Thread(
            target=self._work, args=(ready, stop), name="batch-feed", daemon=True
        )
        worker.start()
        try:
            for step in self.steps:
                started = time.perf_counter()
                item = ready.get()
                waited = time.perf_counter() - started
                if isinstance(item, BaseException):
                    raise item
                yield step, replace(item, selection_seconds=waited)
        finally:
            stop.set()

    def _work(self, ready: queue.Queue[Batch | BaseException], stop: threading.Event) -> None:
        try:
            for step in self.steps:
                batch = self._make(step)
                while not stop.is_set():
                    try:
                        ready.put(batch, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
        except BaseException as error:
            ready.put(error)

    def _make(self, step: int) -> Batch:
        selection = self.source.selection_at(step)
        batch = self._hand_over(self._read(step, selection))
        return replace(batch, selection=selection)

    def _read(self, step: int, selection: Any) -> np.ndarray | None:
        """A reader's batch as rows of tokens, labels, flags and, in the last column, the count.

        Flags: 1 where the label counts, and 2 where a document begins.
        """
        readers = self.topology.readers
        if readers is None:
            return None
        tokens, labels, mask, *starts = self.source.read(step, selection)
        count = torch.tensor([int(mask.sum())])
        if readers.size > 1:
            dist.all_reduce(count, group=readers.group)
        counts = np.full((len(tokens), 1), int(count))
        flags = mask.astype(np.int64)
        for begins in starts:
            flags += 2 * begins
        return np.concatenate([tokens, labels, flags, counts], axis=1)

    def _hand_over(self, rows: np.ndarray | None) -> Batch:
        if rows is None:
            packed = torch.empty(self.share, 3 * self.length + 1, dtype=torch.int64)
        else:
            packed = torch.from_numpy(np.ascontiguousarray(rows))
        feed = self.topology.feed
        if feed.size > 1:
            dist.broadcast(packed, dist.get_global_rank(feed.group, 0), group=feed.group)
        tokens, labels, flags, count = packed.split([self.length] * 3 + [1], dim=1)
        return Batch(
            tokens.contiguous(),
            labels.contiguous(),
            (flags & 1).float(),
            int(count[0, 0]),
            positions_of(flags >= 2),
        )

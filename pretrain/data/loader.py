"""Batches made ahead of the step, in a thread beside it.

A reader draws and transforms its share of a step's examples, learns how many target tokens the
whole global batch has, and hands the finished batch to the other ranks of its model copy. All of
this goes over gloo groups of its own, so that it never meets the step's communication.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.data.batch import (
    Batch,
    Layout,
    Rows,
    buffer_size,
    field_layout,
    packed,
    positions_of,
    unpacked,
)
from pretrain.distributed.topology import Topology
from pretrain.errors import ConfigError
from pretrain.spans import span

COUNTS = "counts"
"""What the loss is divided by, and whether the run is to stop."""


class BatchSource(Protocol):
    """Where a reader's batches come from. Called in the feed's thread, for each step once."""

    @property
    def fields(self) -> Collection[str]:
        """Names of the further fields that its rows have."""
        ...

    def selection_at(self, step: int) -> Any:
        """What selects the step's targets; called on every rank, so it may communicate."""
        ...

    def read(self, step: int, selector: Any) -> Rows:
        """A reader's share of a step's examples."""
        ...


def counted_labels(mask: Tensor, fields: Mapping[str, Tensor]) -> float:
    """How many labels count."""
    return float(mask.sum(dtype=torch.float64))


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
        fields: types of what the objective or the model needs of each token beside labels and
            mask, by name.
        per_token: numbers of each token in those of them that have several.
        count: what the summed loss is divided by: of a reader's mask and fields, added up over
            all readers.

    Raises:
        ConfigError: the source has no such field.
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
        fields: Mapping[str, torch.dtype] | None = None,
        per_token: Mapping[str, int] | None = None,
        count: Callable[[Tensor, Mapping[str, Tensor]], float] = counted_labels,
    ) -> None:
        self.fields = dict(fields or {})
        for name in self.fields:
            if name not in source.fields:
                raise ConfigError(
                    f"objective.name: this objective needs the field {name} of each batch, and "
                    f"the batches of this task have {', '.join(source.fields) or 'none'}; choose "
                    "another objective, or a task that gives it"
                )
        self.per_token = dict(per_token or {})
        self.count = count
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
            buffer = self._read(step, selector)
        batch = self._hand_over(buffer)
        return replace(batch, selector=selector)

    @property
    def _layout(self) -> Layout:
        """What is handed over, the same on every rank."""
        each = (self.share, self.length)
        standard: Layout = {
            COUNTS: (torch.float64, (2,)),
            "tokens": (torch.int64, each),
            "labels": (torch.int64, each),
            "mask": (torch.float32, each),
            "starts": (torch.bool, each),
        }
        return {**standard, **field_layout(self.fields, self.per_token, each)}

    def _read(self, step: int, selector: Any) -> Tensor | None:
        """A reader's batch as one buffer, with what is to be divided by and whether to stop."""
        readers = self.topology.readers
        if readers is None:
            return None
        rows = Rows(*self.source.read(step, selector))
        arrays = {**rows._asdict(), **rows.fields}
        if rows.starts is None:
            arrays["starts"] = np.zeros(rows.tokens.shape, dtype=np.bool_)
        buffer = packed({**arrays, COUNTS: np.zeros(2)}, self._layout)
        tensors = unpacked(buffer, self._layout)
        counts = tensors[COUNTS]
        counts[0] = self.count(tensors["mask"], {name: tensors[name] for name in self.fields})
        counts[1] = float(readers.rank == 0 and self.stop())
        if readers.size > 1:
            dist.all_reduce(counts, group=readers.group)
        return buffer

    def _hand_over(self, buffer: Tensor | None) -> Batch:
        if buffer is None:
            buffer = torch.empty(buffer_size(self._layout), dtype=torch.uint8)
        feed = self.topology.feed
        if feed.size > 1:
            dist.broadcast(buffer, dist.get_global_rank(feed.group, 0), group=feed.group)
        tensors = unpacked(buffer, self._layout)
        count, stop = tensors[COUNTS].tolist()
        return Batch(
            tensors["tokens"],
            tensors["labels"],
            tensors["mask"],
            count,
            positions_of(tensors["starts"]),
            {name: tensors[name] for name in self.fields},
            stop=bool(stop),
        )

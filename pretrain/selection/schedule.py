"""The selector in a job: fitted or loaded before the first step, anew every so often.

Only the ranks that read data hold the table; the others of their model copy are told the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch.distributed as dist

from pretrain.config import Config
from pretrain.distributed.topology import Axis, Topology
from pretrain.ragged import Examples
from pretrain.selection.fitter import CountingFitter, within_memory
from pretrain.selection.selector import Selection, Selector, from_json, share
from pretrain.selection.table import store
from pretrain.selection.table.positions import Content, counts_of

Selecting = TypeVar("Selecting", bound=Selector)


class Drawing(Protocol):
    """Which examples a step sees; see :class:`pretrain.data.batch.Sampler`."""

    def indices(self, step: int, rank: int, ranks: int) -> np.ndarray:
        """Of reader `rank` of `ranks` at `step`."""
        ...

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint after `step` steps has to say of it."""
        ...


def _group(readers: Axis) -> dist.ProcessGroup | None:
    return readers.group if readers.size > 1 else None


class SelectionSchedule(Generic[Selecting]):
    """Which selector each step's examples are transformed by.

    With `selection.refresh_every` N, the batches of steps kN to (k+1)N - 1 are added to the table
    before step (k+1)N is read. They are drawn again by the sampler, so nothing needs to be kept.

    Args:
        config: `selection` counts.
        topology: who reads.
        fitter: how the task's targets are selected.
        sampler: which examples a step sees.
        saved: what :meth:`save` wrote, to go on from; None to fit or load.

    Attributes:
        current: what selects from step `counted` on.
        previous: what selected before it.
        table: what they rest on; None on ranks that read no data, or where nothing is counted.

    Raises:
        ConfigError: the table does not fit `selection.memory_gb`.
        UserError: what was saved belongs to another run or cannot be read.
    """

    current: Selecting
    previous: Selecting

    def __init__(
        self,
        config: Config,
        topology: Topology,
        fitter: CountingFitter[Selecting],
        sampler: Drawing,
        saved: Path | None = None,
    ) -> None:
        self.config = config
        self.topology = topology
        self.fitter = fitter
        self.sampler = sampler
        self.table: Content | None = None
        self.counted = 0
        if saved is not None:
            self.restore(saved)
            return
        selection = None
        if topology.readers is not None:
            shown = config.run.progress and topology.is_first_rank
            selection, self.table = fitter.fit_or_load(_group(topology.readers), shown)
        self.previous = self.current = self._shared(selection)

    def _shared(self, selection: Selection | None) -> Selecting:
        """What applies a reader's selection, on every rank of its model copy."""
        told = share(selection, self.topology.feed.group)
        return self.fitter.selector(told, self.table)

    def at(self, step: int) -> Selecting:
        """What selects at a step that was asked for already, or is asked for next."""
        return self.previous if step < self.counted else self.current

    def __call__(self, step: int) -> Selecting:
        """What selects at `step`. Every rank asks for each step in turn; refreshes communicate.

        Raises:
            ConfigError: the table outgrew its memory.
            UserError: another reader died.
        """
        every = self.config.selection.refresh_every
        if every and step > self.counted and step % every == 0:
            self.previous = self.current
            self.current = self._shared(self._refreshed(step))
            self.counted = step
        return self.at(step)

    def _refreshed(self, step: int) -> Selection | None:
        settings, table = self.config.selection, self.table
        if table is None:
            return None
        with within_memory(settings):
            counts_of(table).add(lambda: self._streamed(table, step), settings.memory_bytes)
        return self.fitter.select(table)

    def _streamed(self, table: Content, stop: int) -> Iterator[Examples]:
        """This reader's batches since the last refresh, as rows and columns of the table."""
        readers = self.topology.readers
        assert readers is not None
        for step in range(self.counted, stop):
            indices = self.sampler.indices(step, readers.rank, readers.size)
            yield from self.fitter.rule.stream(table, indices)

    def save(self, path: Path) -> str | None:
        """Write the table and what is needed to go on from it; None where there is no table.

        The feed runs ahead of the step, so the table may know batches up to `counted` while an
        earlier step is trained: both selections around it are kept.

        Raises:
            UserError: it cannot be written.
        """
        if self.table is None:
            return None
        state = {
            "counted": self.counted,
            "previous": self.previous.selection.to_json(),
            "current": self.current.selection.to_json(),
        }
        return store.save(self.table, path, self.fitter.made_from, state)

    def restore(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote, with any number of readers.

        Raises:
            ConfigError: the table does not fit `selection.memory_gb`.
            UserError: it belongs to another run or cannot be read.
        """
        readers = self.topology.readers
        state: dict[str, Any] = {}
        if readers is not None:
            table, manifest = self.fitter.load(path, _group(readers))
            manifest.check_made_from(self.fitter.made_from)
            self.table, state = table, manifest.state
        told = [state]
        feed = self.topology.feed
        dist.broadcast_object_list(told, dist.get_global_rank(feed.group, 0), group=feed.group)
        self.counted = told[0]["counted"]
        self.current = self.fitter.selector(from_json(told[0]["current"]), self.table)
        self.previous = self.current
        if self.counted:
            self.previous = self.fitter.selector(from_json(told[0]["previous"]), self.table)

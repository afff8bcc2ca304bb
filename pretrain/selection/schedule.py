"""The selector in a job: fitted or loaded before the first step, anew every so often.

Only the ranks that read data hold the table; the others of their model copy are told the result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch.distributed as dist

from pretrain.config import Config, SelectionConfig
from pretrain.data.batch import Sampler
from pretrain.data.tokenizers import Tokenizer
from pretrain.distributed.topology import Axis, Topology
from pretrain.errors import UserError
from pretrain.progress import progress_bar
from pretrain.ragged import Examples
from pretrain.selection import selector
from pretrain.selection.estimators.pointwise import Pointwise
from pretrain.selection.selector import Selection
from pretrain.selection.table import store as artifact
from pretrain.selection.table.collectives import world
from pretrain.selection.table.counts import Progress, ShardedCounts
from pretrain.selection.table.positions import PositionCounts
from pretrain.selection.table.store import Content
from pretrain.spans import span, tick


def counts_of(table: Content) -> ShardedCounts:
    """The pair counts of either kind of table."""
    return table.counts if isinstance(table, PositionCounts) else table


def origin(config: Config, corpus: str, tokenizer: Tokenizer, **more: Any) -> dict[str, Any]:
    """What a table depends on: the checksum of the examples, the tokenizer, and `more`."""
    return {
        "task": config.data.task,
        "corpus": corpus,
        "tokenizer": tokenizer.fingerprint,
        **more,
    }


def pointwise_of(settings: SelectionConfig) -> Pointwise:
    """How the candidates of an example are scored."""
    return Pointwise(
        settings.estimator == "npmi",
        settings.minimum_count,
        settings.smoothing,
        settings.positive,
    )


def evidence(table: ShardedCounts, settings: SelectionConfig) -> str:
    """Hash of all that decides the scores of an example; every rank of the table calls it."""
    how = [artifact.fingerprint_of(table), asdict(pointwise_of(settings)), settings.tie_bits]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:16]


def _group(readers: Axis) -> dist.ProcessGroup | None:
    return readers.group if readers.size > 1 else None


class Fitter(Protocol):
    """How the targets of a task are selected, by the examples of its training split."""

    @property
    def made_from(self) -> dict[str, Any]:
        """What a table depends on: corpus, tokenizer, estimator."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens that `fit` reports to its progress, over all readers."""
        ...

    def fit(
        self, group: dist.ProcessGroup | None, progress: Progress
    ) -> tuple[Selection, Content | None]:
        """A selection and the table that it rests on, where there is one; every reader calls it."""
        ...

    def select(self, table: Content) -> Selection:
        """The selection that a table implies."""
        ...

    def stream(self, table: Content, indices: np.ndarray) -> Iterable[Examples]:
        """Training examples of these indices as rows and columns of the table."""
        ...


def fit_or_load(
    config: Config, fitter: Fitter, group: dist.ProcessGroup | None, shown: bool
) -> tuple[Selection, Content | None]:
    """A reader's selection and table: from `selection.table` if that is there, else fitted on the
    training split, and then saved there.

    Args:
        group: the readers; None for one.
        shown: whether to show a progress bar.

    Raises:
        UserError: the table belongs to another run, cannot be read or written, or a reader died.
    """
    settings = config.selection
    if settings.table is not None and settings.table.exists():
        table, manifest = artifact.load(settings.table, group, settings.memory_bytes)
        manifest.check_made_from(fitter.made_from)
        return fitter.select(table), table
    share = fitter.tokens // world(group)[1]
    with span("fit"), progress_bar(share, "fit selection", "token", shown, delay=1.0) as bar:

        def counted(tokens: int) -> None:
            bar.update(tokens)
            tick()

        selection, fitted = fitter.fit(group, counted)
    if settings.table is not None:
        assert fitted is not None
        artifact.save(fitted, settings.table, fitter.made_from)
    return selection, fitted


class SelectionSchedule:
    """Which selection each step's examples are transformed by.

    With `selection.refresh_every` N, the batches of steps kN to (k+1)N - 1 are added to the table
    before step (k+1)N is read. They are drawn again by the sampler, so nothing needs to be kept.

    Args:
        config: `selection` counts.
        topology: who reads.
        fitter: how the task's targets are selected.
        sampler: which examples a step sees.
        saved: what :meth:`save` wrote, to go on from; None to fit or load.

    Raises:
        UserError: what was saved belongs to another run or cannot be read.
    """

    def __init__(
        self,
        config: Config,
        topology: Topology,
        fitter: Fitter,
        sampler: Sampler,
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
            selection, self.table = fit_or_load(config, fitter, _group(topology.readers), shown)
        self.current = selector.share(selection, topology.feed.group)
        self.previous = self.current

    def at(self, step: int) -> Selection:
        """The selection of a step that was asked for already, or is asked for next."""
        return self.previous if step < self.counted else self.current

    def __call__(self, step: int) -> Selection:
        """The selection of `step`. Every rank asks for each step in turn; refreshes communicate.

        Raises:
            UserError: another reader died, or the table outgrew its memory.
        """
        every = self.config.selection.refresh_every
        if every and step > self.counted and step % every == 0:
            self.previous = self.current
            self.current = selector.share(self._refreshed(step), self.topology.feed.group)
            self.counted = step
        return self.at(step)

    def _refreshed(self, step: int) -> Selection | None:
        settings, table = self.config.selection, self.table
        if table is None:
            return None
        try:
            counts_of(table).add(lambda: self._streamed(table, step), settings.memory_bytes)
        except ValueError as error:
            raise UserError(f"selection.memory_gb {settings.memory_gb}: {error}") from error
        return self.fitter.select(table)

    def _streamed(self, table: Content, stop: int) -> Iterator[Examples]:
        """This reader's batches since the last refresh, as rows and columns of the table."""
        readers = self.topology.readers
        assert readers is not None
        for step in range(self.counted, stop):
            indices = self.sampler.indices(step, readers.rank, readers.size)
            yield from self.fitter.stream(table, indices)

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
            "previous": self.previous.to_json(),
            "current": self.current.to_json(),
        }
        return artifact.save(self.table, path, self.fitter.made_from, state)

    def restore(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote, with any number of readers.

        Raises:
            UserError: it belongs to another run or cannot be read.
        """
        readers = self.topology.readers
        state: dict[str, Any] = {}
        if readers is not None:
            group = _group(readers)
            table, manifest = artifact.load(path, group, self.config.selection.memory_bytes)
            manifest.check_made_from(self.fitter.made_from)
            self.table, state = table, manifest.state
        told = [state]
        feed = self.topology.feed
        dist.broadcast_object_list(told, dist.get_global_rank(feed.group, 0), group=feed.group)
        self.counted = told[0]["counted"]
        self.previous = selector.from_json(told[0]["previous"])
        self.current = selector.from_json(told[0]["current"])

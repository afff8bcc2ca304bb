"""How the targets of a task are selected by the examples of its training split.

One fitter counts, says what does not fit into memory, and selects; what tasks differ in is a
:class:`Rule` that is handed to it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from pretrain.config import TABLELESS, Config, SelectionConfig
from pretrain.errors import ConfigError, UserError
from pretrain.progress import progress_bar
from pretrain.ragged import Examples
from pretrain.selection.estimators.pointwise import Pointwise
from pretrain.selection.orders.strategies import Order
from pretrain.selection.selector import Selection, Selector
from pretrain.selection.table import store
from pretrain.selection.table.collectives import world
from pretrain.selection.table.counts import Progress, ShardedCounts
from pretrain.selection.table.manifest import Manifest
from pretrain.selection.table.positions import Content, counts_of
from pretrain.selection.table.sharding import BudgetError
from pretrain.spans import span, tick

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

Selecting = TypeVar("Selecting", bound=Selector, covariant=True)
"""The kind of selector that a task has."""


@dataclass(frozen=True)
class Ranking:
    """An order of all units, by what a table says of each.

    Attributes:
        order: units in the order in which they are predicted.
        bits: of each unit in natural order.
        correction: of the estimate; None where there is none.
    """

    order: Order
    bits: tuple[float, ...]
    correction: str | None = None


class Rule(Protocol[Selecting]):
    """What a task's selection rests on."""

    @property
    def counted(self) -> str:
        """What its tables hold, for people."""
        ...

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Of the units in natural order; empty where targets have no such units."""
        ...

    @property
    def checksum(self) -> str:
        """Of the examples that are counted."""
        ...

    @property
    def details(self) -> dict[str, Any]:
        """What else a table depends on, JSON values."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens that a fit reports to its progress, over all readers."""
        ...

    def uncounted(self, group: dist.ProcessGroup | None, progress: Progress) -> Selection:
        """The selection where no table is kept: the strategy alone decides, a probe that is
        trained, or counts that are dropped once the order is found; every reader calls it.

        Raises:
            BudgetError: counts do not fit `selection.memory_gb`.
        """
        ...

    def count(
        self,
        group: dist.ProcessGroup | None,
        budget: int,
        progress: Progress,
        device: torch.device | None,
    ) -> Content:
        """Count this reader's share of the training split, together with the others.

        Args:
            group: the readers; None for one.
            budget: bytes that each has for its rows.
            progress: called with the tokens just done.
            device: where pairs are counted; None for the CPU's compiled loops.

        Raises:
            BudgetError: the table does not fit the budget.
        """
        ...

    def fits(self, table: Content) -> bool:
        """Whether a table is of the kind that it counts."""
        ...

    def rank(self, table: Content) -> Ranking | None:
        """The order that a table implies; None where each example has its own. Every reader calls
        it.

        Raises:
            BudgetError: the table lacks rows.
        """
        ...

    def stream(self, table: Content, indices: np.ndarray) -> Iterable[Examples]:
        """Training examples of these indices as rows and columns of the table."""
        ...

    def selector(self, selection: Selection, table: Content | None) -> Selecting:
        """What applies a selection; without a table on ranks that read no data."""
        ...


class CountingFitter(Generic[Selecting]):
    """Selects the targets of a task by counts of its training examples.

    Args:
        config: `selection` says how, `data` of what task.
        rule: what the task's selection rests on.
        tokenizer: fingerprint of the one whose tokens are counted.
        always: whether a table is counted even where the strategy needs none, for the objective.
    """

    def __init__(
        self, config: Config, rule: Rule[Selecting], tokenizer: str, always: bool = False
    ) -> None:
        self.settings = config.selection
        self.task: str = config.data.task
        self.rule = rule
        self.tokenizer = tokenizer
        self.counts = always or counts(config.selection)

    @property
    def made_from(self) -> dict[str, Any]:
        """What a table depends on: task, corpus, tokenizer, estimator."""
        rule = self.rule
        return {
            "task": self.task,
            "corpus": rule.checksum,
            "tokenizer": self.tokenizer,
            **rule.details,
        }

    def fit(
        self, group: dist.ProcessGroup | None, progress: Progress = lambda _: None
    ) -> tuple[Selection, Content | None]:
        """A selection and the table that it rests on, where there is one; every reader calls it.

        Raises:
            ConfigError: the table does not fit `selection.memory_gb`, or `selection.count_on` is
                gpu and there is none.
            UserError: another reader gave up or died.
        """
        settings = self.settings
        if not self.counts:
            with within_memory(settings):
                return self.rule.uncounted(group, progress), None
        started = time.perf_counter()
        with within_memory(settings):
            budget, device = settings.memory_bytes, counting_device(settings)
            table = self.rule.count(group, budget, progress, device)
        selection = self.select(table)
        return replace(selection, seconds=time.perf_counter() - started), table

    def select(self, table: Content) -> Selection:
        """The selection that a table implies, the same for any number of readers; every one calls
        it.

        Raises:
            ConfigError: it lacks rows that `selection.memory_gb` had no room for.
            UserError: it is a table of another kind, or empty.
        """
        if not self.rule.fits(table):
            raise UserError(
                f"the table holds no {self.rule.counted}, which data.task {self.task} asks for"
            )
        counted = counts_of(table)
        if not counted.marginals.total:
            raise UserError(
                f"selection.strategy {self.settings.strategy}: the training examples hold no pair "
                "to count; give more of them, or choose another strategy"
            )
        with within_memory(self.settings):
            ranking = self.rule.rank(table)
        selection = Selection(
            self.settings.strategy,
            unit_names=self.rule.unit_names,
            estimator=self.settings.estimator,
            examples=counted.marginals.documents,
            rows=sum(counted.rows_per_rank),
            rows_per_rank=counted.rows_per_rank,
        )
        if ranking is None:
            return replace(selection, evidence=evidence(counted, self.settings))
        return replace(selection, **vars(ranking))

    def selector(self, selection: Selection, table: Content | None) -> Selecting:
        """What applies a selection; without a table on ranks that read no data."""
        return self.rule.selector(selection, table)

    def fit_or_load(
        self, group: dist.ProcessGroup | None, shown: bool, folder: Path | None = None
    ) -> tuple[Selection, Content | None]:
        """A reader's selection and table: from its folder if that is there, else fitted on the
        training split, and then saved there.

        Args:
            group: the readers; None for one.
            shown: whether to show a progress bar.
            folder: of the table; `selection.table` if not given.

        Raises:
            ConfigError: see :meth:`fit`.
            UserError: the table belongs to another run, cannot be read or written, or a reader
                died.
        """
        path = folder or self.settings.table
        if path is not None and path.exists():
            table, manifest = self.load(path, group)
            manifest.check_made_from(self.made_from)
            return self.select(table), table
        share = self.rule.tokens // world(group)[1]
        with span("fit"), progress_bar(share, "fit selection", "token", shown, delay=1.0) as bar:

            def counted(tokens: int) -> None:
                bar.update(tokens)
                tick()

            selection, fitted = self.fit(group, counted)
        if path is not None:
            assert fitted is not None
            store.save(fitted, path, self.made_from)
        return selection, fitted

    def load(
        self, paths: Path | Sequence[Path], group: dist.ProcessGroup | None
    ) -> tuple[Content, Manifest]:
        """A table, or the sum of several, with the manifest of the first; every reader calls it.

        Raises:
            ConfigError: it does not fit `selection.memory_gb`.
            UserError: it cannot be read.
        """
        with within_memory(self.settings):
            return store.load(paths, group, self.settings.memory_bytes)


def counts(settings: SelectionConfig) -> bool:
    """Whether a selection rests on a table of counts, which is kept."""
    return settings.fitted and settings.estimator not in TABLELESS


@contextmanager
def within_memory(settings: SelectionConfig) -> Iterator[None]:
    """Says which setting a table outgrows.

    Raises:
        ConfigError: it takes more than `selection.memory_gb`.
    """
    try:
        yield
    except BudgetError as error:
        raise ConfigError(f"selection.memory_gb {settings.memory_gb}: {error}") from error


def counting_device(settings: SelectionConfig) -> torch.device | None:
    """Where pairs are counted; None for the CPU's compiled loops.

    Raises:
        ConfigError: `selection.count_on` is gpu and there is none.
    """
    if settings.count_on == "cpu":
        return None
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("selection.count_on gpu: no CUDA device is visible; set it to cpu")
    return torch.device("cuda", torch.cuda.current_device())


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
    how = [store.fingerprint_of(table), asdict(pointwise_of(settings)), settings.tie_bits]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:16]

"""The units of a target in one order, by what the columns of a source tell of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pretrain import registry
from pretrain.config import SelectionConfig
from pretrain.errors import ConfigError
from pretrain.ragged import Examples as Counted
from pretrain.selection.estimators.information import ESTIMATORS, mutual_information
from pretrain.selection.estimators.order_estimator import Finding, Sample
from pretrain.selection.fitter import Ranking
from pretrain.selection.orders.strategies import choose_order
from pretrain.selection.orders.transforms import Reorder
from pretrain.selection.selector import Selection
from pretrain.selection.table.collectives import add_up, world
from pretrain.selection.table.counts import Progress
from pretrain.selection.table.positions import Content, PositionCounts, count_positions, slot_size
from pretrain.selection.table.sharding import BudgetError
from pretrain.tasks.fixed_width.data import Examples

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist


@dataclass(frozen=True)
class PositionSelector:
    """Puts the units of targets into the order of a selection, and back."""

    selection: Selection

    @property
    def transform(self) -> Reorder:
        """The reordering of targets, with its inverse."""
        return Reorder(self.selection.order)


@dataclass(frozen=True)
class PositionRule:
    """Counts which values of a target's units go with which values of the source's columns, and
    orders the units by their mutual information with the source.

    Attributes:
        settings: `selection` of the configuration.
        train: training examples.
        values: ids of features and units are below it.
        unit_names: of the units in natural order.
        whole: whether the examples are a whole domain, but for what is held out.
        run_flops: model FLOPs of the run that is to be trained.
    """

    settings: SelectionConfig
    train: Examples
    values: int
    unit_names: tuple[str, ...]
    whole: bool = False
    run_flops: int = 0
    counted = "positions"

    @property
    def checksum(self) -> str:
        """Of the training examples."""
        return self.train.checksum

    @property
    def details(self) -> dict[str, Any]:
        """Which columns are looked at together is the estimator's."""
        return {"estimator": self.settings.estimator}

    @property
    def tokens(self) -> int:
        """Each token of features and targets is counted twice."""
        return 2 * (self.train.features.size + self.train.target.size)

    def uncounted(self, group: dist.ProcessGroup | None, progress: Progress) -> Selection:
        """An order that is given, or found by training a probe or a small decoder, or by counts
        that are not kept.

        Raises:
            ConfigError: the estimator cannot order so many units, or finds no example.
            BudgetError: counts do not fit `selection.memory_gb`.
        """
        settings, names = self.settings, self.unit_names
        fitted, strategy = settings.fitted, settings.ordered_by
        if not fitted and strategy != "learned":
            order = choose_order(strategy, len(names), seed=settings.seed, fixed=settings.fixed)
            return Selection(settings.strategy, order, names)
        if fitted and settings.estimator in registry.ORDER_ESTIMATORS:
            found = self.finding(group, progress)
            return Selection(
                settings.strategy,
                found.order,
                names,
                estimator=settings.estimator,
                correction=found.correction,
                bits=found.bits,
                examples=found.examples,
                seconds=found.seconds,
                flops=found.flops,
            )
        mine = self.train.shard(*world(group))
        steps = self._steps_as_tokens(mine, progress)
        if fitted:
            return self._probed(mine, group, steps)
        # A network that is trained: torch is imported for it, and not for what counts.
        from pretrain.selection.orders.learned import learn_order

        learned = learn_order(mine.features, mine.target, self.values, group, progress=steps)
        return Selection(
            settings.strategy,
            learned.order,
            names,
            examples=_count(mine, group),
            seconds=learned.seconds,
            flops=learned.flops,
        )

    def finding(
        self, group: dist.ProcessGroup | None = None, progress: Progress = lambda _: None
    ) -> Finding:
        """What `selection.estimator`, which is one of whole orders, finds; every reader calls it.

        Raises:
            ConfigError: it cannot order so many units, or finds no example.
            BudgetError: counts do not fit `selection.memory_gb`.
        """
        name = self.settings.estimator
        estimator = registry.load(registry.ORDER_ESTIMATORS[name])(self.settings)
        mine = self.train.shard(*world(group))
        sample = Sample(mine.features, mine.target, self.values, self.whole, self.run_flops)
        try:
            found: Finding = estimator.find(sample, group, self._steps_as_tokens(mine, progress))
        except BudgetError:
            raise
        except ValueError as error:
            raise ConfigError(f"selection.estimator {name}: {error}") from error
        return found

    def _steps_as_tokens(self, mine: Examples, progress: Progress) -> Callable[[int, int], None]:
        """Progress in steps done of all, told as tokens just done."""
        tokens, told = 2 * (mine.features.size + mine.target.size), 0

        def tell(done: int, steps: int) -> None:
            nonlocal told
            now = tokens * done // steps
            progress(now - told)
            told = now

        return tell

    def _probed(
        self, mine: Examples, group: dist.ProcessGroup | None, steps: Callable[[int, int], None]
    ) -> Selection:
        from pretrain.selection.estimators.probe import v_information

        started = time.perf_counter()
        bits = v_information(mine.features, mine.target, self.values, group, progress=steps)
        ranking = self._ranking(bits)
        return Selection(
            self.settings.strategy,
            ranking.order,
            self.unit_names,
            estimator=self.settings.estimator,
            bits=ranking.bits,
            examples=_count(mine, group),
            seconds=time.perf_counter() - started,
        )

    def count(
        self,
        group: dist.ProcessGroup | None,
        budget: int,
        progress: Progress,
        device: torch.device | None,
    ) -> PositionCounts:
        """See :class:`pretrain.selection.fitter.Rule`.

        Raises:
            ConfigError: the estimator looks at more columns together than can be counted.
        """
        estimator = self.settings.estimator
        mine = self.train.shard(*world(group))
        slots = ESTIMATORS[estimator].slots(mine.features.shape[1])
        try:
            slot_size(slots, self.values)
        except ValueError as error:
            raise ConfigError(f"selection.estimator {estimator}: {error}") from error
        return count_positions(
            mine.features,
            mine.target,
            slots,
            self.values,
            group,
            self.settings.chunk_tokens,
            budget,
            progress=progress,
            device=device,
        )

    def fits(self, table: Content) -> bool:
        """Whether it is a table of positions."""
        return isinstance(table, PositionCounts)

    def rank(self, table: Content) -> Ranking:
        """Units by the bits that the source tells of each."""
        assert isinstance(table, PositionCounts)
        settings = self.settings
        told = mutual_information(table.counts, settings.correction)
        return self._ranking(ESTIMATORS[settings.estimator].combine(told), settings.correction)

    def _ranking(self, bits: np.ndarray, correction: str | None = None) -> Ranking:
        settings, values = self.settings, tuple(bits.tolist())
        order = choose_order(settings.ordered_by, len(self.unit_names), values, settings.tie_bits)
        return Ranking(order, values, correction)

    def stream(self, table: Content, indices: np.ndarray) -> Iterable[Counted]:
        """See :class:`pretrain.selection.fitter.Rule`."""
        assert isinstance(table, PositionCounts)
        features, target = self.train.features[indices], self.train.target[indices]
        return table.stream(features, target, self.settings.chunk_tokens)()

    def selector(self, selection: Selection, table: Content | None) -> PositionSelector:
        """The order is all that it needs."""
        return PositionSelector(selection)


def _count(mine: Examples, group: dist.ProcessGroup | None) -> int:
    return int(add_up(np.array([len(mine)]), group)[0])

"""What every estimator of whole orders is: it prices the orders of a target's units by examples.

Each is one file beside this one, and one line in `pretrain/registry.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pretrain.config import SelectionConfig
from pretrain.selection.orders.strategies import Order

if TYPE_CHECKING:
    import torch.distributed as dist

FEWEST_EXAMPLES = 100
"""Of those that train something, over all ranks."""

Steps = Callable[[int, int], object]
"""Progress: called with (steps done, all steps)."""


@dataclass(frozen=True)
class Sample:
    """What orders are priced by.

    Attributes:
        source: [n, J] whole numbers in [0, vocabulary), this rank's examples: every R-th of R
            ranks, from its number on; n may be 0.
        target: [n, U] likewise, natural order.
        vocabulary: V.
        whole: whether all ranks' examples are a whole domain, but for a held-out share.
        run_flops: model FLOPs of the run that the order is looked for.
    """

    source: np.ndarray
    target: np.ndarray
    vocabulary: int
    whole: bool
    run_flops: int

    @property
    def units(self) -> int:
        """U."""
        return self.target.shape[1]


@dataclass(frozen=True)
class Finding:
    """An order and what it rests on; the same on every rank, `seconds` left out.

    Attributes:
        order: units in the order in which they are to be predicted.
        cost: of any order, in bits; the lower the better.
        examples: over all ranks.
        seconds: wall time on this rank.
        bits: of each unit in natural order, at its place in `order`; None where there are none.
        correction: of the bias of counts; None where nothing was counted.
        flops: model FLOPs over all ranks; None where nothing was trained.
    """

    order: Order
    cost: Callable[[Order], float]
    examples: int
    seconds: float
    bits: tuple[float, ...] | None = None
    correction: str | None = None
    flops: int | None = None


class OrderEstimator(ABC):
    """Finds the order of the lowest cost.

    Args:
        settings: `selection` of the configuration.
    """

    measured: ClassVar[str] = ""
    """What `Finding.bits` are, for people."""
    counts: ClassVar[bool] = False
    """Whether it holds counts, of which :meth:`cells` says how many."""
    most_units: ClassVar[int | None] = 16
    """Units of a target that it can order; None for any number."""
    fewest_examples: ClassVar[int] = 1
    """Training examples that it needs over all ranks."""

    def __init__(self, settings: SelectionConfig) -> None:
        self.settings = settings

    @abstractmethod
    def find(
        self, sample: Sample, group: dist.ProcessGroup | None = None, progress: Steps | None = None
    ) -> Finding:
        """The order, from the examples of all ranks; every rank of `group` calls it.

        Args:
            sample: this rank's examples.
            group: gloo group of the ranks that hold examples; None for one process.
            progress: called with (steps done, all steps).

        Raises:
            ValueError: the examples cannot be ordered.
            BudgetError: counts do not fit `selection.memory_gb`.
            UserError: another rank gave up or died.
        """

    @classmethod
    def cells(
        cls, settings: SelectionConfig, columns: int, units: int, values: int, ranks: int
    ) -> int:
        """Counts that a rank holds while it looks at targets of these shapes; 0 if
        it holds none.

        Args:
            columns: of the source.
            values: of each column.
            ranks: that share them out.
        """
        return 0

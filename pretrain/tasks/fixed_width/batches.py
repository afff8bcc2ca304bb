"""Batches of examples of fixed widths, their targets in the order of the selection, or each in an
order of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pretrain.data.batch import ASKED, Rows
from pretrain.selection.orders.drawn import DrawnOrders
from pretrain.tasks.dataset import DatasetBatches
from pretrain.tasks.fixed_width.data import Dataset, assemble
from pretrain.tasks.fixed_width.selection import PositionSelector


class ExampleBatches(DatasetBatches[Dataset, PositionSelector]):
    """Batches of a dataset's training examples, units in the order of the selection."""

    def read(self, step: int, selector: PositionSelector) -> Rows:
        """This reader's share of a step."""
        indices = self.sampler.indices(step, self.rank, self.ranks)
        train = self.dataset.train
        return Rows(
            *assemble(
                train.source[indices],
                selector.transform.apply(train.target[indices]),
                self.length,
                self.dataset.tokenizer.pad_id,
            )
        )


@dataclass(frozen=True)
class AnyOrderBatches(ExampleBatches):
    """Batches of a dataset's training examples, the units of each in an order of its own, with the
    place that each label has in natural order.

    Attributes:
        orders: draws them.
        to_natural: whether they are annealed to natural order, not to that of the selection.
    """

    fields: ClassVar[tuple[str, ...]] = (ASKED,)

    orders: DrawnOrders
    to_natural: bool

    def read(self, step: int, selector: PositionSelector) -> Rows:
        """This reader's share of a step."""
        indices = self.sampler.indices(step, self.rank, self.ranks)
        places = self.rank * len(indices) + np.arange(len(indices))
        found = selector.selection.order
        target = range(self.orders.units) if self.to_natural else found
        orders = self.orders.draw(step, places, found, target)
        train = self.dataset.train
        source = train.source[indices]
        rows = assemble(
            source,
            np.take_along_axis(train.target[indices], orders, axis=1),
            self.length,
            self.dataset.tokenizer.pad_id,
        )
        return Rows(*rows, fields={ASKED: asked_places(orders, source.shape[1], self.length)})


def asked_places(orders: np.ndarray, width: int, length: int) -> np.ndarray:
    """[n, length] the place that each label has in natural order.

    Args:
        orders: [n, U] units as they are predicted.
        width: tokens of a source.
        length: positions of the model.
    """
    places = np.tile(np.arange(1, length + 1), (len(orders), 1))
    places[:, width - 1 : width - 1 + orders.shape[1]] = width + orders
    return places

"""An order of its own for each example, drawn anew at every step (strategy any_order).

Orders are a pure function of (seed, step, place in the step's global batch): every rank can compute
any part of them, so that resuming, or another number of ranks, needs no state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.config import SelectionConfig
from pretrain.ragged import Documents
from pretrain.selection.orders.strategies import hashed


@dataclass(frozen=True)
class Annealing:
    """How the share of one order rises from 0 to 1.

    Attributes:
        begin, end: steps between which it rises, in equal parts; from `end` on it is 1.
    """

    begin: float
    end: float

    def share(self, step: int) -> float:
        """Of the examples of a step."""
        if step >= self.end:
            return 1.0
        return max(0.0, (step - self.begin) / (self.end - self.begin))


@dataclass(frozen=True)
class DrawnOrders:
    """Orders of the units of examples.

    Drawn unit by unit: of those that are left, the r-th of `near` comes next with odds
    proportional to `odds` ** -r (Plackett, 1975; Luce, 1959). With odds of 1 all orders are alike
    likely; with 2 and four units `near` itself has 20 % instead of 4 %.

    Attributes:
        units: of a target.
        seed: of the draws.
        odds: at least 1.
        annealing: when examples are in one order instead; None for never.
    """

    units: int
    seed: int
    odds: float = 1.0
    annealing: Annealing | None = None

    @classmethod
    def of(cls, selection: SelectionConfig, units: int, seed: int, steps: int) -> DrawnOrders:
        """As a configuration says, for a training of so many steps."""
        annealing = None
        if selection.anneal_to is not None:
            annealing = Annealing(selection.anneal_from * steps, selection.anneal_until * steps)
        odds = selection.odds if selection.draw == "criterion" else 1.0
        return cls(units, seed, odds, annealing)

    def draw(
        self, step: int, places: np.ndarray, near: Sequence[int], target: Sequence[int]
    ) -> np.ndarray:
        """[n] places in the step's global batch -> [n, units] int64 units as they are predicted.

        Args:
            near: the order that is likelier than others.
            target: the order that training is annealed to.
        """
        bits, annealed = self._bits(step, places)
        ranks = np.empty(self.units)
        ranks[np.asarray(near)] = np.arange(self.units)
        orders = np.argsort(self._keys(bits, ranks), axis=1, kind="stable")
        orders[annealed] = target
        return orders

    def arrange(
        self, step: int, places: np.ndarray, near: Documents, target: Documents
    ) -> Documents:
        """Sets of units, each in an order that is drawn.

        Args:
            places: [n] in the step's global batch.
            near: n sets of at most `units`, in the order that is likelier than others.
            target: the same sets, in the order that training is annealed to.
        """
        bits, annealed = self._bits(step, places)
        rows = np.repeat(np.arange(len(near)), near.lengths)
        ranks = np.arange(len(near.tokens)) - near.offsets[rows]
        keys = self._keys(bits[rows, ranks], ranks)
        tokens = near.tokens[np.lexsort((keys, rows))]
        return Documents(np.where(annealed[rows], target.tokens, tokens), near.offsets)

    def _bits(self, step: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[n, units] random bits, and [n] whether an example is in the order of annealing."""
        bits = hashed((self.seed, step), places, self.units + 1)
        share = 0.0 if self.annealing is None else self.annealing.share(step)
        return bits[:, :-1], _uniform(bits[:, -1]) < share

    def _keys(self, bits: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """What units are sorted by. Random keys draw a permutation; exponential ones, each with a
        rate of its own, draw the next unit in proportion to the rates (Yellott, 1977)."""
        if self.odds == 1.0:
            # Whole numbers, so that no rounding of another machine changes an order.
            return bits
        # Logarithms of the times: odds ** rank may be beyond all numbers.
        return np.asarray(np.log(-np.log(_uniform(bits))) + ranks * np.log(self.odds))


def _uniform(bits: np.ndarray) -> np.ndarray:
    """uint64 -> floats strictly between 0 and 1."""
    return (np.asarray(bits >> np.uint64(12), dtype=np.float64) + 0.5) * 2.0**-52

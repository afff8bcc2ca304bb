"""Applying an order to targets, and taking it back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.selection.strategies import Order


@dataclass(frozen=True)
class Reorder:
    """Puts the units of a target into `order`; `restore` is its exact inverse."""

    order: Order

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"{self.order} is not a permutation of 0 to {len(self.order) - 1}")

    def apply(self, target: np.ndarray) -> np.ndarray:
        """[..., units] in natural order -> [..., units] as predicted."""
        self._check(target)
        return target[..., list(self.order)]

    def restore(self, predicted: np.ndarray) -> np.ndarray:
        """[..., units] as predicted -> [..., units] in natural order."""
        self._check(predicted)
        natural = np.empty_like(predicted)
        natural[..., list(self.order)] = predicted
        return natural

    def _check(self, values: np.ndarray) -> None:
        if values.shape[-1] != len(self.order):
            raise ValueError(f"expected {len(self.order)} units, found {values.shape[-1]}")

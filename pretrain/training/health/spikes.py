"""Loss spikes: steps whose loss stands far above those before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WINDOW = 128
"""Losses that a step is compared with."""
MINIMUM = 32
"""Losses before the first comparison."""
SIGMA = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""
FLOOR = 1e-3
"""Least spread, as a share of the median: losses that hardly move are no reason to be strict."""


class SpikeGuard:
    """Judges losses by a robust z-score, (loss - median) / (1.4826 MAD) over the last WINDOW losses
    of steps that were taken (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993).

    Everything stays on the device; nothing waits for it.

    Args:
        threshold: z-score above which a loss is a spike.
        device: of the losses.
    """

    def __init__(self, threshold: float, device: torch.device) -> None:
        self.threshold = threshold
        self._losses = torch.full((WINDOW,), float("nan"), device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    def is_spike(self, loss: Tensor) -> Tensor:
        """0-dimensional bool."""
        middle = self._losses.nanmedian()
        spread = SIGMA * (self._losses - middle).abs().nanmedian()
        score = (loss - middle) / torch.maximum(spread, FLOOR * middle.abs())
        return (self._count >= MINIMUM) & (score > self.threshold)

    def add(self, loss: Tensor, taken: Tensor) -> None:
        """Compare later losses with this one, if its step was `taken` (0-dimensional bool)."""
        # Indexing with a tensor of no dimension would read it on the host.
        place = (self._count % WINDOW).unsqueeze(0)
        kept = self._losses.gather(0, place)
        self._losses.scatter_(0, place, torch.where(taken, loss, kept))
        self._count += taken

    def state(self) -> dict[str, Any]:
        """As JSON values; waits for the device."""
        count = int(self._count)
        return {"count": count, "losses": self._losses.tolist()[: min(count, WINDOW)]}

    def restore(self, state: dict[str, Any]) -> None:
        """Put :meth:`state` back."""
        losses = state["losses"]
        self._losses[: len(losses)] = torch.tensor(losses, device=self._losses.device)
        self._count.fill_(state["count"])

"""Steps whose gradients are not finite: they update nothing, and too many in a row end the run.

Whether a step was one stays on the device until a step is logged, so that no other step waits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from pretrain.errors import UserError


class BadSteps:
    """Counts them; the same on every rank, since the global norm decides.

    Args:
        limit: in a row, before the run ends.
        speaks: whether this rank names them.
    """

    def __init__(self, limit: int, speaks: bool) -> None:
        self.limit = limit
        self.speaks = speaks
        self.in_a_row = 0
        self._unread: list[tuple[int, Tensor]] = []

    def add(self, step: int, skipped: Tensor) -> None:
        """Note a step; `skipped` is 1 where it updated nothing."""
        self._unread.append((step, skipped))

    def read(self) -> list[int]:
        """Bad steps since the last call. Waits for the device.

        Raises:
            UserError: there were too many in a row; names them and what may help.
        """
        flags = torch.stack([skipped for _, skipped in self._unread]).tolist()
        steps = [step for step, _ in self._unread]
        self._unread = []
        bad = [step for step, flag in zip(steps, flags, strict=True) if flag]
        for step, flag in zip(steps, flags, strict=True):
            self.in_a_row = self.in_a_row + 1 if flag else 0
            if self.in_a_row >= self.limit:
                raise UserError(
                    f"gradients were not finite in {self.in_a_row} steps in a row, the last is "
                    f"step {step}, and nothing was updated since; lower "
                    "optimizer.learning_rate, lengthen optimizer.warmup_steps, set "
                    "optimizer.clip_norm, or look for broken examples in these steps"
                )
        if bad and self.speaks:
            print(f"warning: {_named(bad)}", file=sys.stderr, flush=True)
        return bad


def _named(steps: Sequence[int]) -> str:
    shown = ", ".join(map(str, steps[:10])) + (", ..." if len(steps) > 10 else "")
    return f"gradients were not finite in step(s) {shown}: nothing was updated there"

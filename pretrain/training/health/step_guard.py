"""Bad steps: gradients that are not finite, or a loss spike. They update nothing, and too many in a
row end the run.

Whether a step was one stays on the device until a step is logged, so that no other step waits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.errors import UserError

NOT_FINITE, SPIKE = 1.0, 2.0
REASONS = {NOT_FINITE: "gradients were not finite", SPIKE: "the loss was a spike"}


@dataclass(frozen=True)
class BadStep:
    """A step that updated nothing.

    Attributes:
        step: counted from 0; with the seed, it says which examples it saw (tools.show_batch).
        reason: why.
    """

    step: int
    reason: str


class RollBackError(Exception):
    """Too many bad steps in a row, and the run is to go on from before them.

    Attributes:
        first: the first of them.
        end: the step after the last.
    """

    def __init__(self, first: int, end: int) -> None:
        super().__init__(f"bad steps {first} to {end - 1}")
        self.first = first
        self.end = end


class BadSteps:
    """Counts them; the same on every rank, since global norm and loss decide.

    Args:
        limit: in a row, before the run ends.
        speaks: whether this rank names them.
        rolls_back: what happens then.
    """

    def __init__(self, limit: int, speaks: bool, rolls_back: bool = False) -> None:
        self.limit = limit
        self.speaks = speaks
        self.rolls_back = rolls_back
        self.in_a_row: list[BadStep] = []
        self._unread: list[tuple[int, Tensor]] = []

    def add(self, step: int, skipped: Tensor) -> None:
        """Note a step; `skipped` is NOT_FINITE or SPIKE where it updated nothing, else 0."""
        self._unread.append((step, skipped))

    def read(self) -> list[BadStep]:
        """Bad steps since the last call. Waits for the device."""
        flags = torch.stack([skipped for _, skipped in self._unread]).tolist()
        bad = []
        for (step, _), flag in zip(self._unread, flags, strict=True):
            if flag:
                bad.append(BadStep(step, REASONS[flag]))
                self.in_a_row.append(bad[-1])
            elif len(self.in_a_row) < self.limit:
                self.in_a_row = []
        self._unread = []
        if bad and self.speaks:
            print(f"warning: {_named(bad)}", file=sys.stderr, flush=True)
        return bad

    def check(self) -> None:
        """End the run if there were too many in a row.

        Raises:
            UserError: names them and what may help.
            RollBackError: instead, where that is wanted.
        """
        found = self.in_a_row
        if len(found) < self.limit:
            return
        if self.rolls_back:
            raise RollBackError(found[0].step, found[-1].step + 1)
        raise UserError(
            f"{found[-1].reason}, and so it went for {len(found)} steps in a row, the last is step "
            f"{found[-1].step}; nothing was updated since. Look at what they saw (python -m "
            f"tools.show_batch RUN --step {found[0].step}), lower optimizer.learning_rate, "
            "lengthen optimizer.warmup_steps, set optimizer.clip_norm, or pass over these batches "
            "with --training.on_bad_steps roll_back"
        )


def _named(bad: Sequence[BadStep]) -> str:
    parts = []
    for reason in sorted({step.reason for step in bad}):
        steps = [step.step for step in bad if step.reason == reason]
        shown = ", ".join(map(str, steps[:10])) + (", ..." if len(steps) > 10 else "")
        parts.append(f"{reason} in step(s) {shown}")
    return f"{'; '.join(parts)}: nothing was updated there"

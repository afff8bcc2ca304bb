"""Stretches of data that a run passes over, after it was rolled back to before them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.data.batch import Sampler
from pretrain.errors import UserError
from pretrain.files import json_text, write_text


@dataclass(frozen=True)
class Stretch:
    """From step `step` on, `batches` more batches have been passed over."""

    step: int
    batches: int


@dataclass(frozen=True)
class Passed:
    """All stretches of a run, in the order in which they were passed over."""

    stretches: tuple[Stretch, ...] = ()

    def batch_of(self, step: int) -> int:
        """Which batch of the data a step sees."""
        return step + sum(each.batches for each in self.stretches if step >= each.step)

    def times_at(self, step: int) -> int:
        """How often something was passed over from this step on."""
        return sum(each.step == step for each in self.stretches)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        write_text(path, json_text(asdict(self)) + "\n")


def read_passed(path: Path) -> Passed:
    """What :meth:`Passed.save` wrote; nothing where there is no file.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return Passed()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["stretches"]
        return Passed(tuple(Stretch(int(v["step"]), int(v["batches"])) for v in values))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: expected `stretches`, a list of step and batches ({error}); put it back, or "
            "remove it to see those batches again"
        ) from None


class PassingSampler(Sampler):
    """A sampler that leaves stretches out.

    Args:
        sampler: of all batches.
        passed: which are left out.
    """

    def __init__(self, sampler: Sampler, passed: Passed) -> None:
        super().__init__(sampler.examples, sampler.global_batch, sampler.seed)
        self.sampler = sampler
        self.passed = passed
        self.notice = sampler.notice
        self.since = sampler.since

    def indices(self, step: int, rank: int, ranks: int) -> np.ndarray:
        """Those of the batch that the step sees."""
        return self.sampler.indices(self.passed.batch_of(step), rank, ranks)

    def epochs(self, step: int, rank: int, ranks: int) -> np.ndarray:
        """See :class:`pretrain.data.batch.Sampler`."""
        return self.sampler.epochs(self.passed.batch_of(step), rank, ranks)

    def state(self, step: int) -> dict[str, Any]:
        """That of the sampler of all batches."""
        return self.sampler.state(self.passed.batch_of(step))


def passing(sampler: Sampler, passed: Passed) -> Sampler:
    """The sampler itself where nothing is passed over."""
    return PassingSampler(sampler, passed) if passed.stretches else sampler

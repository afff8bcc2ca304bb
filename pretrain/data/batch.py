"""A batch, and the order in which examples are drawn.

Which examples a step sees is a pure function of (seed, step): every rank can compute any part of
it, so resuming, or another number of ranks, needs no state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Sequences for one data-parallel rank and step.

    Attributes:
        tokens: [b, s] int64 inputs.
        labels: [b, s] int64, the token after each input.
        mask: [b, s] float32, 1 where the label counts in the loss.
        target_tokens: labels that count, over all data-parallel ranks.
        positions: [b, s] int64 of each input in its document, where several documents are packed
            into a sequence and do not see each other; None where a sequence is one document.
        selection_seconds: what the step had to wait for this batch.
        selector: what the targets were selected by.
        stop: whether the run is to stop after this step; the same on all ranks.
    """

    tokens: Tensor
    labels: Tensor
    mask: Tensor
    target_tokens: int
    positions: Tensor | None = None
    selection_seconds: float = 0.0
    selector: Any = None
    stop: bool = False

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        positions = self.positions
        return replace(
            self,
            tokens=_moved(self.tokens, device),
            labels=_moved(self.labels, device),
            mask=_moved(self.mask, device),
            positions=None if positions is None else _moved(positions, device),
        )

    def micro_batches(self, size: int) -> Iterator[Batch]:
        """Consecutive parts of `size` sequences."""
        for first in range(0, len(self.tokens), size):
            part = slice(first, first + size)
            yield Batch(
                self.tokens[part],
                self.labels[part],
                self.mask[part],
                self.target_tokens,
                None if self.positions is None else self.positions[part],
            )


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`. A copy from ordinary host memory would wait for what the GPU still
    has to do; one from page-locked memory waits its turn there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def positions_of(starts: Tensor) -> Tensor | None:
    """[b, s] place of each input in its document, from 0.

    Args:
        starts: [b, s] bool, where documents begin; a sequence's first always counts as one.

    Returns:
        None where no sequence holds more than one document: their places are 0 to s - 1.
    """
    if not starts[:, 1:].any():
        return None
    places = torch.arange(starts.size(1), device=starts.device).expand_as(starts)
    return places - torch.where(starts, places, 0).cummax(dim=1).values


def made_up_batch(sequences: int, length: int, vocabulary: int, ranks: int = 1) -> Batch:
    """Random tokens, the same at every call, with every label counted.

    Args:
        sequences: of this rank, [sequences, length] tokens.
        vocabulary: ids are below it.
        ranks: data-parallel ranks that have as many.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, vocabulary, (sequences, length + 1), generator=generator)
    mask = torch.ones(sequences, length)
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return Batch(inputs, labels, mask, ranks * inputs.numel())


def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation of `examples` indices for one pass over the data, [examples] int64."""
    return np.random.default_rng((seed, epoch)).permutation(examples)


class Sampler:
    """Draws examples without replacement, epoch after epoch.

    Args:
        examples: size of the training split.
        global_batch: examples per step over all ranks.
        seed: seed of the shuffle.
    """

    notice = ""
    """What a person should know of a run that goes on."""
    since = 0
    """First batch whose examples it knows."""

    def __init__(self, examples: int, global_batch: int, seed: int) -> None:
        self.examples = examples
        self.global_batch = global_batch
        self.seed = seed
        self._orders: dict[int, np.ndarray] = {}

    def indices(self, step: int, rank: int, ranks: int) -> np.ndarray:
        """Example indices of data-parallel rank `rank` of `ranks` at `step`.

        Rank r takes the r-th consecutive share of the step's examples, so that the union over
        ranks, in rank order, is the same for any number of ranks.
        """
        share = self.global_batch // ranks
        first = step * self.global_batch + rank * share
        positions = np.arange(first, first + share)
        epochs = positions // self.examples
        chosen = np.empty(share, dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            chosen[here] = self._order(int(epoch))[positions[here] % self.examples]
        return chosen

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint after `step` steps has to say of it, as JSON values: nothing here."""
        return {}

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # A step may straddle two epochs; older ones are not needed again.
            self._orders = {k: v for k, v in self._orders.items() if k >= epoch - 1}
            self._orders[epoch] = epoch_order(self.examples, self.seed, epoch)
        return self._orders[epoch]

"""A batch, and the order in which examples are drawn.

Which examples a step sees is a pure function of (seed, step): every rank can compute any part of
it, so resuming, or another number of ranks, needs no state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

ASKED = "asked"
"""Field of batches whose model is told what it is asked for: the place that each label has in
natural order, int64 from 1 on."""


class Rows(NamedTuple):
    """What a reader has of a step's examples, arrays [share, length].

    Attributes:
        tokens: integer inputs.
        labels: integer, the token after each input.
        mask: float32, 1 where the label counts in the loss.
        starts: bool, where documents begin that do not see each other; None where each sequence is
            one document.
        fields: what else there is of each token, by name; [share, length, n] where that is several
            numbers.
    """

    tokens: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    starts: np.ndarray | None = None
    fields: Mapping[str, np.ndarray] = {}


@dataclass(frozen=True)
class Batch:
    """Sequences for one data-parallel rank and step.

    Attributes:
        tokens: [b, s] int64 inputs.
        labels: [b, s] int64, the token after each input.
        mask: [b, s] float32, 1 where the label counts in the loss.
        target_tokens: what the summed loss of all data-parallel ranks is divided by: the labels
            that count, or what the objective counts instead.
        positions: [b, s] int64 of each input in its document, where several documents are packed
            into a sequence and do not see each other; None where a sequence is one document.
        fields: [b, s] or [b, s, n] further tensors by name, as the objective or the model needs
            them.
        selection_seconds: what the step had to wait for this batch.
        selector: what the targets were selected by.
        stop: whether the run is to stop after this step; the same on all ranks.
    """

    tokens: Tensor
    labels: Tensor
    mask: Tensor
    target_tokens: float
    positions: Tensor | None = None
    fields: Mapping[str, Tensor] = field(default_factory=dict)
    selection_seconds: float = 0.0
    selector: Any = None
    stop: bool = False

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return self._each(lambda tensor: _moved(tensor, device))

    def micro_batches(self, size: int) -> Iterator[Batch]:
        """Consecutive parts of `size` sequences."""
        for first in range(0, len(self.tokens), size):
            yield self._each(itemgetter(slice(first, first + size)))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with each of its tensors changed."""
        return replace(
            self,
            tokens=change(self.tokens),
            labels=change(self.labels),
            mask=change(self.mask),
            positions=None if self.positions is None else change(self.positions),
            fields={name: change(tensor) for name, tensor in self.fields.items()},
        )


Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of tensors by name."""
ALIGNED = 8
"""Bytes: each tensor in a buffer begins at a multiple of it."""


def packed(arrays: Mapping[str, np.ndarray | Tensor], layout: Layout) -> Tensor:
    """Named tensors as one uint8 buffer, values unchanged.

    Raises:
        ValueError: one is missing, of another shape, or of a type that does not fit without loss.
    """
    buffer = torch.zeros(buffer_size(layout), dtype=torch.uint8)
    for name, view in unpacked(buffer, layout).items():
        if name not in arrays:
            raise ValueError(f"the field {name} is missing; there are {', '.join(arrays)}")
        given = np.asarray(arrays[name])
        wanted = view.numpy()
        if given.shape != wanted.shape or not np.can_cast(given.dtype, wanted.dtype, "safe"):
            raise ValueError(
                f"the field {name} is {given.dtype} {list(given.shape)}, expected {wanted.dtype} "
                f"{list(wanted.shape)}"
            )
        wanted[...] = given
    return buffer


def unpacked(buffer: Tensor, layout: Layout) -> dict[str, Tensor]:
    """The tensors in a buffer of :func:`packed`, as views of it."""
    ends = _ends(layout)
    found = {}
    for (name, (dtype, shape)), start in zip(layout.items(), [0, *ends], strict=False):
        part = buffer[start : start + math.prod(shape) * dtype.itemsize]
        found[name] = part.view(dtype).view(shape)
    return found


def buffer_size(layout: Layout) -> int:
    """Bytes of a buffer of :func:`packed`."""
    return _ends(layout)[-1]


def field_layout(
    fields: Mapping[str, torch.dtype], per_token: Mapping[str, int], each: tuple[int, int]
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of an objective's fields in a batch of shape `each`.

    Args:
        per_token: numbers of each token in those fields that have several.
    """
    return {
        name: (dtype, (*each, per_token[name]) if name in per_token else each)
        for name, dtype in fields.items()
    }


def _ends(layout: Layout) -> list[int]:
    """Bytes up to the end of each tensor in a buffer."""
    sizes = (math.prod(shape) * dtype.itemsize for dtype, shape in layout.values())
    return list(accumulate(-(-size // ALIGNED) * ALIGNED for size in sizes))


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

    def epochs(self, step: int, rank: int, ranks: int) -> np.ndarray:
        """[share] int64 how often each of the examples of :meth:`indices` was drawn before."""
        share = self.global_batch // ranks
        first = step * self.global_batch + rank * share
        return np.arange(first, first + share) // self.examples

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint after `step` steps has to say of it, as JSON values: nothing here."""
        return {}

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # A step may straddle two epochs; older ones are not needed again.
            self._orders = {k: v for k, v in self._orders.items() if k >= epoch - 1}
            self._orders[epoch] = epoch_order(self.examples, self.seed, epoch)
        return self._orders[epoch]

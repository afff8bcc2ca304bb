"""Pieces of the training state, and their places in the undivided model.

Whatever the layout, the state is a few fp32 numbers per weight: the weight itself (the master,
where the model computes in bf16 or fp16) and what the optimizer keeps of it, AdamW's two moments,
say, under its names. A rank holds, of some parameters,
its tensor-parallel slice or a range of it. Ranges count in the slice, flattened.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

WEIGHT = "weight"
"""Kind of the weight itself; the others are named by the optimizer."""


@dataclass(frozen=True)
class Whole:
    """A parameter of the undivided model, and how tensor-parallel ranks split it.

    Attributes:
        name: global name.
        shape: of the undivided parameter.
        dimension: along which it is split; None where each rank holds all of it.
        stride: parts that are each split on their own (a gated MLP's first layer has two).
    """

    name: str
    shape: tuple[int, ...]
    dimension: int | None
    stride: int


@dataclass(frozen=True)
class Shard:
    """A rank's piece of a parameter.

    Attributes:
        whole: what it is a piece of.
        rank, size: which tensor-parallel slice of how many; 0 of 1 where it is not split.
        start: of the range in the flattened slice.
        parts: kind -> fp32 views [count] into the live state.
        keeper: the data-parallel rank that writes it; None for this one.
        copy: whether it is a later stage's copy of a tied weight, which is read and not written.
    """

    whole: Whole
    rank: int
    size: int
    start: int
    parts: dict[str, Tensor]
    keeper: int | None = None
    copy: bool = False

    @property
    def count(self) -> int:
        """Elements."""
        return self.parts[WEIGHT].numel()

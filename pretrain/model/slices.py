"""Tensor-parallel slices of an undivided parameter.

A parameter is split along one dimension; with stride 2 each of its two halves is split on its own,
as the first layer of a gated MLP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def take_slice(full: Tensor, dimension: int, stride: int, rank: int, size: int) -> Tensor:
    """Part of `full` that tensor-parallel rank `rank` of `size` holds."""
    blocks = [block.chunk(size, dimension)[rank] for block in full.chunk(stride, dimension)]
    return torch.cat(blocks, dimension)


def join_slices(slices: Sequence[Tensor], dimension: int, stride: int) -> Tensor:
    """The undivided parameter, from the slices of all ranks in order."""
    blocks = [part.chunk(stride, dimension) for part in slices]
    ordered = [rank[block] for block in range(stride) for rank in blocks]
    return torch.cat(ordered, dimension)

"""Gathering rows of tokens over the data-parallel ranks."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist


def world(group: dist.ProcessGroup | None) -> tuple[int, int]:
    """(rank, size) in `group`; (0, 1) without one."""
    return (dist.get_rank(group), dist.get_world_size(group)) if group is not None else (0, 1)


def gather_rows(rows: np.ndarray, group: dist.ProcessGroup | None) -> np.ndarray:
    """Rows of all ranks of `group`, in the order of ranks.

    Args:
        rows: [n, w] int64; n may differ between ranks, w may not.
        group: a group whose backend moves CPU tensors (gloo); None for one process.

    Returns:
        [sum of n, w] int64, the same on every rank.
    """
    _, size = world(group)
    if size == 1:
        return rows
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(size)]
    dist.all_gather(sizes, torch.tensor([len(rows)]), group=group)
    counts = torch.cat(sizes)
    longest = int(counts.max())
    padded = torch.zeros(longest, rows.shape[1], dtype=torch.int64)
    padded[: len(rows)] = torch.from_numpy(np.ascontiguousarray(rows))
    parts = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(parts, padded, group=group)
    return np.concatenate(
        [part[:n].numpy() for part, n in zip(parts, counts.tolist(), strict=True)]
    )


def add_up(values: np.ndarray, group: dist.ProcessGroup | None) -> np.ndarray:
    """Element-wise sum of an int64 array over the ranks of `group`; exact in any order."""
    if world(group)[1] == 1:
        return values
    total = torch.from_numpy(values.copy())
    dist.all_reduce(total, group=group)
    return total.numpy()


def largest(value: int, group: dist.ProcessGroup | None) -> int:
    """Maximum of a whole number over the ranks of `group`."""
    if world(group)[1] == 1:
        return value
    tensor = torch.tensor([value])
    dist.all_reduce(tensor, dist.ReduceOp.MAX, group=group)
    return int(tensor)

"""How many tokens have logits at a time, which the loss works by and the planner counts with."""

from __future__ import annotations

FEWEST = 64
"""Tokens of the smallest block."""
# Logits held at a time. On a CPU a block stays in the cache (measured: 4 to 16 Mi elements
# are fastest); on a GPU blocks feed whole kernels.
BLOCK_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 27}


def block_tokens(device: str, rows: int) -> int:
    """Tokens of a block on a kind of device, for so many rows of the vocabulary on this rank."""
    return max(FEWEST, BLOCK_ELEMENTS.get(device, BLOCK_ELEMENTS["cuda"]) // rows)

"""nanoGPT's `train.bin`: ids and nothing else, written with `numpy.memmap` or `tofile`.

Its `meta.pkl` is not read: what it unpickles to could be anything, and a tokenizer is named.
"""

from __future__ import annotations

from pathlib import Path

from tools.importing.source import Asked, Shard, raw


def read(path: Path, asked: Asked) -> list[Shard]:
    """A file; its type of ids must be given (nanoGPT's own scripts write uint16)."""
    return [raw(path, asked.dtype)]

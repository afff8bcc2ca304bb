"""llm.c's `.bin`: 256 int32 (magic, version, number of ids, zeros), then ids.

Magic and version say the type (`dev/data/data_common.py`): GPT-2's are uint16, Llama 3's uint32.
Its scripts put the end token in front of each document, and cut shards inside of one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pretrain.errors import UserError
from tools.importing.source import Asked, Shard, raw, size_of

HEADER = 4 * 256
KINDS: dict[tuple[int, ...], np.dtype] = {
    (20240520, 1): np.dtype("<u2"),
    (20240801, 7): np.dtype("<u4"),
}


def read(path: Path, asked: Asked) -> list[Shard]:
    """A file.

    Raises:
        UserError: it is none of llm.c's, or damaged.
    """
    size = size_of(path)
    head = np.fromfile(path, "<i4", 3).tolist()
    dtype = KINDS.get(tuple(head[:2]))
    if dtype is None or size < HEADER:
        known = " or ".join(f"magic {magic}, version {version}" for magic, version in KINDS)
        raise UserError(
            f"{path}: begins with {head[:2]}, expected {known}; it holds no tokens of llm.c's: "
            "give another --format (nanogpt for ids without a head)"
        )
    if asked.dtype not in (None, dtype):
        raise UserError(f"--dtype {asked.dtype}: {path} says {dtype.name}; leave --dtype out")
    if size != HEADER + head[2] * dtype.itemsize:
        raise UserError(
            f"{path}: {size:,} bytes, but its head says {head[2]:,} ids, which take "
            f"{HEADER + head[2] * dtype.itemsize:,}; copy it again"
        )
    return [raw(path, dtype, HEADER)]

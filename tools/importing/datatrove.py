"""datatrove's `.ds`: ids and nothing else (little-endian); `.ds.index` holds the end of each
document, counted in ids, as uint64; the first line of `.ds.metadata` is the tokenizer's name, a
bar, and the bytes of an id."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pretrain.errors import UserError
from tools.importing.source import Asked, Bounds, Shard, raw, size_of

TYPES: dict[int, np.dtype] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


def read(path: Path, asked: Asked) -> list[Shard]:
    """A `.ds` file, with its documents where the index is beside it.

    Raises:
        UserError: the files do not belong together.
    """
    metadata, index = path.with_name(f"{path.name}.metadata"), path.with_name(f"{path.name}.index")
    dtype = asked.dtype or _dtype(metadata)
    flat = raw(path, dtype)
    if not index.exists():
        return [flat]
    if size_of(index) % 8:
        raise UserError(f"{index}: no whole number of uint64; copy it again")
    ends = np.fromfile(index, "<u8").astype(np.int64)
    lengths = np.diff(ends, prepend=0)
    if not len(ends) or ends[-1] != flat.tokens or (lengths < 0).any():
        raise UserError(
            f"{index}: its documents end at token {int(ends[-1]) if len(ends) else 0:,}, but "
            f"{path.name} holds {flat.tokens:,} of {flat.dtype.name}; copy both again, or give "
            "another --dtype"
        )
    beside = (index, metadata) if metadata.exists() else (index,)
    return [type(flat)(path, flat.dtype, 0, Bounds.of_documents(lengths), beside)]


def _dtype(metadata: Path) -> np.dtype | None:
    """As the side file says; None where there is none."""
    if not metadata.exists():
        return None
    first = metadata.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    size = first.rpartition("|")[2]
    if size not in map(str, TYPES):
        raise UserError(
            f"{metadata}: begins with {first!r}, expected TOKENIZER|2 or TOKENIZER|4, the bytes of "
            "an id; copy it again, or give --dtype"
        )
    return TYPES[int(size)]

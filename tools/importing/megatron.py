"""Megatron-LM's `.bin` and `.idx` (:mod:`pretrain.data.indexed.format`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pretrain.data.indexed import IndexLayout, bin_path, idx_path
from pretrain.errors import UserError
from tools.importing.source import Asked, Bounds, Flat, Shard, raw, size_of

OLDER = b"TNTIDX"


def read(path: Path, asked: Asked) -> list[Shard]:
    """A prefix, or either of its files.

    Raises:
        UserError: a file is missing, damaged or of another kind.
    """
    prefix = path.with_suffix("") if path.suffix in (".bin", ".idx") else path
    tokens, index = bin_path(prefix), idx_path(prefix)
    found = size_of(index)
    with index.open("rb") as file:
        if file.read(len(OLDER)) == OLDER:
            raise UserError(
                f"{index}: of fairseq's older kind (--dataset-impl lazy or cached), expected mmap; "
                "write it again with Megatron-LM's tools/preprocess_data.py"
            )
        file.seek(0)
        layout = IndexLayout.read(file, index)
    if found == layout.size + layout.sequences and layout.sequences:
        raise UserError(f"{index}: has modes of sequences (multimodal data), expected text alone")
    if found != layout.size:
        raise UserError(
            f"{index}: {found:,} bytes, but {layout.sequences:,} sequences and "
            f"{layout.documents:,} documents take {layout.size:,}; copy it again"
        )
    content = np.memmap(index, mode="r")
    lengths = content[layout.lengths : layout.pointers].view("<i4").astype(np.int64)
    pointers = content[layout.pointers : layout.boundaries].view("<i8")
    documents = content[layout.boundaries :].view("<i8").astype(np.int64)
    sizes = lengths * layout.dtype.itemsize
    begin = int(pointers[0]) if len(pointers) else 0
    if (lengths < 0).any() or (pointers != begin + np.cumsum(sizes) - sizes).any():
        raise UserError(
            f"{index}: its sequences do not lie one after the other in {tokens.name}; write the "
            "corpus again with Megatron-Core's IndexedDatasetBuilder"
        )
    flat = raw(tokens, layout.dtype, begin)
    if flat.tokens != lengths.sum():
        raise UserError(
            f"{tokens}: {flat.tokens:,} tokens of {layout.dtype.name}, but {index.name} says "
            f"{int(lengths.sum()):,}; the two do not belong together: copy both again"
        )
    if not layout.documents:  # end_document was never called; Megatron takes sequences alone
        documents = np.arange(layout.sequences + 1)
    if documents[0] or documents[-1] != layout.sequences or (np.diff(documents) < 0).any():
        raise UserError(
            f"{index}: its documents reach from sequence {documents[0]} to {documents[-1]}, "
            f"expected 0 to {layout.sequences}, in order; write it again, with end_document after "
            "each document"
        )
    return [Flat(tokens, layout.dtype, begin, Bounds(lengths, documents), (index,))]

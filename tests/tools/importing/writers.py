"""Small writers of other trainers' formats, from what their documentation and sources say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from pretrain.data.indexed import IndexLayout, bin_path, idx_path

Texts = Sequence[Sequence[int]]
"""Documents of ids."""


def flat(documents: Texts, dtype: str) -> bytes:
    """Their ids, one after the other."""
    return np.array(list(chain(*documents)), dtype).tobytes()


def megatron(prefix: Path, documents: Texts, dtype: str = "<u2", ends: bool = True) -> Path:
    """`.bin` and `.idx`, a sequence a document; `ends`: end_document was called."""
    lengths = np.array([len(document) for document in documents], "<i4")
    kind = np.dtype(dtype)
    begins = (np.cumsum(lengths, dtype=np.int64) - lengths) * kind.itemsize
    boundaries = np.arange(len(documents) + 1 if ends else 1, dtype="<i8")
    bin_path(prefix).write_bytes(flat(documents, dtype))
    idx_path(prefix).write_bytes(
        IndexLayout(kind, len(lengths), len(boundaries) - 1).header()
        + lengths.tobytes() + begins.astype("<i8").tobytes() + boundaries.tobytes()
    )  # fmt: skip
    return idx_path(prefix)


def llm_c(path: Path, documents: Texts, magic: int = 20240520, version: int = 1) -> Path:
    """256 int32, then uint16; uint32 for Llama 3's magic."""
    head = np.zeros(256, "<i4")
    head[:3] = magic, version, sum(map(len, documents))
    dtype = "<u2" if version == 1 else "<u4"
    path.write_bytes(head.tobytes() + flat(documents, dtype))
    return path


def datatrove(path: Path, documents: Texts, size: int = 2) -> Path:
    """`.ds`, with `.ds.index` and `.ds.metadata` beside it."""
    path.write_bytes(flat(documents, f"<u{size}"))
    ends = np.cumsum([len(document) for document in documents], dtype="<u8")
    path.with_name(f"{path.name}.index").write_bytes(ends.tobytes())
    text = f"letters.json|{size}\n{ends[-1]}\n0.0 T\n"
    path.with_name(f"{path.name}.metadata").write_text(text)
    return path

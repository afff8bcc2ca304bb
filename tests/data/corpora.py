"""Small corpora on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from pretrain.data.indexed import IndexLayout, bin_path, idx_path, manifest_path, write_manifest
from pretrain.data.tokenizers import CharacterTokenizer, save_tokenizer

LETTERS = CharacterTokenizer("abcdefghijklmnopqrstuvwxyz .")
END = LETTERS.special("<end>")
Document = Sequence[Sequence[int]]
"""Sentences of ids."""


def save_letters(folder: Path) -> Path:
    """The tokenizer of these corpora."""
    save_tokenizer(LETTERS, folder / "letters.json")
    return folder / "letters.json"


def made_up(documents: int, seed: int, longest: int = 12) -> list[list[list[int]]]:
    """Documents of 1 to 8 sentences of 1 to `longest` letters."""
    random = np.random.default_rng(seed)
    return [
        [
            random.integers(0, 28, random.integers(1, longest + 1)).tolist()
            for _ in range(random.integers(1, 9))
        ]
        for _ in range(documents)
    ]


def write_corpus(
    prefix: Path, documents: Sequence[Document], ended: bool = False, sentences: bool = True
) -> Path:
    """What tools.preprocess_data would write. Returns the prefix."""
    told = [list(map(list, document)) for document in documents]
    if not sentences:
        told = [[list(chain(*document))] for document in told]
    if ended:
        told = [[*document[:-1], [*document[-1], END]] for document in told]
    lengths = np.array([len(each) for document in told for each in document], "<i4")
    tokens = np.array([token for document in told for each in document for token in each], "<u2")
    layout = IndexLayout(np.dtype("<u2"), len(lengths), len(told))
    begins = [0, *np.cumsum(lengths).tolist()]
    idx_path(prefix).write_bytes(
        layout.header()
        + lengths.tobytes()
        + np.array([2 * begin for begin, _ in pairwise(begins)], "<i8").tobytes()
        + np.cumsum([0, *map(len, told)], dtype="<i8").tobytes()
    )
    bin_path(prefix).write_bytes(tokens.tobytes())
    values = {
        "documents": len(told),
        "sequences": len(lengths),
        "tokens": len(tokens),
        "text_bytes": len(tokens),
        "sentences": sentences,
        "end_of_document": ended,
        "tokenizer": {
            "file": "letters.json",
            "size": LETTERS.size,
            "fingerprint": LETTERS.fingerprint,
        },
        "sources": [{"checksum": hashlib.sha256(tokens.tobytes()).hexdigest()}],
    }
    write_manifest(manifest_path(prefix), values)
    return prefix

"""Small writers of other trainers' formats, from what their documentation and sources say."""

from __future__ import annotations

import json
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


def litdata(folder: Path, documents: Texts, data_format: str = "no_header_tensor:16") -> Path:
    """A chunk of TokensLoader, int32 unless `data_format` says otherwise."""
    folder.mkdir()
    head = 4 * (len(documents) + 2)
    ends = 4 * np.cumsum([0, *map(len, documents)]) + head
    chunk = np.array([len(documents), *ends], "<u4").tobytes() + flat(documents, "<i4")
    (folder / "chunk-0-0.bin").write_bytes(chunk)
    config = {
        "compression": None, "data_format": [data_format], "encryption": None,
        "item_loader": "TokensLoader",
    }  # fmt: skip
    chunks = [{"chunk_size": len(documents), "filename": "chunk-0-0.bin"}]
    (folder / "index.json").write_text(json.dumps({"chunks": chunks, "config": config}))
    return folder


def mds(folder: Path, documents: Texts, encoding: str = "ndarray:int32") -> Path:
    """Two shards of samples with a pickled column, a number and the ids."""
    folder.mkdir()
    shards, half = [], len(documents) // 2
    for number, part in enumerate((documents[:half], documents[half:])):
        samples = [_sample(document, encoding) for document in part]
        config = b"{}"
        begins = np.cumsum([0, *map(len, samples)]) + 4 * (len(part) + 2) + len(config)
        content = np.array([len(part), *begins], "<u4").tobytes() + config + b"".join(samples)
        name = f"shard.{number:05}.mds"
        (folder / name).write_bytes(content)
        shards.append(
            {"column_names": ["about", "n", "tokens"],
             "column_encodings": ["pkl", "int", encoding], "column_sizes": [None, 8, None],
             "compression": None, "format": "mds", "version": 2, "samples": len(part),
             "raw_data": {"basename": name, "bytes": len(content)}}
        )  # fmt: skip
    (folder / "index.json").write_text(json.dumps({"shards": shards, "version": 2}))
    return folder


def _sample(document: Sequence[int], encoding: str) -> bytes:
    ids = np.array(document, "<i8" if encoding == "bytes" else "<i4").tobytes()
    if encoding != "bytes":
        kind = b"" if encoding == "ndarray:int32" else bytes([33])
        ids = kind + bytes([1 << 2, len(document)]) + ids
    pickled = b"no pickle at all"
    sizes = np.array([len(pickled), len(ids)], "<u4").tobytes()
    return sizes + pickled + np.int64(7).tobytes() + ids

"""LitData's folders: `index.json`, and chunks of tokens as its TokensLoader reads them.

A chunk is the number of its items and where each begins and the last one ends (uint32, in bytes),
then the ids of all items, one after the other. `data_format` names their type by a number of
`litdata.constants`. Items are rows as the writer gave them; other loaders' chunks, which may hold
pickled values, are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import UserError
from tools.importing.folders import chunk_path, read_index
from tools.importing.source import Asked, Bounds, Flat, Shard, raw, size_of

NUMBERS = {
    "no_header_tensor": {
        11: "uint8", 12: "int8", 13: "int16", 14: "int16", 15: "int32", 16: "int32", 17: "int64",
        18: "int64", 20: "uint16",
    },
    "no_header_numpy": {
        0: "int8", 1: "int16", 2: "int32", 3: "int64", 4: "uint8", 5: "uint16", 6: "uint32",
        7: "uint64",
    },
}  # fmt: skip
"""Types of torch's and numpy's arrays by their numbers."""


def read(path: Path, asked: Asked) -> list[Shard]:
    """A folder; a shard each chunk.

    Raises:
        UserError: it was written for another loader, compressed or encrypted, or is damaged.
    """
    index = read_index(path)
    config, chunks = index.get("config"), index.get("chunks")
    if not isinstance(config, dict) or not isinstance(chunks, list) or not chunks:
        raise UserError(f"{path}/index.json: no config, or no chunks; it is none of LitData's")
    for name in ("compression", "encryption"):
        if config.get(name):
            raise UserError(
                f"{path}/index.json: {name} {config[name]}; write the chunks without it"
            )
    dtype = _dtype(path, config, asked)
    return [_chunk(chunk_path(path, chunk.get("filename")), dtype) for chunk in chunks]


def _dtype(path: Path, config: dict[str, Any], asked: Asked) -> np.dtype:
    formats, loader = config.get("data_format"), config.get("item_loader")
    kind, _, number = formats[0].partition(":") if formats and len(formats) == 1 else ("", "", "")
    types = NUMBERS.get(kind, {})
    if loader != "TokensLoader" or not number.isdecimal() or int(number) not in types:
        raise UserError(
            f"{path}/index.json: items of {formats} for {loader}, expected one array of whole "
            "numbers for TokensLoader; write it with optimize(..., item_loader=TokensLoader())"
        )
    dtype = np.dtype(types[int(number)])
    if asked.dtype not in (None, dtype):
        raise UserError(f"--dtype {asked.dtype}: {path} says {dtype.name}; leave --dtype out")
    return dtype.newbyteorder("<")


def _chunk(path: Path, dtype: np.dtype) -> Flat:
    size = size_of(path)
    items = int(np.fromfile(path, "<u4", 1)[0]) if size >= 4 else 0
    begins = np.fromfile(path, "<u4", items + 1, offset=4).astype(np.int64)
    head = 4 * (items + 2)
    lengths = np.diff(begins)
    wrong = len(begins) != items + 1 or begins[0] != head or begins[-1] != size
    if not items or wrong or (lengths < 0).any() or (lengths % dtype.itemsize).any():
        raise UserError(
            f"{path}: its items do not fill the file with ids of {dtype.name}; copy it again"
        )
    bounds = Bounds.of_documents(lengths // dtype.itemsize)
    return raw(path, dtype, head, bounds)

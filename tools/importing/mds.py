"""MosaicML Streaming's MDS: `index.json`, and shards of samples.

A shard is the number of its samples and where each begins and the last one ends (uint32, in bytes),
its configuration as JSON, and the samples. A sample is the size (uint32) of each column that has no
fixed one, then the columns. Only the column of ids is read, and only as an array or as raw bytes:
columns that are pickled stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import UserError
from tools.importing.folders import chunk_path, read_index
from tools.importing.source import INTEGERS, Asked, Rows, Shard, size_of

TYPES = {
    8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 32: "uint32", 33: "int32", 64: "uint64",
    65: "int64",
}  # fmt: skip
"""Types of arrays that name theirs."""
BATCH = 1024
"""Samples that are read together."""
Decode = Callable[[bytes], np.ndarray]


def read(path: Path, asked: Asked) -> list[Shard]:
    """A folder; a shard each of its files.

    Raises:
        UserError: it is compressed, has no such column or one of another kind, or is damaged.
    """
    shards = read_index(path).get("shards")
    if not isinstance(shards, list) or not shards:
        raise UserError(f"{path}/index.json: no shards; it is none of MDS")
    try:
        return [_shard(path, shard, asked) for shard in shards]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}/index.json: damaged ({error!r}); copy it again") from None


def _shard(folder: Path, info: dict[str, Any], asked: Asked) -> Rows:
    where = f"{folder}/index.json"
    if info.get("format") != "mds" or info.get("version") != 2:
        raise UserError(
            f"{where}: format {info.get('format')}, version {info.get('version')}, expected mds, 2"
        )
    path = chunk_path(folder, info["raw_data"]["basename"])
    if not path.exists() and info.get("compression"):
        raise UserError(
            f"{where}: {path.name} is compressed ({info['compression']}); unpack it beside, as "
            f"{path.name}"
        )
    names, encodings, sizes = (
        info[f"column_{kind}"] for kind in ("names", "encodings", "sizes")
    )  # fmt: skip
    if asked.field not in names:
        raise UserError(
            f"{where}: no column {asked.field!r}, there are {', '.join(names)}; name the one with "
            "the ids by --field"
        )
    number = names.index(asked.field)
    decode = _decoder(where, encodings[number], asked)
    if size_of(path) != info["raw_data"]["bytes"]:
        raise UserError(
            f"{path}: {size_of(path):,} bytes, but index.json says {info['raw_data']['bytes']:,}; "
            "copy it again"
        )
    return Rows(path, partial(_rows, path, info["samples"], sizes, number, decode))


def _decoder(where: str, encoding: str, asked: Asked) -> Decode:
    """What makes ids of a column's bytes.

    Raises:
        UserError: the column holds something else, or does not say of which type its ids are.
    """
    kind, *told = encoding.split(":")
    if kind == "ndarray" and (not told or told[0] in INTEGERS):
        return partial(_array, np.dtype(told[0]) if told else None, len(told) > 1)
    if kind != "bytes":
        raise UserError(
            f"{where}: column {asked.field} is {encoding}, expected ndarray of whole numbers, or "
            "bytes; write the ids so (what is pickled is not read)"
        )
    dtype = asked.dtype
    if dtype is None:
        raise UserError(
            f"{where}: column {asked.field} is bytes, which do not say of which type its ids are; "
            "give --dtype (int64 in llm-foundry's)"
        )
    return lambda content: np.frombuffer(content, dtype)


def _array(dtype: np.dtype | None, shaped: bool, content: bytes) -> np.ndarray:
    """An array: its type, where the column has none, its shape, where the column has none, and the
    numbers."""
    begin = 0
    if dtype is None:
        if content[0] not in TYPES:
            raise ValueError(f"an array of type {content[0]}, which is of no whole numbers")
        dtype, begin = np.dtype(TYPES[content[0]]), 1
    if not shaped:
        dimensions, width = content[begin] >> 2, 1 << (content[begin] & 3)
        begin += 1 + dimensions * width
    return np.frombuffer(content, dtype.newbyteorder("<"), offset=begin)


def _rows(
    path: Path, samples: int, sizes: list[int | None], number: int, decode: Decode
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    content = np.memmap(path, mode="r")
    begins = content[4 : 4 * (samples + 2)].view("<u4").astype(np.int64)
    loose = [column for column, size in enumerate(sizes) if size is None]
    before = [column for column in range(number) if sizes[column] is not None]
    fixed = sum(size or 0 for size in (sizes[column] for column in before))
    for first in range(0, samples, BATCH):
        rows = []
        for sample in range(first, min(first + BATCH, samples)):
            place = int(begins[sample])
            heads = content[place : place + 4 * len(loose)].view("<u4").tolist()
            told = dict(zip(loose, heads, strict=True))
            place += 4 * len(loose) + fixed + sum(told[c] for c in loose if c < number)
            size = sizes[number] if sizes[number] is not None else told[number]
            try:
                rows.append(decode(content[place : place + size].tobytes()))
            except (ValueError, IndexError) as error:
                raise UserError(f"{path}: sample {sample} is damaged ({error})") from None
        yield np.concatenate(rows), np.array([len(row) for row in rows], np.int64)

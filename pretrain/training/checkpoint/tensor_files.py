"""Pieces of parameters in safetensors files: written by the ranks that hold them, read by any.

A tensor in a file is one range of one tensor-parallel slice, flattened: its name is
`NAME|KIND|RANKofSIZE|START`. The file's header names the undivided parameters that they belong to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pretrain.files import open_to_umask
from pretrain.model.slices import join_slices, take_slice
from pretrain.training.checkpoint.manifest import CheckpointError
from pretrain.training.checkpoint.tensor_index import WEIGHT, Shard, Whole

WHOLES = "parameters"


@dataclass(frozen=True)
class Copy:
    """Pieces of a rank, copied to the host so that training can go on while they are written."""

    tensors: dict[str, Tensor]
    wholes: dict[str, Whole]

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> Copy:
        """Copies of all shards."""
        tensors = {
            _key(s.whole.name, kind, s): part.detach().to("cpu", copy=True)
            for s in shards
            for kind, part in s.parts.items()
        }
        return cls(tensors, {shard.whole.name: shard.whole for shard in shards})

    def write(self, path: Path) -> None:
        """Write one safetensors file.

        Raises:
            OSError: it cannot be written.
        """
        wholes = {name: astuple(whole)[1:] for name, whole in self.wholes.items()}
        try:
            save_file(self.tensors, path, metadata={WHOLES: json.dumps(wholes)})
            open_to_umask(path)
        except SafetensorError as error:  # what the writer makes of the system's errors
            raise OSError(str(error)) from error


@dataclass(frozen=True)
class _Stored:
    path: Path
    rank: int
    size: int
    start: int
    count: int


def _key(name: str, kind: str, piece: Shard | _Stored) -> str:
    return f"{name}|{kind}|{piece.rank}of{piece.size}|{piece.start}"


@dataclass
class Index:
    """What the headers of some files say: parameters, and where pieces of them lie."""

    wholes: dict[str, Whole] = field(default_factory=dict)
    stored: dict[str, list[_Stored]] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        """Take in a file's header.

        Raises:
            CheckpointError: it is no safetensors, or says other things than the others.
        """
        try:
            with safe_open(path, framework="pt") as file:
                described = json.loads((file.metadata() or {})[WHOLES])
                for name, (shape, dimension, stride) in described.items():
                    self._know(Whole(name, tuple(shape), dimension, stride), path)
                for key in file.keys():  # noqa: SIM118
                    name, kind, place, start = key.split("|")
                    if kind != WEIGHT:
                        continue
                    rank, size = place.split("of")
                    (count,) = file.get_slice(key).get_shape()
                    piece = _Stored(path, int(rank), int(size), int(start), count)
                    self.stored.setdefault(name, []).append(piece)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: is not a file of a checkpoint: {error}") from error

    def merge(self, other: Index) -> None:
        """Take in what other files say.

        Raises:
            CheckpointError: they say other things.
        """
        for name, whole in other.wholes.items():
            pieces = other.stored.get(name, [])
            self._know(whole, pieces[0].path if pieces else Path(name))
            self.stored.setdefault(name, []).extend(pieces)

    def _know(self, whole: Whole, path: Path) -> None:
        if self.wholes.setdefault(whole.name, whole) != whole:
            raise CheckpointError(f"{path}: another {whole.name} than in the files before")


def indexed(paths: Sequence[Path]) -> Index:
    """The index of some files; errors: see :meth:`Index.add`."""
    index = Index()
    for path in paths:
        index.add(path)
    return index


class PieceReader:
    """All pieces of a checkpoint.

    Args:
        index: of all its files.
    """

    def __init__(self, index: Index) -> None:
        self.wholes = index.wholes
        self.stored = index.stored
        for pieces in self.stored.values():
            pieces.sort(key=lambda piece: (piece.rank, piece.start))

    @classmethod
    def alone(cls, paths: Sequence[Path]) -> PieceReader:
        """Read by this process.

        Raises:
            CheckpointError: a file is no safetensors, or says other things than the others.
        """
        return cls(indexed(paths))

    @classmethod
    def together(cls, paths: Sequence[Path]) -> PieceReader:
        """Read by all ranks: each header is read once, by one of them, however many there are.

        Raises:
            CheckpointError: on all of them; as :meth:`alone`.
        """
        rank, ranks = dist.get_rank(), dist.get_world_size()
        mine: Index | str = Index()
        try:
            mine = indexed(paths[rank::ranks])
        except CheckpointError as error:
            mine = str(error)
        told: list[Index | str] = [mine] * ranks
        dist.all_gather_object(told, mine)
        index = Index()
        for each in told:
            if isinstance(each, str):
                raise CheckpointError(each)
            index.merge(each)
        return cls(index)

    def fill(self, shard: Shard, weights_only: bool = False) -> None:
        """Copy what is stored into a shard's views, whatever layout wrote it.

        Args:
            weights_only: leave what the optimizer keeps as it is.

        Raises:
            CheckpointError: the parameter is missing, of another shape, or not all of it is there.
        """
        name, whole = shard.whole.name, shard.whole
        if name not in self.wholes:
            raise CheckpointError(f"the checkpoint has no parameter {name}; it is of another model")
        if self.wholes[name].shape != whole.shape:
            raise CheckpointError(
                f"{name} is {list(self.wholes[name].shape)} in the checkpoint and "
                f"{list(whole.shape)} in this model"
            )
        for kind, view in shard.parts.items():
            if weights_only and kind != WEIGHT:
                continue
            view.copy_(self._range(shard, kind))

    def _range(self, shard: Shard, kind: str) -> Tensor:
        whole, end = shard.whole, shard.start + shard.count
        saved_size = self.stored[whole.name][0].size
        if saved_size == shard.size:
            return self._read(whole.name, kind, shard.rank, shard.start, end)
        full = self.full(whole.name, kind)
        if whole.dimension is not None:
            full = take_slice(full, whole.dimension, whole.stride, shard.rank, shard.size)
        return full.reshape(-1)[shard.start : end]

    def full(self, name: str, kind: str = WEIGHT) -> Tensor:
        """An undivided parameter in fp32.

        Raises:
            CheckpointError: not all of it is there.
        """
        whole = self.wholes[name]
        size = self.stored[name][0].size
        shape = list(whole.shape)
        if whole.dimension is None:
            return self._read(name, kind, 0, 0, math.prod(shape)).view(shape)
        shape[whole.dimension] //= size
        slices = [
            self._read(name, kind, rank, 0, math.prod(shape)).view(shape) for rank in range(size)
        ]
        return join_slices(slices, whole.dimension, whole.stride)

    def _read(self, name: str, kind: str, rank: int, start: int, end: int) -> Tensor:
        """Elements [start, end) of a flattened slice."""
        parts: list[Tensor] = []
        reached = start
        for piece in self.stored[name]:
            if piece.rank != rank or piece.start + piece.count <= reached or reached >= end:
                continue
            if piece.start > reached:
                break
            first, last = reached - piece.start, min(end, piece.start + piece.count) - piece.start
            parts.append(self._slice(piece, name, kind, first, last))
            reached = piece.start + last
        if reached < end:
            raise CheckpointError(f"the checkpoint lacks a part of {name}, {kind}")
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _slice(self, piece: _Stored, name: str, kind: str, first: int, last: int) -> Tensor:
        try:
            with safe_open(piece.path, framework="pt") as file:
                part: Any = file.get_slice(_key(name, kind, piece))
                read: Tensor = part[first:last]
        except (SafetensorError, OSError, IndexError) as error:
            raise CheckpointError(f"{piece.path}: {error}") from error
        if read.dtype != torch.float32 or read.shape != (last - first,):
            raise CheckpointError(
                f"{piece.path}: {_key(name, kind, piece)} is {read.dtype} {list(read.shape)}, "
                f"expected float32 [{last - first}]"
            )
        return read

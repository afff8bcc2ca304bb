"""What a format's reader finds in a file: ids that lie one after the other, or rows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pretrain.errors import UserError

PIECE = 1 << 24
"""Bytes that are looked at together."""
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


@dataclass(frozen=True)
class Asked:
    """What the command says of the files.

    Attributes:
        dtype: of raw ids; None where it is not given.
        field: column or field with the ids.
    """

    dtype: np.dtype | None = None
    field: str = "input_ids"


@dataclass(frozen=True)
class Bounds:
    """Where sequences and documents end.

    Attributes:
        lengths: [S] int64 tokens of each sequence.
        documents: [D + 1] int64 the first sequence of each document, and S.
    """

    lengths: np.ndarray
    documents: np.ndarray

    @classmethod
    def of_documents(cls, lengths: np.ndarray) -> Bounds:
        """A sequence each."""
        return cls(np.asarray(lengths, np.int64), np.arange(len(lengths) + 1))


@dataclass(frozen=True)
class Flat:
    """Ids that lie one after the other, from a byte of a file to its end.

    Attributes:
        path: the file.
        dtype: of the ids.
        begin: bytes before the first of them.
        bounds: of its documents; None where only an end token tells them.
        beside: other files that say something of it.
    """

    path: Path
    dtype: np.dtype
    begin: int = 0
    bounds: Bounds | None = None
    beside: tuple[Path, ...] = ()

    @property
    def tokens(self) -> int:
        """Number of ids."""
        return (self.path.stat().st_size - self.begin) // self.dtype.itemsize


@dataclass(frozen=True)
class Rows:
    """Documents that lie apart from each other.

    Attributes:
        path: the file, or the folder of the files.
        read: gives some documents at a time: their ids, one after the other, and [n] how many each
            has.
        beside: the files, where `path` is a folder.
    """

    path: Path
    read: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]
    beside: tuple[Path, ...] = field(default=())


Shard = Flat | Rows


def raw(path: Path, dtype: np.dtype | None, begin: int = 0, bounds: Bounds | None = None) -> Flat:
    """A file of raw ids.

    Raises:
        UserError: the type of the ids is not given, or the file holds no whole number of them.
    """
    size = size_of(path)
    if dtype is None:
        raise UserError(
            f"{path}: the file does not say of which type its ids are; give --dtype, one of "
            f"{', '.join(INTEGERS)}, as the program that wrote it had it"
        )
    if size <= begin or (size - begin) % dtype.itemsize:
        raise UserError(
            f"{path}: {size - begin:,} bytes of ids, expected a multiple of the {dtype.itemsize} "
            f"of {dtype.name}, and at least one; copy it again, or give another --dtype"
        )
    return Flat(path, dtype, begin, bounds)


def size_of(path: Path) -> int:
    """Bytes of a file.

    Raises:
        UserError: it is not there, or is none.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend the path") from None
    if not path.is_file():
        raise UserError(f"{path}: a folder, expected a file; name the files in it")
    return size

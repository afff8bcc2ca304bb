"""Megatron's indexed data: ids in PREFIX.bin, where sequences and documents lie in PREFIX.idx.

The `.bin` holds nothing but ids, one sequence after the other. The `.idx` (little-endian) holds

    9 bytes   MMIDIDX, two zero bytes
    uint64    version, 1
    uint8     code of the ids' type
    uint64    S, the number of sequences
    uint64    D + 1, the number of documents and one
    int32[S]  tokens of each sequence
    int64[S]  where each sequence begins in the .bin, in bytes
    int64[D + 1]  the first sequence of each document, and S

as `megatron.core.datasets.indexed_dataset` of Megatron-Core 0.16 reads and writes it. Where the
first sequence does not begin at 0, the `.bin` is another trainer's file with a head of its own,
which tools.import_corpus left as it lies.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pretrain.errors import UserError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
TYPES: dict[int, np.dtype] = {
    1: np.dtype("<u1"),
    2: np.dtype("<i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    8: np.dtype("<u2"),
}
"""Types of ids by their code; codes 6 and 7 are floating-point numbers, which are no ids."""
CODES = {kind: code for code, kind in TYPES.items()}
SMALL_VOCABULARY = 65_500
"""Below this number of ids Megatron takes two bytes for each, otherwise four."""
CHECKED = 2**20
"""Entries of the index that are looked at together."""


def bin_path(prefix: Path | str) -> Path:
    """Where the ids are."""
    return Path(f"{prefix}.bin")


def idx_path(prefix: Path | str) -> Path:
    """Where the index is."""
    return Path(f"{prefix}.idx")


def token_type(size: int) -> np.dtype:
    """The type of ids below `size`: uint16 or int32."""
    return np.dtype("<u2") if size < SMALL_VOCABULARY else np.dtype("<i4")


@dataclass(frozen=True)
class IndexLayout:
    """Where each part of an `.idx` begins, in bytes; known once everything is counted.

    Args:
        dtype: of the ids.
        sequences: number of sequences, S.
        documents: number of documents, D.
    """

    dtype: np.dtype
    sequences: int
    documents: int

    @property
    def lengths(self) -> int:
        """Of int32 [S]."""
        return HEADER.size

    @property
    def pointers(self) -> int:
        """Of int64 [S]."""
        return self.lengths + 4 * self.sequences

    @property
    def boundaries(self) -> int:
        """Of int64 [D + 1]."""
        return self.pointers + 8 * self.sequences

    @property
    def size(self) -> int:
        """Of the whole file."""
        return self.boundaries + 8 * (self.documents + 1)

    def header(self) -> bytes:
        """The first bytes of the file."""
        code = CODES[self.dtype]
        return HEADER.pack(MAGIC, VERSION, code, self.sequences, self.documents + 1)

    @classmethod
    def read(cls, file: BinaryIO, path: Path) -> IndexLayout:
        """The layout that a file's header states.

        Raises:
            UserError: it is no header of such a file.
        """
        content = file.read(HEADER.size)
        if len(content) < HEADER.size:
            raise UserError(
                f"{path}: {len(content)} bytes, and the header alone takes {HEADER.size}; the "
                "index is damaged: copy or prepare it again"
            )
        magic, version, code, sequences, boundaries = HEADER.unpack(content)
        if magic != MAGIC:
            raise UserError(
                f"{path}: begins with {magic!r}, expected {MAGIC!r}; it is no index of Megatron's"
            )
        if version != VERSION:
            raise UserError(f"{path}: version {version}, expected {VERSION}; prepare it again")
        if code not in TYPES:
            known = ", ".join(f"{code} ({kind.name})" for code, kind in TYPES.items())
            raise UserError(
                f"{path}: type of ids {code}, expected one of {known}; prepare it again"
            )
        if boundaries < 1:
            raise UserError(f"{path}: no document boundary; the index is damaged: prepare it again")
        return cls(TYPES[code], sequences, boundaries - 1)


class IndexedCorpus:
    """A corpus that is read where it lies: opening maps the files, and reads no ids.

    Args:
        prefix: of the `.bin` and `.idx`.
        check: look through the whole index (16 bytes a sequence), not only at its ends.

    Attributes:
        lengths: [S] int32, tokens of each sequence.
        boundaries: [D + 1] int64, the first sequence of each document, and S.
        ids: [end] the `.bin`, its head included where it has one.

    Raises:
        UserError: a file is missing, damaged, or too short for what the index says.
    """

    def __init__(self, prefix: Path | str, check: bool = False) -> None:
        self.prefix = Path(prefix)
        index, tokens = idx_path(prefix), bin_path(prefix)
        try:
            with index.open("rb") as file:
                self.layout = IndexLayout.read(file, index)
            found, self.bytes = index.stat().st_size, tokens.stat().st_size
        except OSError as error:
            raise UserError(
                f"{error.filename}: cannot be read ({error.strerror}); name a prefix for which "
                "both .bin and .idx are there, prepare it with tools.preprocess_data, or import "
                "what another trainer wrote with tools.import_corpus"
            ) from None
        if found != self.layout.size:
            raise UserError(
                f"{index}: {found:,} bytes, but {self.layout.sequences:,} sequences and "
                f"{self.layout.documents:,} documents take {self.layout.size:,}; the index is "
                "damaged: copy or prepare it again"
            )
        content = np.memmap(index, mode="r")
        layout = self.layout
        self.lengths = content[layout.lengths : layout.pointers].view("<i4")
        self.pointers = content[layout.pointers : layout.boundaries].view("<i8")
        self.boundaries = content[layout.boundaries :].view("<i8")
        self._check_ends()
        if check:
            self._check_all()
        self.ids = (
            np.memmap(tokens, layout.dtype, mode="r", shape=(self.end,))
            if self.end
            else np.empty(0, layout.dtype)
        )

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return self.layout.sequences

    @property
    def documents(self) -> int:
        """Number of documents."""
        return self.layout.documents

    @property
    def begin(self) -> int:
        """Where in the `.bin` the first sequence begins, in tokens: 0 unless it has a head."""
        return int(self.pointers[0]) // self.layout.dtype.itemsize if self.sequences else 0

    @property
    def end(self) -> int:
        """Where in the `.bin` the last sequence ends, in tokens."""
        if not self.sequences:
            return 0
        return int(self.pointers[-1]) // self.layout.dtype.itemsize + int(self.lengths[-1])

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.end - self.begin

    def token_begins(self, numbers: np.ndarray) -> np.ndarray:
        """[n] token of the `.bin` with which each of these sequences begins; the end of the last
        for S. Of at least one sequence."""
        inside = np.minimum(numbers, self.sequences - 1)
        begins = self.pointers[inside] // self.layout.dtype.itemsize
        return np.where(numbers < self.sequences, begins, self.end)

    def sequence(self, number: int) -> np.ndarray:
        """[tokens of the sequence], a view of the file."""
        begin = int(self.pointers[number]) // self.layout.dtype.itemsize
        return self.ids[begin : begin + int(self.lengths[number])]

    def document(self, number: int) -> np.ndarray:
        """[tokens of the document], a view of the file."""
        first, end = int(self.boundaries[number]), int(self.boundaries[number + 1])
        if first == end:
            return self.ids[:0]
        begin = int(self.pointers[first]) // self.layout.dtype.itemsize
        return self.ids[begin : begin + int(self.lengths[first:end].sum(dtype=np.int64))]

    def _check_ends(self) -> None:
        index, tokens = idx_path(self.prefix), bin_path(self.prefix)
        if int(self.boundaries[0]) != 0 or int(self.boundaries[-1]) != self.sequences:
            raise UserError(
                f"{index}: documents reach from sequence {self.boundaries[0]} to "
                f"{self.boundaries[-1]}, expected 0 to {self.sequences}; the index is damaged: "
                "copy or prepare it again"
            )
        if self.sequences and int(self.pointers[0]) % self.layout.dtype.itemsize:
            raise UserError(
                f"{index}: the first sequence begins at byte {int(self.pointers[0])}, which is no "
                f"multiple of the {self.layout.dtype.itemsize} bytes of an id; the index is "
                "damaged: copy or prepare it again"
            )
        needed = self.end * self.layout.dtype.itemsize
        if self.bytes != needed:
            short = "too short" if self.bytes < needed else "too long"
            raise UserError(
                f"{tokens}: {self.bytes:,} bytes, but {index.name} says {needed:,}; it is {short}, "
                "or the two files do not belong together: copy or prepare both again"
            )

    def _check_all(self) -> None:
        index = idx_path(self.prefix)
        end = int(self.pointers[0]) if self.sequences else 0
        for first in range(0, self.sequences, CHECKED):
            lengths = self.lengths[first : first + CHECKED].astype(np.int64)
            sizes = lengths * self.layout.dtype.itemsize
            begins = end + np.cumsum(sizes) - sizes
            wrong = (lengths < 0) | (begins != self.pointers[first : first + CHECKED])
            if wrong.any():
                raise UserError(
                    f"{index}: sequence {first + int(wrong.argmax())} does not begin where the one "
                    "before it ends; the index is damaged: copy or prepare it again"
                )
            end += int(sizes.sum())
        for first in range(0, self.documents, CHECKED):
            if (np.diff(self.boundaries[first : first + CHECKED + 1]) < 0).any():
                raise UserError(
                    f"{index}: documents are not in order; the index is damaged: copy or prepare "
                    "it again"
                )

"""What a unit leaves behind until the corpus is put together.

NUMBER.tokens     ids
NUMBER.lengths    int32, tokens of each sequence
NUMBER.documents  int64, the number of sequences up to each document's end
NUMBER.bad        JSON lines
NUMBER.json       counts, and the CRC-32 of the others; it is there when they are whole
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pretrain.files import json_text, written_whole
from tools.preprocessing.documents import Bad

KINDS = ("tokens", "lengths", "documents", "bad")
BLOCK = 2**20
_NOT_OFFERED = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


@dataclass(frozen=True)
class Counts:
    """What a unit holds."""

    number: int
    tokens: int = 0
    sequences: int = 0
    documents: int = 0
    text_bytes: int = 0
    """Of the documents, as UTF-8."""
    bad: int = 0
    blank: int = 0
    """Documents without a token."""
    lines: int = 0
    digests: list[str] = field(default_factory=list)
    checks: dict[str, int] = field(default_factory=dict)
    """CRC-32 of each file."""
    sizes: dict[str, int] = field(default_factory=dict)
    merged_at: int | None = None
    """Byte of the corpus where the ids are, once they have been moved there."""

    @property
    def records(self) -> int:
        """Documents, good or not."""
        return self.documents + self.bad + self.blank


def part_path(folder: Path, number: int, kind: str) -> Path:
    """A file of a unit's."""
    return folder / f"{number:08d}.{kind}"


class PartWriter:
    """Writes a unit's files; they count once `commit` is called."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number
        part_path(folder, number, "json").unlink(missing_ok=True)
        self._files = {kind: part_path(folder, number, kind).open("wb") for kind in KINDS}
        self._checks = dict.fromkeys(KINDS, 0)
        self._sizes = dict.fromkeys(KINDS, 0)
        self.tokens = self.sequences = self.documents = self.bad = 0

    def add(self, documents: Sequence[Sequence[bytes]], width: int) -> None:
        """Documents, each the ids of its sequences, of `width` bytes each."""
        sequences = [sequence for document in documents for sequence in document]
        lengths = np.array([len(sequence) // width for sequence in sequences], "<i4")
        ends = self.sequences + np.cumsum([len(document) for document in documents], dtype="<i8")
        self._write("tokens", b"".join(sequences))
        self._write("lengths", lengths.tobytes())
        self._write("documents", ends.tobytes())
        self.tokens += int(lengths.sum(dtype=np.int64))
        self.sequences += len(sequences)
        self.documents += len(documents)

    def add_bad(self, bad: Bad) -> None:
        """A line that is no document."""
        self._write("bad", (json_text(asdict(bad)) + "\n").encode())
        self.bad += 1

    def commit(self, **others: Any) -> Counts:
        """Make the unit count."""
        for file in self._files.values():
            file.close()
        counts = Counts(
            self._number,
            self.tokens,
            self.sequences,
            self.documents,
            bad=self.bad,
            checks=self._checks,
            sizes=self._sizes,
            **others,
        )
        _save(self._folder, counts)
        return counts

    def close(self) -> None:
        """Close the files, whether or not the unit counts."""
        for file in self._files.values():
            file.close()

    def _write(self, kind: str, content: bytes) -> None:
        self._files[kind].write(content)
        self._checks[kind] = zlib.crc32(content, self._checks[kind])
        self._sizes[kind] += len(content)


def mark_merged(folder: Path, counts: Counts, offset: int) -> None:
    """Note that the ids are in the corpus now, and remove the unit's own copy."""
    _save(folder, replace(counts, merged_at=offset))
    part_path(folder, counts.number, "tokens").unlink(missing_ok=True)


def committed(folder: Path, number: int, merged: Path) -> Counts | None:
    """A unit that is there, whole and as it was written; None if it has to be done.

    Args:
        merged: where ids are that have been moved already.
    """
    try:
        counts = Counts(**json.loads(part_path(folder, number, "json").read_bytes()))
        for kind in KINDS:
            path, offset = part_path(folder, number, kind), 0
            if kind == "tokens" and counts.merged_at is not None:
                path, offset = merged, counts.merged_at
            elif path.stat().st_size != counts.sizes[kind]:
                return None
            with path.open("rb") as file:
                file.seek(offset)
                if _crc(file, counts.sizes[kind]) != counts.checks[kind]:
                    return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return counts


def _save(folder: Path, counts: Counts) -> None:
    with written_whole(part_path(folder, counts.number, "json")) as beside:
        beside.write_text(json_text(asdict(counts)))


def _crc(file: BinaryIO, size: int) -> int:
    check = 0
    while size and (block := file.read(min(size, BLOCK))):
        check = zlib.crc32(block, check)
        size -= len(block)
    return check if not size else -1


def copy_range(source: Path, target: int, offset: int, size: int) -> None:
    """Put a whole file into an open one, in the kernel, without reading it where files can share.

    Raises:
        OSError: as writing does, or the file is shorter than `size`.
    """
    done = 0
    with source.open("rb") as file:
        while done < size:
            try:
                moved = os.copy_file_range(file.fileno(), target, size - done, done, offset + done)
            except OSError as error:
                if error.errno not in _NOT_OFFERED:
                    raise
                block = os.pread(file.fileno(), min(size - done, 16 * BLOCK), done)
                moved = os.pwrite(target, block, offset + done)
            if not moved:
                raise OSError(f"{source} is shorter than the {size:,} bytes that it had")
            done += moved

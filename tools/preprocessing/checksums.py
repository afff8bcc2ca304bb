"""A checksum of a file that several processes take together.

SHA-256 of each piece of so many bytes, and SHA-256 over those, one after the other. A file of up to
one piece has the SHA-256 of its SHA-256.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from typing import BinaryIO


class Hashed(io.RawIOBase):
    """A file that is hashed as it is read, in order, from `position` on.

    Args:
        file: at `position`.
        position: where reading begins.
        begin, end: the bytes to hash; `begin` is a multiple of `piece`.
        piece: bytes that are hashed together.
    """

    def __init__(self, file: BinaryIO, position: int, begin: int, end: int, piece: int) -> None:
        self._file, self.position = file, position
        self._begin, self._end = begin, end
        self._piece = hashlib.sha256()
        self._size = self._room = piece
        self._digests: list[str] = []

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read and hash."""
        content = self._file.read(len(buffer))
        count = len(content)
        buffer[:count] = content
        first = max(self._begin - self.position, 0)
        last = min(self._end - self.position, count)
        if first < last:
            self._take(memoryview(content)[first:last])
        self.position += count
        return count

    def digests(self) -> list[str]:
        """Of the pieces; reads what has not been read."""
        while self.position < self._end and self.read(2**20):
            pass
        if self._room < self._size:
            self._close_piece()
        return self._digests

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _take(self, content: memoryview) -> None:
        while len(content):
            part = content[: self._room]
            self._piece.update(part)
            self._room -= len(part)
            content = content[len(part) :]
            if not self._room:
                self._close_piece()

    def _close_piece(self) -> None:
        self._digests.append(self._piece.hexdigest())
        self._piece, self._room = hashlib.sha256(), self._size


def checksum(digests: Iterable[str]) -> str:
    """Of a file, from the SHA-256 of its pieces in order."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()

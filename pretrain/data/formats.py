"""How files of text are kept: what their endings say, and their bytes unpacked.

Nothing that was cut or damaged passes for whole: reading it raises one of :func:`damage`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from pretrain.errors import UserError

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
"""What an ending, in small letters, says of a file's content."""
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
LONGEST_WINDOW = 2**31
"""Bytes that a zstd frame may look back: as far as `zstd --long=31` goes."""
_FED = 2**14
"""Bytes given to zstd at once, which bounds what comes out at once."""


def format_of(path: str, given: str | None = None) -> tuple[str, str]:
    """Format and compression (an ending, or nothing) of a file, by its name.

    Args:
        given: the format, whatever the name says.

    Raises:
        UserError: the name says no format.
    """
    name = PurePosixPath(path)
    last = name.suffix.lower()
    compression = last if last in COMPRESSIONS else ""
    ending = PurePosixPath(name.stem).suffix if compression else name.suffix
    form = given or FORMATS.get(ending.lower())
    if form is None:
        raise UserError(
            f"{path}: the ending {ending or 'of its name'} says no format; expected "
            f"{', '.join(FORMATS)} (also with {', '.join(COMPRESSIONS)}): rename it"
        )
    if form == "parquet" and compression:
        raise UserError(f"{path}: a compressed Parquet file; unpack it, its columns are compressed")
    return form, compression


def unpacked(raw: BinaryIO | io.RawIOBase, compression: str) -> io.BufferedReader:
    """The text of a file, from its bytes.

    Raises:
        UserError: the package that unpacks is missing.
    """
    buffered: io.BufferedReader = io.BufferedReader(cast(Any, raw), 2**20)
    openers: dict[str, Callable[[io.BufferedReader], Any]] = {
        ".gz": lambda file: gzip.GzipFile(fileobj=file),
        ".bz2": bz2.BZ2File,
        ".xz": lzma.LZMAFile,
        ".zst": Frames,
    }
    if not compression:
        return buffered
    return io.BufferedReader(openers[compression](buffered), 2**20)


def damage() -> tuple[type[Exception], ...]:
    """What reading a compressed file raises when it is damaged or cut."""
    return (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, FrameError)


class FrameError(Exception):
    """A zstd frame that is not what its header and checksum say."""


class Frames(io.RawIOBase):
    """The content of zstd frames, one after the other.

    zstandard's own reader says nothing where the last frame is cut.

    Args:
        file: from its first byte.

    Raises:
        UserError: zstandard is missing; on reading, a frame's window does not fit into memory.
        EOFError: on reading, the file ends inside a frame.
        FrameError: on reading.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        try:
            import zstandard
        except ImportError:
            raise UserError(
                "files that end in .zst need the package zstandard, which is not installed; run: "
                "pip install 'mifirst[corpora]'"
            ) from None
        self._package: Any = zstandard
        self._file = file
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=LONGEST_WINDOW)
        self._frame: Any = None
        self._packed = self._content = b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """The next bytes of content; 0 behind the last frame's end."""
        while not self._content:
            packed = self._packed or self._file.read(_FED)
            if not packed:
                if self._frame is not None:
                    raise EOFError("it ends inside a frame")
                return 0
            self._unpack(packed)
        count = min(len(buffer), len(self._content))
        buffer[:count] = self._content[:count]
        self._content = self._content[count:]
        return count

    def _unpack(self, packed: bytes) -> None:
        frame = self._frame = self._frame or self._unpacker.decompressobj()
        try:
            self._content = frame.decompress(packed)
        except self._package.ZstdError as error:
            if "memory" in str(error):
                raise UserError(
                    "a zstd frame looks back over more bytes (its window, zstd --long) than there "
                    "is memory for, or more than 2 GiB; unpack the file on a larger machine, or "
                    "compress it again with a shorter window"
                ) from None
            raise FrameError(str(error)) from None
        self._packed = frame.unused_data if frame.eof else b""
        if frame.eof:
            self._frame = None

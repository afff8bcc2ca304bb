"""Files of text, local or wherever fsspec reaches."""

from __future__ import annotations

import glob
import gzip
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from pretrain.errors import UserError

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".parquet": "parquet",
}
COMPRESSIONS = (".gz", ".zst")


@dataclass(frozen=True)
class Source:
    """A file of text.

    Args:
        path: as a path or URL.
        size: in bytes, compressed as it is.
        stamp: changes when the file is written to.
        format: jsonl, text or parquet.
        compression: .gz, .zst, or nothing.
    """

    path: str
    size: int
    stamp: str
    format: str
    compression: str


def find_sources(patterns: Sequence[str], given: str | None = None) -> list[Source]:
    """Files that patterns match, in the patterns' order, by name within one; each of them once.

    Args:
        given: the format; None to go by the files' endings.

    Raises:
        UserError: a pattern matches nothing, or a file's format is not known or cannot be read.
    """
    found: dict[str, Source] = {}
    for pattern in patterns:
        matches = _matches(pattern)
        if not matches:
            raise UserError(f"--input {pattern}: matches no file; mend the pattern")
        for path in matches:
            found.setdefault(path, _source(path, given))
    if not sum(source.size for source in found.values()):
        raise UserError(f"--input {' '.join(patterns)}: the files are empty; name some with text")
    return list(found.values())


def open_raw(path: str) -> BinaryIO:
    """A file's bytes as they are, unbuffered where that can be."""
    if is_url(path):
        return cast(BinaryIO, _fsspec().open(path, "rb").open())
    return cast(BinaryIO, open(path, "rb", buffering=0))


def unpacked(raw: Any, compression: str) -> io.BufferedReader:
    """The text of a file.

    Raises:
        UserError: the package that unpacks is missing.
    """
    buffered: io.BufferedReader = io.BufferedReader(raw, 2**20)
    if compression == ".gz":
        return io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=buffered)), 2**20)
    if compression == ".zst":
        return io.BufferedReader(_zstd_reader(buffered), 2**20)
    return buffered


def damage() -> tuple[type[Exception], ...]:
    """What reading a compressed file raises when it is damaged."""
    kinds: list[type[Exception]] = [EOFError, gzip.BadGzipFile, gzip.zlib.error]  # type: ignore[attr-defined]
    try:
        import zstandard
    except ImportError:
        return tuple(kinds)
    return (*kinds, zstandard.ZstdError)


def is_url(path: str) -> bool:
    """Whether fsspec has to open it."""
    return "://" in path


def _zstd_reader(buffered: io.BufferedReader) -> Any:
    try:
        import zstandard
    except ImportError:
        raise UserError(
            "files that end in .zst need the package zstandard, which is not installed; run: "
            "pip install 'mifirst[corpora]'"
        ) from None
    return zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError:
        raise UserError(
            "a URL needs the package fsspec, which is not installed; run: "
            "pip install 'mifirst[corpora]'"
        ) from None
    return fsspec


def _matches(pattern: str) -> list[str]:
    if not is_url(pattern):
        paths = glob.glob(pattern, recursive=True) or ([pattern] if os.path.exists(pattern) else [])
        return sorted(os.path.abspath(path) for path in paths if not os.path.isdir(path))
    package = _fsspec()
    try:
        system, path = package.core.url_to_fs(pattern)
        return sorted(system.unstrip_protocol(name) for name in system.glob(path))
    # Backends raise what their libraries raise; ImportError names the package that is missing.
    except Exception as error:
        raise UserError(
            f"--input {pattern}: {str(error) or type(error).__name__}; check the URL, the rights, "
            "and that fsspec's package for it is installed"
        ) from error


def _source(path: str, given: str | None) -> Source:
    name = PurePosixPath(path)
    compression = name.suffix if name.suffix in COMPRESSIONS else ""
    ending = PurePosixPath(name.stem).suffix if compression else name.suffix
    form = given or FORMATS.get(ending)
    if form is None:
        raise UserError(
            f"{path}: the ending {ending or 'of its name'} says no format; expected "
            f"{', '.join(FORMATS)} (also with .gz or .zst): rename it, or give --format"
        )
    if form == "parquet" and compression:
        raise UserError(f"{path}: a compressed Parquet file; unpack it, its columns are compressed")
    size, stamp = _state(path)
    return Source(path, size, stamp, form, compression)


def _state(path: str) -> tuple[int, str]:
    try:
        if not is_url(path):
            found = os.stat(path)
            return found.st_size, str(found.st_mtime_ns)
        system, inner = _fsspec().core.url_to_fs(path)
        info = system.info(inner)
        stamps = (info.get(key) for key in ("ETag", "etag", "LastModified", "mtime", "created"))
        return int(info["size"]), str(next((stamp for stamp in stamps if stamp), ""))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error

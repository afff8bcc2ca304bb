"""Files of text, local or wherever fsspec reaches."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from pretrain.data.formats import FORMATS, format_of
from pretrain.data.records import identity
from pretrain.errors import UserError

READ = tuple(dict.fromkeys(FORMATS.values()))
"""Formats of text."""


@dataclass(frozen=True)
class Source:
    """A file of text.

    Args:
        path: as a path or URL.
        size: in bytes, compressed as it is.
        stamp: changes when the file is written to.
        format: one of `READ`.
        compression: an ending of :data:`pretrain.data.formats.COMPRESSIONS`, or nothing.
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
    found: dict[Hashable, Source] = {}
    for pattern in patterns:
        matches = _matches(pattern)
        if not matches:
            raise UserError(f"--input {pattern}: matches no file; mend the pattern")
        for path in matches:
            source = _source(path, given)
            first = found.setdefault(path if is_url(path) else identity(path), source)
            if first.path != path:
                print(f"{path} is {first.path} by another name: taken once", file=sys.stderr)
    if not sum(source.size for source in found.values()):
        raise UserError(f"--input {' '.join(patterns)}: the files are empty; name some with text")
    return list(found.values())


def open_raw(path: str) -> BinaryIO:
    """A file's bytes as they are, unbuffered where that can be."""
    if is_url(path):
        return cast(BinaryIO, _fsspec().open(path, "rb").open())
    return cast(BinaryIO, open(path, "rb", buffering=0))


def is_url(path: str) -> bool:
    """Whether fsspec has to open it."""
    return "://" in path


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
    try:
        form, compression = format_of(path, given)
    except UserError as error:
        raise UserError(f"{error}, or give --format" if given is None else str(error)) from None
    size, stamp = _state(path)
    if compression and not size:
        raise UserError(f"{path}: damaged (it has no bytes); copy it again")
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

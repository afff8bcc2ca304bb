"""Writing a file or a folder whole or not at all, and knowing later that it is what was written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes that name at the end, unless something failed.

    Raises:
        OSError: as writing does; `path` is as it was before.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file in UTF-8, or nothing.

    Raises:
        OSError: as writing does; `path` is as it was before.
    """
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSON-lines file, none where it is missing; a line that is still being written is
    left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


@contextmanager
def folder_whole(path: Path) -> Iterator[Path]:
    """A folder beside `path` to fill; it takes that name at the end, unless something failed.

    Raises:
        FileExistsError: something that is no empty folder is there already.
        OSError: as writing does.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(
            errno.EEXIST, "is there already; name another folder, or remove it", str(path)
        )
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.mkdir(parents=True)
        yield beside
        if path.exists():
            path.rmdir()
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

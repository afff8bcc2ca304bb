"""Writing a file or a folder whole or not at all, and knowing later that it is what was written."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import stat
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


def open_to_umask(path: Path) -> None:
    """Give a file the rights of any new file of its folder, 0666 less the umask: safetensors
    writes 0600.

    A file is made and looked at, as a process's umask cannot be read without changing it for all
    its threads.

    Raises:
        OSError: the folder or the file's rights cannot be written.
    """
    probe = path.with_name(f".{path.name}.{os.getpid()}.rights")
    try:
        file = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            mode = stat.S_IMODE(os.fstat(file).st_mode)
        finally:
            os.close(file)
        path.chmod(mode)
    finally:
        probe.unlink(missing_ok=True)


def json_text(values: Any, indent: int | None = None, ascii_only: bool = True) -> str:
    """Strict JSON: null where a number is not finite, as JSON has no NaN and no infinity.

    Args:
        ascii_only: write other characters as escapes.
    """
    return json.dumps(_finite(values), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    if isinstance(values, float) and not math.isfinite(values):
        return None
    return values


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

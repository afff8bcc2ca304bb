"""The ends of files that another process is writing: half a line is left out, what is missing or
unreadable is empty."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIZE = 1 << 18
LARGEST = 1 << 24
"""Bytes of an end that is read, and of one whose last line is longer than that."""


@dataclass(frozen=True)
class Tail:
    """Objects of the last whole lines of a JSON-lines file.

    Attributes:
        objects: in the file's order; lines that are no object are left out.
        whole: whether these are all of the file.
    """

    objects: tuple[dict[str, Any], ...] = ()
    whole: bool = True

    @property
    def last(self) -> dict[str, Any]:
        """The last object; empty where there is none."""
        return self.objects[-1] if self.objects else {}


def tail(path: Path, size: int = SIZE) -> Tail:
    """The end of a JSON-lines file: the lines within its last `size` bytes, or, where not even one
    is that short, its last line."""
    lines, whole = _lines(path, size)
    found = (_object(line) for line in lines)
    return Tail(tuple(values for values in found if values is not None), whole)


def json_object(path: Path) -> dict[str, Any]:
    """The object that a small JSON file holds; empty where it holds none."""
    try:
        return _object(path.read_bytes()) or {}
    except OSError:
        return {}


def _lines(path: Path, size: int) -> tuple[list[bytes], bool]:
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            while True:
                start = max(0, end - size)
                file.seek(start)
                lines = file.read(end - start).split(b"\n")[:-1]
                if start == 0:
                    return lines, True
                if len(lines) > 1 or size >= LARGEST:
                    return lines[1:], False
                size *= 4
    except OSError:
        return [], True


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None

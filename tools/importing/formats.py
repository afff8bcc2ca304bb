"""Formats by name. Another one is a module with `read(path, asked) -> list of shards`, and a line
here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from pretrain.errors import UserError
from tools.importing.source import Asked, Shard

FORMATS = {
    "megatron": "tools.importing.megatron",
    "nanogpt": "tools.importing.nanogpt",
    "llm.c": "tools.importing.llm_c",
    "datatrove": "tools.importing.datatrove",
    "olmo": "tools.importing.olmo",
    "litdata": "tools.importing.litdata",
    "mds": "tools.importing.mds",
    "arrow": "tools.importing.arrow",
    "parquet": "tools.importing.parquet",
}
ENDINGS = {
    ".idx": "megatron",
    ".ds": "datatrove",
    ".npy": "olmo",
    ".arrow": "arrow",
    ".parquet": "parquet",
}
"""Names' endings that tell the format."""


def format_of(path: Path, given: str | None) -> str:
    """The name of a file's format.

    Raises:
        UserError: it is not given, and the file's name does not tell it.
    """
    name = given or ENDINGS.get(path.suffix)
    if name is None:
        raise UserError(
            f"{path}: the name does not tell the format; give --format, one of {', '.join(FORMATS)}"
        )
    return name


def reader_of(name: str) -> Callable[[Path, Asked], list[Shard]]:
    """Reads a path of this format."""
    read: Callable[[Path, Asked], list[Shard]] = import_module(FORMATS[name]).read
    return read

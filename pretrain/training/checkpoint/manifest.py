"""What a checkpoint says of itself, and whether its files are what was written.

A checkpoint is a folder `step-00001000` with one safetensors file per rank and `manifest.json`. It
is complete when the manifest is there: that is written last, once every rank has said so, and names
every file with its size and checksum.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pretrain.errors import UserError
from pretrain.files import checksum, json_text
from pretrain.run_files import MANIFEST

FORMAT = 2
READ = (1, 2)
"""Formats that are read. 1 knows neither run nor parent."""
_NAME = re.compile(r"^step-(\d{8,})$")
_FILE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")


class CheckpointError(UserError):
    """A checkpoint is incomplete, damaged or of another run; the message names the file."""


@dataclass(frozen=True)
class File:
    """A file of a checkpoint: bytes and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Ancestor:
    """An earlier checkpoint: its run's identity, its steps, the SHA-256 of its manifest."""

    run: str
    step: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds.

    Attributes:
        step: steps done.
        tokens: input positions trained so far.
        updates: optimizer updates done; fewer than steps where some were skipped.
        layout: the topology in words.
        fingerprint: of the selection at that step.
        config: resolved configuration of the run.
        state: small things that have to go on, such as the scale of the loss.
        files: by name in the folder.
        finished: time of writing, ISO 8601.
        run: identity of the run, drawn when it began; empty in format 1.
        parent: the checkpoint that training went on from or past before; None for the first.
        origin: the checkpoint of another run that this one began with; None for the start at 0.
    """

    step: int
    tokens: int
    updates: int
    layout: str
    fingerprint: str
    config: dict[str, Any]
    finished: str
    state: dict[str, Any] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    run: str = ""
    parent: Ancestor | None = None
    origin: Ancestor | None = None
    format: int = FORMAT

    @property
    def rank_files(self) -> list[str]:
        """Files that hold the ranks' pieces; those of the selector's table lie in a folder."""
        return sorted(name for name in self.files if "/" not in name)

    @property
    def has_table(self) -> bool:
        """Whether the selector's table is in it."""
        return len(self.rank_files) < len(self.files)

    def to_json(self) -> str:
        """JSON, readable by people too."""
        return json_text(asdict(self), indent=1) + "\n"


def folder_name(step: int) -> str:
    """Name of the checkpoint after `step` steps."""
    return f"step-{step:08d}"


def step_of(folder: Path) -> int | None:
    """Steps of a checkpoint's folder; None for another folder."""
    match = _NAME.match(folder.name)
    return int(match[1]) if match else None


def newest_first(directory: Path) -> Iterator[Path]:
    """Folders of checkpoints, complete or not, the latest step first.

    All are of one line: what a run leaves behind when it goes back gets another name
    (:mod:`pretrain.training.checkpoint.lineage`).

    Raises:
        CheckpointError: the folder is there and cannot be looked into.
    """
    try:
        found = [path for path in directory.iterdir() if step_of(path) is not None]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise CheckpointError(f"{directory}: {error.strerror or error}") from error
    yield from sorted(found, key=lambda path: step_of(path) or 0, reverse=True)


def complete(directory: Path) -> Iterator[Path]:
    """Folders of checkpoints that have their manifest, the latest step first."""
    return (path for path in newest_first(directory) if os.path.exists(path / MANIFEST))


def saved_step(directory: Path) -> int:
    """Steps of the newest complete checkpoint; 0 without any."""
    return next((step_of(path) or 0 for path in complete(directory)), 0)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint.

    Raises:
        CheckpointError: it is missing, not JSON, of another format, or names files elsewhere.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: incomplete, it has no {MANIFEST}, which is written last"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    try:
        if values.get("format") not in READ:
            raise CheckpointError(
                f"{path}: format {values.get('format')!r}, this version reads {READ[0]} and "
                f"{READ[1]}"
            )
        files = {name: File(**entry) for name, entry in values.pop("files").items()}
        earlier = {
            name: Ancestor(**values.pop(name))
            for name in ("parent", "origin")
            if values.get(name) is not None
        }
        manifest = Manifest(files=files, **{**values, **earlier})
    except (TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{path}: is not a checkpoint's manifest: {error}") from error
    for name in manifest.files:
        if not _FILE.match(name):
            raise CheckpointError(f"{path}: names {name!r}, which is not a file of its folder")
    return manifest


def check_files(folder: Path, manifest: Manifest, checksums: bool = True) -> None:
    """Whether every file is there as it was written.

    Args:
        checksums: read them all, too.

    Raises:
        CheckpointError: the first that is missing, a link, of another size, or changed.
    """
    for name, expected in manifest.files.items():
        check_file(folder / name, expected, checksums)


def check_file(path: Path, expected: File, checksums: bool = True) -> None:
    """Whether one file is there as it was written. Raises CheckpointError otherwise."""
    if path.is_symlink() or path.parent.is_symlink():
        raise CheckpointError(f"{path}: is a link; a checkpoint's files are plain files")
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            raise CheckpointError(f"{path}: {size:,} bytes, {expected.bytes:,} were written")
        if checksums and checksum(path) != expected.sha256:
            raise CheckpointError(f"{path}: its content is not what was written (checksum differs)")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error


def file_of(path: Path) -> File:
    """What is to be said of a file that was just written.

    Raises:
        OSError: it cannot be read.
    """
    return File(path.stat().st_size, checksum(path))


def sync(path: Path) -> None:
    """Have the system write a file or a folder's entries through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

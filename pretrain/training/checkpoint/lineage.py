"""The line of a run: which checkpoint came from which, and what is no longer on it.

Folders named `step-N` are one line: each went on from the one before it. When a run goes back to
one of them, those after it are of a stretch that is given up. They are set aside, by another name,
before training goes on: so whoever looks for the newest, here, in a shell or by eye, finds the
newest of the line, and only the line is thinned out.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from pretrain.errors import UserError
from pretrain.files import checksum
from pretrain.run_files import CHECKPOINTS, MANIFEST
from pretrain.training.checkpoint.manifest import (
    Ancestor,
    CheckpointError,
    Manifest,
    folder_name,
    newest_first,
    step_of,
)

ABANDONED, PASSED_OVER = "abandoned", "passed"
"""Why a checkpoint was set aside: the run went back, by its user's or by its own decision."""
_ASIDE = re.compile(rf"^step-(\d{{8,}})\.({ABANDONED}|{PASSED_OVER})(-\d+)?$")


def new_identity() -> str:
    """Of a run that begins."""
    return secrets.token_hex(8)


def ancestor(folder: Path, manifest: Manifest) -> Ancestor:
    """How later checkpoints name this one.

    Raises:
        OSError: its manifest cannot be read.
    """
    return Ancestor(manifest.run, manifest.step, checksum(folder / MANIFEST))


def set_aside_step(folder: Path) -> int | None:
    """Steps of a checkpoint that was set aside; None for another folder."""
    match = _ASIDE.match(folder.name)
    return int(match[1]) if match else None


def place_of(path: Path) -> tuple[Path, bool]:
    """What a path names: a checkpoint; or, and then True, the folder of a run's checkpoints.

    Raises:
        CheckpointError: neither.
    """
    is_one = step_of(path) is not None or set_aside_step(path) is not None
    if is_one or os.path.exists(path / MANIFEST):
        return path, False
    for folder in (path / CHECKPOINTS, path):
        if next(newest_first(folder), None) is not None:
            return folder, True
    found = "holds no complete checkpoint" if os.path.exists(path) else "is not there"
    raise CheckpointError(
        f"{path}: {found}; name a run's folder, or a checkpoint's such as {folder_name(1000)}"
    )


def set_aside(directory: Path, after: int, why: str) -> list[Path]:
    """Give checkpoints of more than `after` steps another name, the latest first: wherever that is
    interrupted, what is left is a line.

    Args:
        why: ABANDONED or PASSED_OVER.

    Returns:
        Their new names, the latest first.

    Raises:
        OSError: one cannot be renamed.
    """
    moved = []
    for folder in newest_first(directory):
        if (step_of(folder) or 0) > after:
            moved.append(_free_name(folder, why))
            os.rename(folder, moved[-1])
    return moved


def put_back(folder: Path) -> Path:
    """Give a checkpoint that was set aside its own name again, and no other checkpoint of the run:
    they are of another line.

    Returns:
        The folder by its new name.

    Raises:
        OSError: one cannot be renamed.
    """
    step = set_aside_step(folder)
    assert step is not None
    set_aside(folder.parent, -1, ABANDONED)
    target = folder.with_name(folder_name(step))
    os.rename(folder, target)
    return target


def _free_name(folder: Path, why: str) -> Path:
    name = folder.with_name(f"{folder.name}.{why}")
    number = 2
    while name.exists():
        name = folder.with_name(f"{folder.name}.{why}-{number}")
        number += 1
    return name


def check_descent(own: Manifest, folder: Path, named: Manifest, source: Path) -> None:
    """Refuse to go on with a folder's own checkpoints where another run's is asked for that they
    do not come from. Where a manifest of format 1 leaves that open, it is let be.

    Args:
        own, folder: the newest of the folder.
        named, source: what is asked for.

    Raises:
        UserError: names both.
    """
    if not own.run or not named.run:
        return
    if own.origin is None or own.origin.run != named.run:
        raise UserError(
            f"checkpoint.resume {source}: the run's folder has checkpoints of its own, which did "
            f"not begin with it ({folder}); choose another run.directory, or leave "
            "checkpoint.resume out to go on with them"
        )


def told_aside(moved: Sequence[Path]) -> str:
    """For people: what was set aside; empty if nothing was."""
    if not moved:
        return ""
    names = ", ".join(folder.name for folder in moved)
    return f"set aside in {moved[0].parent}: {names}; remove them once they are of no more use"

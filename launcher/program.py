"""A copy of the program in a run's folder, so that a job that waits in the queue, or is put back
into it, runs what was submitted, whatever becomes of the checkout meanwhile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tools.comparison.commit import WRITTEN, commit

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("pretrain", "launcher", "tools")
PROGRAM = "program"
"""Its folder below that of a job's scripts."""


def program_of(folder: Path, dry_run: bool) -> Path:
    """The program of a job whose scripts lie in `folder`: the copy there; for a script that is only
    shown, the program itself."""
    return ROOT if dry_run else folder / PROGRAM


def copy_program(folder: Path) -> Path:
    """Put the program as it is now into `folder`/program, in place of an older copy.

    Compiled kernels come along; where the checkout's commit is known, a file COMMIT says it.
    """
    target = folder / PROGRAM
    beside = folder / f".{PROGRAM}.{os.getpid()}.partial"
    shutil.rmtree(beside, ignore_errors=True)
    leave = shutil.ignore_patterns("*.pyc*", "*.tmp*", ".*")
    try:
        for part in PARTS:
            shutil.copytree(ROOT / part, beside / part, ignore=leave)
        (beside / WRITTEN).write_text(commit() + "\n", encoding="utf-8")
        old = folder / f".{PROGRAM}.{os.getpid()}.old"
        if target.exists():
            target.rename(old)
        beside.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target

"""Functions that numba compiles, kept from one process to the next wherever there is a place."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


def compiled(function: Callable[..., Any]) -> Any:
    """`function`, compiled at its first call; it holds no lock of the interpreter while it runs.

    What was compiled is kept where numba keeps it: in NUMBA_CACHE_DIR, beside the program, or in
    the user's folder for caches. Where none of them can be written (an image, a module of a
    cluster), it is kept in a temporary folder of the user; where there is none either, each process
    compiles for itself.
    """
    dispatcher: Any = numba.njit(nogil=True, boundscheck=False)(function)
    kept = _kept(function) or (_kept(function) if _use_temporary_folder() else None)
    if kept is not None:
        dispatcher._cache = kept
    return dispatcher


class _Kept(FunctionCache):
    """Numba's cache of a function. A disk that is full, or another user's file that cannot be read,
    costs the time to compile, not the run."""

    def load_overload(self, *arguments: Any) -> Any:
        with suppress(OSError):
            return super().load_overload(*arguments)
        return None

    def save_overload(self, *arguments: Any) -> None:
        with suppress(OSError):
            super().save_overload(*arguments)


def _kept(function: Callable[..., Any]) -> FunctionCache | None:
    """Its cache; None where numba finds no folder that it can write."""
    try:
        return _Kept(function)
    except RuntimeError:
        return None


@cache
def _use_temporary_folder() -> bool:
    """Make numba keep what it compiles in a temporary folder, if there is one that nobody but this
    user can write: what lies there is run."""
    try:
        folder = Path(tempfile.gettempdir()) / f"mifirst-{os.getuid()}" / "numba"
        made = not folder.exists()
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        owned = folder.parent.lstat()
        if not stat.S_ISDIR(owned.st_mode) or owned.st_uid != os.getuid() or owned.st_mode & 0o077:
            return False
        folder.mkdir(exist_ok=True)
    except OSError:  # no temporary folder either
        return False
    settings: Any = numba.config
    settings.CACHE_DIR = str(folder)
    if made:  # once for all processes of a machine
        print(
            f"neither the program's folder nor ~/.cache can be written: compiled code is kept in "
            f"{folder} (NUMBA_CACHE_DIR names another folder)",
            file=sys.stderr,
        )
    return True

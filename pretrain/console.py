"""How a program of this project ends, and what it prints where the terminal takes no more than
ASCII."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Callable
from typing import NoReturn

PLAIN = {
    "±": "+-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "−": "-", "→": "->",
    "×": "x", "█": "#", "▏": "|", "¶": "",
}  # fmt: skip
"""Characters that the programs print themselves, in ASCII; others become escapes."""


def run_program(main: Callable[[], int]) -> NoReturn:
    """Call a program's `main` and end with its exit code; its output takes all that it prints."""
    take_all_characters()
    sys.exit(main())


def take_all_characters() -> None:
    """Let stdout and stderr write characters that they do not have in others."""
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A handler of encoding errors: characters that an output does not have, written otherwise."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    escaped = "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in found)
    return escaped, error.end

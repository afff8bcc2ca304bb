"""Paths as people write them."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

VARIABLE = re.compile(r"\$([A-Z_][A-Z0-9_]*\b|\{[A-Z_][A-Z0-9_]*\})")
"""Of the environment, in capitals; other names may have a dollar."""


def written_out(text: str) -> str:
    """A path whose `~` or `~user` is written out, as a shell does where it sees one.

    Raises:
        ValueError: there is no such user, or the path holds a variable of the shell, and nothing
            is there under the name as it stands.
    """
    path = os.path.expanduser(text)
    if path.startswith("~"):
        user = path[1:].partition("/")[0]
        whose = f"the user {user}" if user else "this user, and HOME is not set"
        raise ValueError(
            f"no home folder is known of {whose}; write the path out, or ./{text} for a name that "
            "begins so"
        )
    if (variable := VARIABLE.search(path)) and not os.path.lexists(path):
        raise ValueError(
            f"the variable {variable.group()} is not replaced here, and nothing of that name is "
            "there; write the path out"
        )
    return path


def path_argument(text: str) -> Path:
    """A path from the command line, for argparse's `type`.

    Raises:
        argparse.ArgumentTypeError: as :func:`written_out`.
    """
    try:
        return Path(written_out(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None

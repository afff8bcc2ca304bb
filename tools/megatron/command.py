"""The flags of a Megatron-LM command line, from arguments or from the text of a script.

A script is read, and not run: names that it assigns are put in, from top to bottom, and every flag
counts wherever it stands; of one that stands twice, the last. What only running it would tell
stays as it is written, with its dollar.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final

ASSIGNED: Final = re.compile(r"^\s*(?:export\s+|local\s+)?([A-Za-z_]\w*)=(?!\()(\S.*)?$")
USED: Final = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|([A-Za-z_]\w*))")
FLAG: Final = re.compile(r"--[A-Za-z][\w-]*")


def flags_of(words: Iterable[str]) -> dict[str, list[str]]:
    """Each flag's values, in the order of the flags; `--flag=value` is two words."""
    found: dict[str, list[str]] = {}
    name = None
    for word in words:
        head, equals, value = word.partition("=")
        if FLAG.fullmatch(head):
            name = head.replace("_", "-")
            found.pop(name, None)
            found[name] = [value] if equals else []
        elif name is not None and word not in ("\\", ""):
            found[name].append(word)
    return found


def flags_of_arguments(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Of a command line that a shell has split."""
    return flags_of(arguments)


def flags_of_script(text: str) -> dict[str, list[str]]:
    """Of a shell script, or of a file that holds arguments alone."""
    known: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = _split(line)
        assigned = ASSIGNED.match(line)
        if assigned and words and not any(FLAG.match(word) for word in words[1:]):
            value = words[-1].partition("=")[2] if len(words) < 3 else ""
            known[assigned[1]] = _filled(value, known)
            words = []
        # A quoted word may hold a flag and its value; "...[@]" stands for what was read before.
        parts = (_filled(word, known) for word in words if "[@]" not in word)
        spread = [part for word in parts for part in _parts(word)]
        for name, values in flags_of(spread).items():
            found.pop(name, None)
            found[name] = values
    return found


def _split(line: str) -> list[str]:
    """Words of a line without its comment; by spaces where its quotes are not closed."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def _parts(word: str) -> list[str]:
    """A word without the brackets of an array."""
    word = re.sub(r"^\w+\+?=\(", "", word)
    if word.startswith("("):
        word = word[1:]
    if word.endswith(")") and "(" not in word:
        word = word[:-1]
    return word.split() if FLAG.match(word) else [word.strip("'")] if word else []


def _filled(word: str, known: dict[str, str]) -> str:
    """A word with the values of names that are known, or their defaults."""

    def value(match: re.Match[str]) -> str:
        name, default = match[1] or match[3], match[2]
        return known.get(name, match[0] if default is None else default)

    return USED.sub(value, word)

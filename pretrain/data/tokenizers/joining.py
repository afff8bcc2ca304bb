"""Readable text of words. Needs nothing else of this project: exported models carry a copy."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

OPENING = frozenset("([{“‘«¿¡")
JOINING = frozenset("-/")
CLOSING = frozenset(".,;:!?%)]}”»’'…-/")


def join_words(tokens: Iterable[str]) -> str:
    """Readable text of words, digits and signs."""
    text = ""
    before, previous = "", ""  # the last two tokens
    quoted = False
    for token in tokens:
        closes = token == '"' and quoted
        opened = previous in OPENING or (previous == '"' and quoted)
        if text and not opened and not closes and _spaced(before, previous, token):
            text += " "
        if token == '"':
            quoted = not quoted
        text += token
        before, previous = previous, token
    return text


def _spaced(before: str, previous: str, token: str) -> bool:
    """Whether a space stands between two tokens, brackets and quotes aside."""
    if previous in JOINING:
        return False
    if token.isdecimal():
        return not (previous.isdecimal() or (previous in ".,:" and before.isdecimal()))
    return token not in CLOSING and unicodedata.category(token[0])[0] not in "MC"

"""Sentences of a document, by the rules of sentencex (Wikimedia's splitter)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from sentencex import segment

LANGUAGE = "en"
"""Whose abbreviations, such as Mr., end no sentence."""
PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
ODD_SPACE = re.compile(r"[^\S\n]")
"""White space other than line breaks; sentencex 1.0.32 panics at some that takes several bytes."""


def split_sentences(text: str) -> list[str]:
    """Pieces of a document, one per sentence, that join to the document.

    White space belongs to the sentence before it. A blank line ends a sentence, a single line
    break does not, so text may be wrapped.
    """
    cuts = [0, *_beginnings(text), len(text)]
    return [text[a:b] for a, b in pairwise(cuts) if a < b]


def _beginnings(text: str) -> Iterator[int]:
    """Where sentences begin, except for the first."""
    # What the splitter can take, with every place where it was.
    whole = ODD_SPACE.sub(" ", text.encode("utf-8", "replace").decode())
    ends = [*(match.end() for match in PARAGRAPH.finditer(whole)), len(whole)]
    at = 0
    for end in ends:
        if at and at < end:
            yield at
        yield from _within(whole[at:end], at)
        at = end


def _within(paragraph: str, offset: int) -> Iterator[int]:
    """Where the second and later sentences of a paragraph begin, counted from `offset`."""
    # The splitter may drop white space, so its sentences are looked up, not measured.
    at = 0
    for sentence in segment(LANGUAGE, paragraph):
        content = sentence.strip()
        found = paragraph.find(content, at) if content else -1
        if found < 0:
            continue
        if at:
            yield offset + found
        at = found + len(content)

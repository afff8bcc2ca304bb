"""Where documents end: as the files say, by the end token, or every so many tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.errors import UserError
from tools.importing.source import Bounds


def found(after: np.ndarray, tokens: int) -> Bounds:
    """Documents of a stream by its end tokens. What follows the last one is a document, too.

    Args:
        after: [n] token that follows each end token.
        tokens: of the stream.
    """
    ends = after if len(after) and after[-1] == tokens else np.append(after, tokens)
    return Bounds.of_documents(np.diff(ends, prepend=0))


def cut(tokens: int, each: int) -> Bounds:
    """Pieces of `each` tokens, the last one with what is left."""
    ends = np.append(np.arange(each, tokens, each), tokens)
    return Bounds.of_documents(np.diff(ends, prepend=0))


def joined(parts: Sequence[Bounds]) -> Bounds:
    """Of files, one after the other."""
    before = np.cumsum([0, *(len(part.lengths) for part in parts)])
    documents = [part.documents[:-1] + first for part, first in zip(parts, before, strict=False)]
    return Bounds(
        np.concatenate([part.lengths for part in parts]), np.concatenate([*documents, before[-1:]])
    )


def without_empty(bounds: Bounds) -> Bounds:
    """Without sequences and documents of no token."""
    kept = bounds.lengths > 0
    numbers = np.concatenate([[0], np.cumsum(kept)])
    return Bounds(bounds.lengths[kept], np.unique(numbers[bounds.documents]))


def without_blank(bounds: Bounds) -> tuple[int, Bounds]:
    """Without documents of one token, the end: the document before takes it. Returns how many
    tokens stand before the first document, too.

    Raises:
        UserError: nothing else is there.
    """
    firsts = bounds.documents[:-1]
    counts = np.diff(bounds.documents)
    blank = (counts == 1) & (bounds.lengths[np.minimum(firsts, len(bounds.lengths) - 1)] == 1)
    if blank.all():
        raise UserError("no document has a token besides its end; name files with text")
    skipped = int(blank.argmin())
    bounds = Bounds(bounds.lengths[skipped:], bounds.documents[skipped:] - skipped)
    blank, firsts = blank[skipped:], bounds.documents[:-1]
    if not blank.any():
        return skipped, bounds
    ends = np.cumsum(bounds.lengths)
    kept = np.ones(len(ends), dtype=bool)
    kept[firsts[blank] - 1] = False  # the sequence before ends where the blank one does
    numbers = np.concatenate([[0], np.cumsum(kept)])
    documents = numbers[bounds.documents[np.append(~blank, True)]]
    return skipped, Bounds(np.diff(ends[kept], prepend=0), documents)


def not_ended(bounds: Bounds, after: np.ndarray) -> np.ndarray:
    """Numbers of the documents that do not end with the end token; `after` as in :func:`found`."""
    ends = np.concatenate([[0], np.cumsum(bounds.lengths)])[bounds.documents[1:]]
    places = np.searchsorted(after, ends)
    there = np.append(after, -1)[places]
    return np.flatnonzero(there != ends)

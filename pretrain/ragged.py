"""Documents of any length as two flat arrays, and pairs of them: what is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np


def spread(there: int, wanted: int | None) -> np.ndarray:
    """[n] rising int64, `wanted` numbers evenly spread over 0 to there - 1, or all of these if None
    or more than there are."""
    n = there if wanted is None else min(wanted, there)
    return np.arange(n) * there // max(1, n)


@dataclass(frozen=True)
class Documents:
    """Whole numbers below some vocabulary, document after document.

    Attributes:
        tokens: [n] int32.
        offsets: [documents + 1] int64, from 0 to n; document d is tokens[offsets[d]:offsets[d+1]].
    """

    tokens: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", np.ascontiguousarray(self.tokens, dtype=np.int32))
        object.__setattr__(self, "offsets", np.ascontiguousarray(self.offsets, dtype=np.int64))
        if (
            len(self.offsets) == 0
            or self.offsets[0] != 0
            or self.offsets[-1] != len(self.tokens)
            or np.any(np.diff(self.offsets) < 0)
        ):
            raise ValueError(
                f"offsets of {len(self.tokens)} tokens must rise from 0 to {len(self.tokens)}"
            )

    @classmethod
    def of(cls, documents: Sequence[Sequence[int] | np.ndarray]) -> Documents:
        """From one sequence per document."""
        parts = [np.asarray(document, dtype=np.int32) for document in documents]
        tokens = np.concatenate(parts) if parts else np.zeros(0, np.int32)
        return cls(tokens, np.cumsum([0, *map(len, parts)]))

    @classmethod
    def from_rows(cls, rows: np.ndarray) -> Documents:
        """One document per row of [documents, width]."""
        return cls(rows.ravel(), np.arange(len(rows) + 1) * rows.shape[1])

    @classmethod
    def of_slices(cls, tokens: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> Documents:
        """tokens[begins[i]:ends[i]] for every i; slices may overlap."""
        lengths = ends - begins
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], lengths)
        return cls(tokens[places], offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """[documents] tokens of each."""
        return np.diff(self.offsets)

    def between(self, first: int, last: int) -> Documents:
        """Documents first to last - 1."""
        start, stop = self.offsets[first], self.offsets[last]
        return Documents(self.tokens[start:stop], self.offsets[first : last + 1] - start)

    def take(self, numbers: np.ndarray) -> Documents:
        """The documents of these numbers, in their order."""
        return Documents.of_slices(self.tokens, self.offsets[numbers], self.offsets[numbers + 1])

    def cut_off(self, longest: int) -> Documents:
        """The first `longest` tokens of each."""
        if self.lengths.max(initial=0) <= longest:
            return self
        begins = self.offsets[:-1]
        return Documents.of_slices(
            self.tokens, begins, np.minimum(begins + longest, self.offsets[1:])
        )

    def share(self, rank: int, ranks: int) -> Documents:
        """The rank-th of `ranks` runs of whole documents, of about as many tokens each."""
        cuts = np.searchsorted(self.offsets, np.arange(ranks + 1) * len(self.tokens) / ranks)
        cuts[0], cuts[-1] = 0, len(self)
        return self.between(int(cuts[rank]), int(cuts[rank + 1]))

    def check(self, vocabulary: int, name: str) -> None:
        """Check that every token is in [0, vocabulary).

        Raises:
            ValueError: names what was found.
        """
        if len(self.tokens) and not 0 <= self.tokens.min() <= self.tokens.max() < vocabulary:
            raise ValueError(
                f"{name} holds values from {self.tokens.min()} to {self.tokens.max()}, expected 0 "
                f"to {vocabulary - 1}"
            )


def concatenate(parts: Sequence[Documents]) -> Documents:
    """All documents of `parts`, in order."""
    tokens = np.concatenate([part.tokens for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    return Documents(tokens, np.concatenate([[0], np.cumsum(lengths)]))


@dataclass(frozen=True)
class Examples:
    """Sources and targets of the same documents.

    Attributes:
        source: features of each document.
        target: units of each document; None where they are the source's own tokens.
    """

    source: Documents
    target: Documents | None = None

    def __post_init__(self) -> None:
        if self.target is not None and len(self.target) != len(self.source):
            raise ValueError(f"{len(self.source)} sources but {len(self.target)} targets")

    def __len__(self) -> int:
        return len(self.source)

    @property
    def tokens(self) -> int:
        """Tokens of sources and targets."""
        return len(self.source.tokens) + (0 if self.target is None else len(self.target.tokens))

    def between(self, first: int, last: int) -> Examples:
        """Examples first to last - 1."""
        target = None if self.target is None else self.target.between(first, last)
        return Examples(self.source.between(first, last), target)

    def chunks(self, tokens: int) -> Iterator[Examples]:
        """Runs of whole examples of at most `tokens` tokens each; a longer one stands alone."""
        ends = self.source.offsets if self.target is None else (
            self.source.offsets + self.target.offsets
        )  # fmt: skip
        first = 0
        while first < len(self):
            last = int(np.searchsorted(ends, ends[first] + tokens, side="right")) - 1
            last = min(max(last, first + 1), len(self))
            yield self.between(first, last)
            first = last


Stream = Callable[[], Iterable[Examples]]
"""Called for each pass over this rank's examples; yields them a chunk at a time."""


def stream_of(examples: Examples, chunk_tokens: int) -> Stream:
    """A stream over examples in memory."""
    return lambda: examples.chunks(chunk_tokens)

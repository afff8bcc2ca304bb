"""Tokenized examples of fixed widths, whose targets are made of units."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from pretrain.data.tokenizers import Tokenizer
from pretrain.errors import ConfigError
from pretrain.ragged import spread


@dataclass(frozen=True)
class Examples:
    """Tokenized examples of fixed widths.

    Attributes:
        source: [n, S] int64 token ids of the sources.
        target: [n, U] int64 token ids of the targets, natural order.
        feature_columns: columns of `source` that carry information.
        presence: [n, W] int64, 0 or 1: further features, as which words a source has.
    """

    source: np.ndarray
    target: np.ndarray
    feature_columns: tuple[int, ...]
    presence: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source)

    @property
    def features(self) -> np.ndarray:
        """[n, J] what the selector counts: columns of the source, and what else is known of it."""
        columns = self.source[:, list(self.feature_columns)]
        return columns if self.presence is None else np.hstack([columns, self.presence])

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of all tokens."""
        digest = hashlib.sha256(str((self.source.shape, self.target.shape)).encode())
        parts = (self.source, self.target, self.presence)
        for tokens in (part for part in parts if part is not None):
            digest.update(np.ascontiguousarray(tokens, dtype=np.int64).tobytes())
        return digest.hexdigest()

    def shard(self, rank: int, ranks: int) -> Examples:
        """Every `ranks`-th example, from `rank` on."""
        return self.take(slice(rank, None, ranks))

    def spread(self, n: int | None) -> Examples:
        """n examples, evenly spread over all of them; all if None."""
        return self.take(spread(len(self), n))

    def take(self, rows: slice | np.ndarray) -> Examples:
        """The examples of these rows, in their order."""
        presence = None if self.presence is None else self.presence[rows]
        return Examples(self.source[rows], self.target[rows], self.feature_columns, presence)


class Dataset(Protocol):
    """Examples of one kind, a share of them held out."""

    unit_names: tuple[str, ...]
    whole: bool
    """Whether both sides together are all examples that there can be."""
    train: Examples
    test: Examples

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to token ids and back."""
        ...

    @property
    def values(self) -> int:
        """Token ids of features and units are below this."""
        ...

    def every(self) -> Examples:
        """All examples that there can be, of both sides."""
        ...


def sequence_length(dataset: Dataset) -> int:
    """Input positions that an example takes."""
    return dataset.train.source.shape[1] + dataset.train.target.shape[1] - 1


def check_length(dataset: Dataset, available: int) -> None:
    """Check that an example fits the model's sequence.

    Raises:
        ConfigError: it does not.
    """
    needed = sequence_length(dataset)
    if available < needed:
        raise ConfigError(
            f"model.sequence_length {available} is too short for the task's {needed} positions; "
            f"set it to {needed} or more"
        )


def assemble(
    source: np.ndarray, target: np.ndarray, length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, labels and loss mask, each [n, length], of sources followed by targets.

    The label of a position is the token after it; only tokens of the target count in the loss.

    Args:
        source: [n, S].
        target: [n, U], in the order in which it is to be predicted.
        length: positions of the model.
        pad_id: fills the rest.
    """
    n, width = len(source), source.shape[1] + target.shape[1]
    row = np.full((n, max(length + 1, width)), pad_id, dtype=np.int64)
    row[:, : source.shape[1]] = source
    row[:, source.shape[1] : width] = target
    mask = np.zeros((n, length), dtype=np.float32)
    mask[:, source.shape[1] - 1 : width - 1] = 1.0
    return row[:, :length], row[:, 1 : length + 1], mask

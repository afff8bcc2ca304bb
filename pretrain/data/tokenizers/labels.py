"""Text whose labels are tokens of their own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from pretrain.data.tokenizers.base import Tokenizer, digest


class LabelTokenizer:
    """A tokenizer of text with one more token per label, numbered after all of its own.

    Args:
        text: of the texts.
        names: of the labels, in the order of their numbers.
    """

    def __init__(self, text: Tokenizer, names: Sequence[str]) -> None:
        self.text = text
        self.names = tuple(names)

    @property
    def size(self) -> int:
        """Number of ids, special tokens and labels included."""
        return self.text.size + len(self.names)

    @property
    def pad_id(self) -> int:
        """Id of padding."""
        return self.text.pad_id

    @property
    def unknown_id(self) -> int | None:
        """Id of text outside the vocabulary; None where every text is inside."""
        return self.text.unknown_id

    @property
    def lossless(self) -> bool:
        """As of the texts' tokenizer."""
        return self.text.lossless

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that decides ids."""
        return digest("labels", self.names, self.text.fingerprint)

    def special(self, name: str) -> int:
        """Id of a special token.

        Raises:
            KeyError: there is none of this name.
        """
        return self.text.special(name)

    def encode(self, text: str) -> np.ndarray:
        """[tokens] int64 of text; never the id of a label."""
        return self.text.encode(text)

    def decode(self, ids: Sequence[int] | np.ndarray, specials: bool = False) -> str:
        """Text of token ids, labels by name with commas between them."""
        parts = []
        for is_label, run in groupby(map(int, ids), self._is_label):
            if is_label:
                parts.append(", ".join(self.names[index - self.text.size] for index in run))
            else:
                parts.append(self.text.decode(list(run), specials))
        return " ".join(filter(None, parts))

    def _is_label(self, index: int) -> bool:
        return self.text.size <= index < self.size

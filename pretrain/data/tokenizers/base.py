"""What every tokenizer offers, and the special tokens."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

PAD = "<pad>"
UNKNOWN = "<unk>"
PROBES = ("0123456789", "  two  spaces ", "\t\r\n", "ﬁ①é\u0301", "👩\u200d🚀", "word")
"""Texts that come back changed from tokenizers that change text."""
SPECIALS = (PAD, "<end>", "<plan>", "</plan>", "<blank>")
"""Special tokens of every tokenizer of text; <unk> follows where text can be unknown."""


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def size(self) -> int:
        """Number of ids, special tokens included."""

    @property
    def pad_id(self) -> int:
        """Id of padding."""

    @property
    def unknown_id(self) -> int | None:
        """Id that stands for text outside the vocabulary; None where there is no such text."""

    @property
    def lossless(self) -> bool:
        """Whether every text without unknown parts comes back from its ids unchanged."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over everything that decides ids."""

    def special(self, name: str) -> int:
        """Id of a special token, such as `<plan>`.

        Raises:
            KeyError: the tokenizer has no special token of this name.
        """

    def encode(self, text: str) -> np.ndarray:
        """[tokens] int64; never the id of a special token other than `<unk>`."""

    def decode(self, ids: Sequence[int] | np.ndarray, specials: bool = False) -> str:
        """Text of token ids. Special tokens are shown by name if `specials`.

        Ids that stand for nothing, which a padded embedding can yield, are shown as `?`.
        """


class TextTokenizer(ABC):
    """A tokenizer whose ids below `text_ids` are text, with the special tokens after them.

    Args:
        text_ids: number of ids of text.
        specials: names of the special tokens, in the order of their ids.
    """

    separator = ""
    """Stands between text and a special token that is shown."""

    def __init__(self, text_ids: int, specials: Sequence[str]) -> None:
        self.text_ids = text_ids
        self.specials = tuple(specials)

    @property
    def size(self) -> int:
        """Number of ids, special tokens included."""
        return self.text_ids + len(self.specials)

    @property
    def pad_id(self) -> int:
        """Id of padding."""
        return self.special(PAD)

    @property
    def unknown_id(self) -> int | None:
        """Id of text outside the vocabulary; None where every text is inside."""
        return self.special(UNKNOWN) if UNKNOWN in self.specials else None

    @property
    def lossless(self) -> bool:
        """Whether every text without unknown parts comes back from its ids unchanged."""
        return True

    def special(self, name: str) -> int:
        """Id of a special token.

        Raises:
            KeyError: there is none of this name.
        """
        if name not in self.specials:
            raise KeyError(f"no special token {name!r}; there are {', '.join(self.specials)}")
        return self.text_ids + self.specials.index(name)

    def token_id(self, name: str) -> int | None:
        """Id of the token that is written so: a special one, and what kinds of files name besides;
        None if there is none."""
        return self.special(name) if name in self.specials else None

    def decode(self, ids: Sequence[int] | np.ndarray, specials: bool = False) -> str:
        """Text of token ids; special tokens by name if `specials`, otherwise left out."""
        parts: list[str] = []
        run: list[int] = []
        for index in map(int, ids):
            if 0 <= index < self.text_ids:
                run.append(index)
            elif shown := self._shown(index, specials):
                parts += [self._text(run, specials), shown]
                run = []
        parts.append(self._text(run, specials))
        return self.separator.join(filter(None, parts))

    def _shown(self, index: int, specials: bool) -> str:
        """What an id that is no text is decoded to."""
        if not self.text_ids <= index < self.size:
            return "?"
        return self.specials[index - self.text_ids] if specials else ""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over everything that decides ids."""

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """[tokens] int64."""

    @abstractmethod
    def content(self) -> bytes:
        """What the tokenizer's file holds."""

    @abstractmethod
    def _text(self, ids: list[int], specials: bool) -> str:
        """Text of ids that are all text."""


def digest(kind: str, specials: Sequence[str], content: Any) -> str:
    """SHA-256 over a tokenizer's kind, special tokens and content (JSON values)."""
    values = {"kind": kind, "specials": list(specials), "content": content}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

"""Tokenizers with a list of tokens: characters, and words."""

from __future__ import annotations

import json
import re
import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import ClassVar, Self

import numpy as np

from pretrain.data.tokenizers.base import SPECIALS, UNKNOWN, TextTokenizer, digest
from pretrain.data.tokenizers.joining import join_words

FORMAT = 1
"""Of the file, and of the rule that cuts text into words."""


class ListTokenizer(TextTokenizer):
    """Tokens are those of a list, in the order of their ids; others are `<unk>`.

    Args:
        tokens: distinct.

    Raises:
        ValueError: a token is there twice, or text is never cut into it.
    """

    kind: ClassVar[str]

    def __init__(self, tokens: Sequence[str]) -> None:
        super().__init__(len(tokens), (*SPECIALS, UNKNOWN))
        self.tokens = tuple(tokens)
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) < len(self.tokens):
            twice = [token for token, n in Counter(self.tokens).items() if n > 1]
            raise ValueError(
                f"the vocabulary has {_few(twice)} more than once; every token must be there once"
            )
        odd = [token for token in self.tokens if self.split(token) != [token]]
        if odd:
            raise ValueError(
                f"the vocabulary of {self.kind} has {_few(odd)}, which text is never cut into; "
                "train the tokenizer again"
            )

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], size: int) -> Self:
        """The most frequent tokens, in that order (ties by code point), up to `size` ids.

        Raises:
            ValueError: there is no room for a token beside the special ones.
        """
        room = size - len(SPECIALS) - 1
        if room < 1:
            raise ValueError(
                f"size {size} has no room beside {len(SPECIALS) + 1} special tokens; "
                f"use {len(SPECIALS) + 2} or more"
            )
        return cls(sorted(counts, key=lambda token: (-counts[token], token))[:room])

    @staticmethod
    @abstractmethod
    def split(text: str) -> list[str]:
        """Text as tokens, known or not."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over kind, format, tokens and special tokens."""
        return digest(self.kind, self.specials, [FORMAT, *self.tokens])

    def encode(self, text: str) -> np.ndarray:
        """[tokens] int64; `<unk>` for what is not in the vocabulary."""
        unknown = self.special(UNKNOWN)
        ids = [self._ids.get(token, unknown) for token in self.split(text)]
        return np.array(ids, dtype=np.int64)

    def content(self) -> bytes:
        """JSON of kind, format and tokens."""
        values = {"kind": self.kind, "format": FORMAT, "tokens": self.tokens}
        return (json.dumps(values, indent=0) + "\n").encode()


class CharacterTokenizer(ListTokenizer):
    """One token per character (code point) of a vocabulary."""

    kind = "characters"

    @staticmethod
    def split(text: str) -> list[str]:
        """Characters."""
        return list(text)

    def _text(self, ids: list[int], specials: bool) -> str:
        return "".join(self.tokens[i] for i in ids)


class WordTokenizer(ListTokenizer):
    """One token per word, digit or sign.

    White space is not kept: decoding puts one space between words, none before closing
    punctuation, none after an opening bracket, none around hyphens and slashes and none between
    digits (`12 3` comes back as `123`). `"` opens and closes in turn.
    """

    kind = "words"
    separator = " "
    lossless = False  # white space is gone

    @staticmethod
    def split(text: str) -> list[str]:
        """Words, digits and signs."""
        return split_words(text)

    def _text(self, ids: list[int], specials: bool) -> str:
        return join_words(self.tokens[i] for i in ids)


def split_words(text: str) -> list[str]:
    """Words, single digits and single signs; white space goes."""
    return _word().findall(text)


@cache
def _word() -> re.Pattern[str]:
    """One digit, a word (its marks and inner apostrophes belong to it), or one sign."""
    every = map(chr, (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)))
    marks = "".join(c for c in every if unicodedata.category(c)[0] == "M")
    word = rf"[^\W\d]+(?:[{marks}]+[^\W\d]*)*"
    return re.compile(rf"\d|{word}(?:['’]{word})*|[^\w\s]")


def _few(tokens: Sequence[str]) -> str:
    """The first few tokens, as a message shows them."""
    more = f" and {len(tokens) - 3} more" if len(tokens) > 3 else ""
    return ", ".join(map(repr, tokens[:3])) + more

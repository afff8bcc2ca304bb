"""A `tokenizer.json` file of Hugging Face, through the package `tokenizers`."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from pretrain.data.tokenizers.base import PROBES, SPECIALS, TextTokenizer, digest
from pretrain.errors import UserError

NUMBERS = ("0123456789", *(f"{i:02d}" for i in range(100)), *(f"{i:03d}" for i in range(1000)))

BEFORE = (" ", "a", "-", ".", "+", ",", "$", "(")
OWN_PROBES = 100
"""Tokens of a file of which texts are made that should come back."""
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A token of byte fallback, which names its byte in hexadecimal."""


class HuggingFaceTokenizer(TextTokenizer):
    """The tokens of a `tokenizer.json`, with our special tokens after them.

    The file's own special tokens are not looked for in text and are not put around it; its
    truncation and padding are switched off. Whether text comes back unchanged is up to the file.

    Args:
        text: what the file holds.
        any_digits: its tokens may join digits.

    Raises:
        UserError: the package `tokenizers` is not installed.
        ValueError: the file is no such tokenizer, or joins digits.
    """

    def __init__(self, text: str, any_digits: bool = False) -> None:
        self.text = text
        self._values = json.loads(text)
        self._tokenizer = _tokenizer(text)
        super().__init__(max(self._tokenizer.get_vocab().values(), default=-1) + 1, SPECIALS)
        if not any_digits:
            self._check_digits()

    def token_id(self, name: str) -> int | None:
        """Id of a token of the file, or of ours; None if there is none of this name."""
        found: int | None = self._tokenizer.token_to_id(name)
        return super().token_id(name) if found is None else found

    @property
    def unknown_id(self) -> int | None:
        """Id of the file's unknown token, None if it has none."""
        token = getattr(self._tokenizer.model, "unk_token", None)
        if token is None:
            return self._values["model"].get("unk_id")
        return self._tokenizer.token_to_id(token)

    @cached_property
    def lossless(self) -> bool:
        """As far as it can be seen: whether what it knows of `PROBES`, and of texts of its own
        tokens in capitals and with white space around them, comes back, each put together from
        two parts as documents are from sentences."""
        step = -(-max(1, self.text_ids) // OWN_PROBES)
        own = (self.decode([number]) for number in range(0, self.text_ids, step))
        probes = [*PROBES, *(f"  {token}\n{token.upper()}{token} " for token in own if token)]
        known = False
        for text in probes:
            ids = np.concatenate([self.encode(half) for half in _halves(text)])
            if self.unknown_id is None or self.unknown_id not in ids:
                if self.decode(ids) != text:
                    return False
                known = True
        return known

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the file's values and the special tokens."""
        return digest("hugging_face", self.specials, self._values)

    def encode(self, text: str) -> np.ndarray:
        """[tokens] int64."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, dtype=np.int64)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """[tokens] int64 of each text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def content(self) -> bytes:
        """The file as it was."""
        return self.text.encode()

    def _text(self, ids: list[int], specials: bool) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=not specials) if ids else ""

    def _check_digits(self) -> None:
        """Numbers are tried alone and behind what may be joined to them, and every token of the
        vocabulary that joins digits, of any script, as it stands there, such as ' 2024'."""
        joined = self._joined_digits(self._tokenizer.get_vocab(with_added_tokens=True))
        own = self._tokenizer.get_vocab(with_added_tokens=False).values()
        tried = [*NUMBERS, *(before + n for before in BEFORE for n in NUMBERS[:110])]
        tried += [joined[number] for number in own if number in joined]
        encodings = self._tokenizer.encode_batch(tried, add_special_tokens=False)
        for text, encoding in zip(tried, encodings, strict=True):
            found = [number for number in encoding.ids if number in joined]
            if found:
                longest = max(found, key=lambda number: _digits(joined[number]))
                raise ValueError(
                    f"it encodes {text!r} with the token {self._tokenizer.id_to_token(longest)!r}, "
                    f"which has {_digits(joined[longest])} digits, and digits must be single, as "
                    "what is predicted first is chosen digit by digit; train it with the "
                    "pre-tokenizer Digits(individual_digits=True), or use another file"
                )

    def _joined_digits(self, vocabulary: Mapping[str, int]) -> dict[int, str]:
        """The texts of tokens with more than one digit, by their ids."""
        tokens = {number: token for token, number in vocabulary.items()}
        texts = self._tokenizer.decode_batch([[x] for x in tokens], skip_special_tokens=False)
        return {
            number: text
            for number, text in zip(tokens, texts, strict=True)
            if _digits(text) > 1 and not BYTE.fullmatch(tokens[number])
        }


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _digits(token: str) -> int:
    return sum(character.isdecimal() for character in token)


def _tokenizer(text: str) -> Any:
    try:
        package = importlib.import_module("tokenizers")
    except ImportError:
        raise UserError(
            "a tokenizer.json of Hugging Face needs the package tokenizers, which is not "
            "installed; run: pip install tokenizers"
        ) from None
    try:
        tokenizer = package.Tokenizer.from_str(text)
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(
            f"no tokenizer.json that the package tokenizers {package.__version__} reads ({error}); "
            "copy it again, or use a newer package"
        ) from None
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer

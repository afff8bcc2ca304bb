"""A `tokenizer.json` file of Hugging Face, through the package `tokenizers`."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pretrain.data.tokenizers.base import SPECIALS, TextTokenizer, digest
from pretrain.errors import UserError

NUMBERS = ("0123456789", *(f"{i:02d}" for i in range(100)), *(f"{i:03d}" for i in range(1000)))

BEFORE = (" ", "a", "-", ".", "+", ",", "$", "(")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A token of byte fallback, which names its byte in hexadecimal."""


class HuggingFaceTokenizer(TextTokenizer):
    """The tokens of a `tokenizer.json`, with our special tokens after them.

    The file's own special tokens are not looked for in text and are not put around it; its
    truncation and padding are switched off. Whether text comes back unchanged is up to the file.

    Args:
        text: what the file holds.

    Raises:
        UserError: the package `tokenizers` is not installed.
        ValueError: the file is no such tokenizer, or joins digits.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._values = json.loads(text)
        self._tokenizer = _tokenizer(text)
        super().__init__(max(self._tokenizer.get_vocab().values(), default=-1) + 1, SPECIALS)
        self._check_digits()

    @property
    def unknown_id(self) -> int | None:
        """Id of the file's unknown token, None if it has none."""
        token = getattr(self._tokenizer.model, "unk_token", None)
        if token is None:
            return self._values["model"].get("unk_id")
        return self._tokenizer.token_to_id(token)

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
        """Numbers are tried alone and behind what may be joined to them."""
        # Tokens of the vocabulary that join digits, as text: ' 2024' is tried as it stands there.
        joined = (
            self._tokenizer.decode([number], skip_special_tokens=False)
            for token, number in self._tokenizer.get_vocab(with_added_tokens=False).items()
            if _digits(token) > 1 and not BYTE.fullmatch(token)
        )
        tried = [*NUMBERS, *(before + n for before in BEFORE for n in NUMBERS[:110]), *joined]
        encodings = self._tokenizer.encode_batch(list(tried), add_special_tokens=False)
        for number, encoding in zip(tried, encodings, strict=True):
            longest = max(
                (token for token in encoding.tokens if not BYTE.fullmatch(token)),
                key=_digits,
                default="",
            )
            if _digits(longest) > 1:
                raise ValueError(
                    f"it encodes {number!r} with the token {longest!r}, which has "
                    f"{_digits(longest)} digits, and digits must be single, as what is predicted "
                    "first is chosen digit by digit; train it with the pre-tokenizer "
                    "Digits(individual_digits=True), or use another file"
                )


def _digits(token: str) -> int:
    return sum(character in "0123456789" for character in token)


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

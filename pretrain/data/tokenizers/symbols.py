"""One token per character of a fixed alphabet, for arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.data.tokenizers.base import PAD, digest


class SymbolTokenizer:
    """One token per character of a fixed alphabet; the last id is padding.

    Args:
        symbols: distinct characters; character i has id i.
    """

    unknown_id = None
    lossless = True

    def __init__(self, symbols: str) -> None:
        if len(set(symbols)) != len(symbols):
            raise ValueError(f"symbols {symbols!r} are not distinct")
        self.symbols = symbols
        self._ids = {symbol: index for index, symbol in enumerate(symbols)}

    @property
    def size(self) -> int:
        """Number of ids, padding included."""
        return len(self.symbols) + 1

    @property
    def pad_id(self) -> int:
        """Id of padding."""
        return len(self.symbols)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the alphabet in its order."""
        return digest("symbols", [PAD], self.symbols)

    def special(self, name: str) -> int:
        """Id of `<pad>`, the only special token.

        Raises:
            KeyError: another name.
        """
        if name != PAD:
            raise KeyError(f"no special token {name!r}; there is {PAD}")
        return self.pad_id

    def encode(self, text: str) -> np.ndarray:
        """[characters] int64.

        Raises:
            ValueError: a character is not in the alphabet.
        """
        unknown = sorted(set(text) - set(self.symbols))
        if unknown:
            raise ValueError(f"{unknown} not in the alphabet {self.symbols!r}")
        return np.array([self._ids[symbol] for symbol in text], dtype=np.int64)

    def decode(self, ids: Sequence[int] | np.ndarray, specials: bool = False) -> str:
        """Text of token ids; ids that stand for no character are shown as `?`, padding by its
        name if `specials`."""
        pad = PAD if specials else "?"
        known = self.symbols
        return "".join(
            known[i] if 0 <= i < len(known) else pad if i == self.pad_id else "?" for i in ids
        )

"""Text to token ids and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PAD = "<pad>"


class SymbolTokenizer:
    """One token per character of a fixed alphabet; the last id is padding.

    Args:
        symbols: distinct characters; character i has id i.
    """

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

    def encode(self, text: str) -> np.ndarray:
        """[characters] int64.

        Raises:
            ValueError: a character is not in the alphabet.
        """
        unknown = sorted(set(text) - set(self.symbols))
        if unknown:
            raise ValueError(f"{unknown} not in the alphabet {self.symbols!r}")
        return np.array([self._ids[symbol] for symbol in text], dtype=np.int64)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of token ids; ids that stand for no character are shown as `?`."""
        return "".join(self.symbols[i] if 0 <= i < len(self.symbols) else "?" for i in ids)

"""Arithmetic on zero-padded whole numbers, one token per digit: `35*07=0245`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.data.tokenizers import SymbolTokenizer
from pretrain.tasks.arithmetic.config import SIGNS, SYMBOLS, ArithmeticData
from pretrain.tasks.fixed_width.data import Examples


def digits_of(values: np.ndarray, count: int) -> np.ndarray:
    """Decimal digits from the most significant on: [n] -> [n, count] int64."""
    places = 10 ** np.arange(count - 1, -1, -1, dtype=np.int64)
    return values[:, None] // places % 10


def unit_place_names(count: int) -> tuple[str, ...]:
    """Names of decimal places from the most significant of `count` digits on."""
    names: Sequence[str] = ("units", "tens", "hundreds", "thousands")
    return tuple(
        names[place] if place < len(names) else f"10^{place}" for place in reversed(range(count))
    )


class Arithmetic:
    """All (or some) pairs of operands; where both have as many digits, split so that a*b and b*a
    lie on the same side.

    The target is the answer from its most significant digit on, zero-padded to the longest
    possible one; for subtraction its first unit is the sign.

    Attributes:
        tokenizer: digits have the ids 0 to 9.
        unit_names: of the target's units in natural order.
        whole: whether both sides together are every pair of operands.
        train, test: the two sides.
    """

    def __init__(self, config: ArithmeticData) -> None:
        self.tokenizer = SymbolTokenizer(SYMBOLS)
        self.operation = config.operation
        self.digits = config.digits
        self.second = config.second_digits
        self.answer_digits = config.answer_units - (self.operation == "subtraction")
        self.unit_names = unit_place_names(self.answer_digits)
        if self.operation == "subtraction":
            self.unit_names = ("sign", *self.unit_names)
        rng = np.random.default_rng(config.split_seed)
        pairs = self._pairs(config.examples, rng)
        self.whole = config.examples is None or len(pairs) == self._distinct
        pairs = pairs[rng.permutation(len(pairs))]
        held_out = max(1, round(config.test_fraction * len(pairs)))
        self.test = self._examples(self._both_ways(pairs[:held_out]))
        self.train = self._examples(self._both_ways(pairs[held_out:]))

    @property
    def values(self) -> int:
        """Ids of features and units are below this: digits, and the sign tokens."""
        return 10 if self.operation != "subtraction" else len(SYMBOLS)

    def every(self) -> Examples:
        """All ordered pairs of operands, train and test together."""
        codes = np.arange(10 ** (self.digits + self.second), dtype=np.int64)
        return self._examples(np.stack(np.divmod(codes, 10**self.second), axis=1))

    @property
    def _distinct(self) -> int:
        """Pairs of operands, a, b and b, a counted once."""
        n, m = 10**self.digits, 10**self.second
        return n * (n + 1) // 2 if n == m else n * m

    def _pairs(self, wanted: int | None, rng: np.random.Generator) -> np.ndarray:
        """[pairs, 2] distinct, in a fixed order; of a, b and b, a only the one with a <= b."""
        n, m, total = 10**self.digits, 10**self.second, self._distinct
        unordered = n == m
        if wanted is None or (wanted >= total and max(self.digits, self.second) <= 3):
            if unordered:
                return np.stack(np.triu_indices(n), axis=1).astype(np.int64)
            return np.stack(np.divmod(np.arange(n * m, dtype=np.int64), m), axis=1)
        wanted = min(wanted, total)
        codes = np.zeros(0, dtype=np.int64)
        while len(codes) < wanted:
            drawn = rng.integers(0, (n, m), (2 * wanted, 2), dtype=np.int64)
            if unordered:
                drawn = np.sort(drawn, axis=1)
            codes = np.unique(np.concatenate([codes, drawn[:, 0] * m + drawn[:, 1]]))
        codes = codes[rng.permutation(len(codes))[:wanted]]
        return np.stack(np.divmod(codes, m), axis=1)

    def _both_ways(self, pairs: np.ndarray) -> np.ndarray:
        """Each unordered pair in both orders; a pair of equals once."""
        if self.digits != self.second:
            return pairs
        other = pairs[pairs[:, 0] != pairs[:, 1]]
        return np.concatenate([pairs, other[:, ::-1]])

    def _examples(self, pairs: np.ndarray) -> Examples:
        a, b = pairs[:, 0], pairs[:, 1]
        ids = self.tokenizer.encode(SIGNS[self.operation] + "=")
        signs = np.broadcast_to(ids, (len(pairs), 2))
        source = np.concatenate(
            [
                digits_of(a, self.digits),
                signs[:, :1],
                digits_of(b, self.second),
                signs[:, 1:],
            ],
            axis=1,
        )
        width = self.digits + 1 + self.second
        columns = (*range(self.digits), *range(self.digits + 1, width))
        return Examples(source, self._answer(a, b), columns)

    def _answer(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if self.operation == "multiplication":
            return digits_of(a * b, self.answer_digits)
        if self.operation == "addition":
            return digits_of(a + b, self.answer_digits)
        plus, minus = self.tokenizer.encode("+-")
        sign = np.where(a >= b, plus, minus)[:, None]
        return np.concatenate([sign, digits_of(np.abs(a - b), self.answer_digits)], axis=1)

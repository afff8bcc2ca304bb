"""Plans that are drawn: a distribution q(z | example) over the candidates of each example."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.selection.orders.strategies import choose_candidates, hashed


@dataclass(frozen=True)
class Plans:
    """q(z | example): which candidates may be chosen, and how likely each is.

    Attributes:
        places: [examples, m] int64 number of each in its example; -1 where there are fewer.
        shares: [examples, m] float64, of sum 1; 0 where there are fewer.
    """

    places: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, shares: np.ndarray, offsets: np.ndarray) -> Plans:
        """From the share of every candidate, 0 for those that are none, in their order.

        Args:
            shares: [candidates] float64, example after example.
            offsets: [examples + 1] where each example's candidates begin.
        """
        some = np.flatnonzero(shares)
        example = np.searchsorted(offsets, some, side="right") - 1
        counts = np.bincount(example, minlength=len(offsets) - 1)
        column = np.arange(len(some)) - np.repeat(np.cumsum(counts) - counts, counts)
        width = int(counts.max(initial=1))
        places = np.full((len(counts), width), -1, dtype=np.int64)
        filled = np.zeros(places.shape)
        places[example, column] = some - offsets[example]
        filled[example, column] = shares[some]
        return cls(places, filled)

    def between(self, first: int, last: int) -> Plans:
        """Of examples first to last - 1."""
        return Plans(self.places[first:last], self.shares[first:last])

    @property
    def counts(self) -> np.ndarray:
        """[examples] candidates of each."""
        return np.count_nonzero(self.places >= 0, axis=1)

    @property
    def entropy(self) -> np.ndarray:
        """[examples] H(q) of each in nats."""
        return -np.sum(self.shares * self.log_shares, axis=1)

    @property
    def log_shares(self) -> np.ndarray:
        """[examples, m] log q in nats; 0 where there are fewer."""
        return np.log(np.where(self.shares > 0, self.shares, 1.0))

    def drawn(self, numbers: np.ndarray) -> np.ndarray:
        """[examples] column that is drawn for each by its number from [0, 1)."""
        below = np.cumsum(self.shares, axis=1) <= numbers[:, None]
        last = np.maximum(self.counts - 1, 0)
        return np.minimum(below.sum(axis=1), last)

    def at(self, columns: np.ndarray) -> np.ndarray:
        """[examples] places of these columns."""
        return self.places[np.arange(len(columns)), columns]


def best_candidates(
    scores: np.ndarray,
    kinds: np.ndarray,
    offsets: np.ndarray,
    most: int,
    tie_bits: float = 0.005,
    largest_first: bool = True,
) -> np.ndarray:
    """The best candidates of each example, of each kind one: the best of all, then the best of what
    is left without those of its kind, and so on; ties as in
    :func:`pretrain.selection.orders.strategies.choose_candidates`.

    Args:
        scores: [candidates] bits, example after example in natural order.
        kinds: [candidates] int, of what kind each is.
        offsets: [examples + 1] where each example's candidates begin.
        most: m, of each example.
        largest_first: whether the best are the largest.

    Returns:
        [examples, m] positions in `scores`, the best first; -1 where there are fewer.
    """
    left = np.array(scores if largest_first else -scores, dtype=np.float64)
    lengths = np.diff(offsets)
    chosen = np.full((len(lengths), most), -1, dtype=np.int64)
    for place in range(most):
        best = choose_candidates(left, offsets, tie_bits)
        there = np.flatnonzero(best >= 0)
        best[there[np.isneginf(left[best[there]])]] = -1
        chosen[:, place] = best
        if (best < 0).all():
            break
        taken = np.where(best < 0, -1, kinds[best])
        left[np.repeat(taken, lengths) == kinds] = -np.inf
    return chosen


def shares_of(bits: np.ndarray, temperature: float | None) -> np.ndarray:
    """[examples, m] float64 shares of candidates by their bits, -inf where there are fewer: all
    alike, or 2^(bits / temperature) over their sum."""
    there = ~np.isneginf(bits)
    if temperature is None:
        weights = there.astype(np.float64)
    else:
        best = np.max(np.where(there, bits, -np.inf), axis=1, initial=-np.inf, keepdims=True)
        gap = np.where(there, bits, 0.0) - np.where(np.isneginf(best), 0.0, best)
        weights = np.where(there, np.exp2(gap / temperature), 0.0)
    # Not a sum that numpy would split by the width: shares do not depend on other examples.
    total = np.cumsum(weights, axis=1)[:, -1:]
    return weights / np.where(total > 0, total, 1.0)


def uniform_numbers(key: tuple[int, ...], places: np.ndarray, columns: int) -> np.ndarray:
    """[places, columns] float64 in [0, 1), a pure function of key and place."""
    return (hashed(key, places, columns) >> np.uint64(11)).astype(np.float64) * 2.0**-53

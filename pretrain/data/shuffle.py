"""A shuffle that is computed where it is asked for: no list of all places is ever made.

A Feistel network of some rounds is a permutation of the numbers of 2b bits, whatever its round
function (Luby and Rackoff, 1988). Numbers outside the range are sent through again until they are
inside (cycle walking; Black and Rogaway, 2002): at most 4 times as many numbers as there are places
are permuted, so that takes 4 rounds of the network on average, at the most.
"""

from __future__ import annotations

import hashlib

import numpy as np

ROUNDS = 6


def permuted(numbers: np.ndarray, size: int, *key: int | str) -> np.ndarray:
    """Where a shuffle of 0 to size - 1 puts these numbers.

    Args:
        numbers: [n] int64 in [0, size).
        size: of the range, at least 1.
        key: tells shuffles apart, such as (seed, source, epoch).

    Returns:
        [n] int64, different for different numbers.
    """
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8 * ROUNDS).digest()
    keys = np.frombuffer(digest, dtype="<u8")
    placed = numbers.astype(np.uint64)
    outside = np.arange(len(placed))
    while len(outside):
        placed[outside] = _network(placed[outside], np.uint64(half), keys)
        outside = outside[placed[outside] >= size]
    return placed.astype(np.int64)


def _network(values: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    """A permutation of the numbers of 2 x half bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return np.asarray((left << half) | right)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))

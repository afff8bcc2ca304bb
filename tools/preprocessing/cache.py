"""Ids of words that were seen before, looked up in a hash table that numba compiles.

Text is UTF-8. A word begins with a space, is a line's end, or begins a line or text; it ends where
the next begins. Equal words are found by their bytes, not by their hash alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np

from pretrain.compiled import compiled

REMEMBERED = 2**19
"""Words; when there are more, all are forgotten."""
BLOCK = 2**17
"""Words that are looked up together."""
LONGEST = 64
"""Bytes of a word that is remembered."""
SPACE, LINE_END = 0x20, 0x0A

Speller = Callable[[list[str]], list[list[int]]]
"""The ids of each of many words."""


class Table(NamedTuple):
    """[slots] number of the entry, or -1; and of each entry its hash, bytes [entries, LONGEST] and
    their count; 0 for a word that is too long to be found again."""

    slots: np.ndarray
    hashes: np.ndarray
    words: np.ndarray
    sizes: np.ndarray


class WordTable:
    """Encodes text word by word, each word once.

    Args:
        spell: encodes many words.
        dtype: of the ids.
    """

    def __init__(self, spell: Speller, dtype: np.dtype) -> None:
        self._spell = spell
        entries = REMEMBERED + BLOCK
        slots = 1 << (2 * entries - 1).bit_length()
        # Pages that are never written to take no memory.
        self._table = Table(
            np.full(slots, -1, np.int32),
            np.empty(entries, np.uint64),
            np.empty((entries, LONGEST), np.uint8),
            np.empty(entries, np.int32),
        )
        self._ids = np.empty(4 * entries, dtype)
        self._begins = np.zeros(entries + 1, np.int64)
        self.known = 0
        """Words in the table."""

    def encode(self, texts: Sequence[bytes]) -> list[bytes]:
        """The bytes of each text's ids."""
        content = np.frombuffer(b"".join(texts), np.uint8)
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        lengths = np.zeros(len(texts), np.int64)
        found: list[bytes] = []
        at = text = 0
        while at < len(content):
            if self.known > REMEMBERED:
                self._forget()
            entries = np.empty(BLOCK, np.int32)
            owners = np.empty(BLOCK, np.int32)
            new = np.empty((BLOCK, 2), np.int64)
            at, text, words, known = find(
                content, ends, at, text, self._table, self.known, entries, owners, new
            )
            self._learn(content, new[: known - self.known])
            ids = spell_out(entries[:words], owners[:words], self._begins, self._ids, lengths)
            found.append(ids.tobytes())
        content_ids = b"".join(found)
        stops = (np.cumsum(lengths) * self._ids.dtype.itemsize).tolist()
        return [content_ids[a:b] for a, b in pairwise([0, *stops])]

    def _learn(self, content: np.ndarray, new: np.ndarray) -> None:
        """Encode words [new, (begin, end)] of the text, the next entries of the table."""
        raw = content.data
        spelled = self._spell([str(raw[begin:end], "utf-8") for begin, end in new.tolist()])
        ends = self._begins[self.known] + np.cumsum([len(ids) for ids in spelled], dtype=np.int64)
        self._begins[self.known + 1 : self.known + 1 + len(new)] = ends
        if len(new):
            self._reserve(int(ends[-1]))
            begin = int(self._begins[self.known])
            self._ids[begin : int(ends[-1])] = np.fromiter(
                chain.from_iterable(spelled), self._ids.dtype, int(ends[-1]) - begin
            )
        self.known += len(new)

    def _reserve(self, size: int) -> None:
        if size > len(self._ids):
            larger = np.empty(max(size, 2 * len(self._ids)), self._ids.dtype)
            larger[: len(self._ids)] = self._ids
            self._ids = larger

    def _forget(self) -> None:
        self._table.slots.fill(-1)
        self._ids = np.empty(4 * len(self._table.sizes), self._ids.dtype)
        self.known = 0


@compiled
def find(
    content: np.ndarray,
    ends: np.ndarray,
    at: int,
    text: int,
    table: Table,
    known: int,
    entries: np.ndarray,
    owners: np.ndarray,
    new: np.ndarray,
) -> tuple[int, int, int, int]:
    """Look up words from byte `at` on, which belongs to `text` or a later one, until `entries` is
    full; words that are not in the table are put there.

    Args:
        content: of all texts; `ends` says where each ends.
        known: entries of the table.
        entries, owners: set to the entry and the text of each word.
        new: set to where the words begin and end that were put into the table, in order.

    Returns:
        Where it stopped, in which text, the number of words, and `known` as it is now.
    """
    slots, hashes, words, sizes = table
    mask = len(slots) - 1
    first_new = known
    count = 0
    while at < len(content) and count < len(entries):
        while at >= ends[text]:
            text += 1
        stop = at + 1
        value = (np.uint64(14695981039346656037) ^ np.uint64(content[at])) * np.uint64(
            1099511628211
        )
        if content[at] != LINE_END:
            while stop < ends[text] and content[stop] != SPACE and content[stop] != LINE_END:
                value = (value ^ np.uint64(content[stop])) * np.uint64(1099511628211)
                stop += 1
        size = stop - at
        entry = np.int32(-1)
        # The upper bits of the hash (FNV-1a) are the better mixed ones.
        slot = np.int64((value ^ (value >> np.uint64(32))) & np.uint64(mask))
        if size <= LONGEST:
            while slots[slot] >= 0:
                candidate = slots[slot]
                if hashes[candidate] == value and sizes[candidate] == size:
                    same = True
                    for i in range(size):
                        if words[candidate, i] != content[at + i]:
                            same = False
                            break
                    if same:
                        entry = candidate
                        break
                slot = (slot + 1) & mask
        if entry < 0:
            entry = np.int32(known)
            sizes[entry] = 0
            if size <= LONGEST:
                slots[slot] = entry
                hashes[entry] = value
                sizes[entry] = size
                words[entry, :size] = content[at:stop]
            new[known - first_new, 0] = at
            new[known - first_new, 1] = stop
            known += 1
        entries[count] = entry
        owners[count] = text
        count += 1
        at = stop
    return at, text, count, known


@compiled
def spell_out(
    entries: np.ndarray,
    owners: np.ndarray,
    begins: np.ndarray,
    ids: np.ndarray,
    lengths: np.ndarray,
) -> np.ndarray:
    """The ids of words [ids], one word after the other; `lengths` of the texts grow by theirs."""
    total = 0
    for entry in entries:
        total += begins[entry + 1] - begins[entry]
    result = np.empty(total, ids.dtype)
    at = 0
    for word in range(len(entries)):
        for i in range(begins[entries[word]], begins[entries[word] + 1]):
            result[at] = ids[i]
            at += 1
        lengths[owners[word]] += begins[entries[word] + 1] - begins[entries[word]]
    return result

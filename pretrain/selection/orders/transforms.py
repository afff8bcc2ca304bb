"""Applying a selection to targets, and taking it back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.ragged import Documents
from pretrain.selection.orders.strategies import Order


@dataclass(frozen=True)
class Reorder:
    """Puts the units of a target into `order`; `restore` is its exact inverse."""

    order: Order

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"{self.order} is not a permutation of 0 to {len(self.order) - 1}")

    def apply(self, target: np.ndarray) -> np.ndarray:
        """[..., units] in natural order -> [..., units] as predicted."""
        self._check(target)
        return target[..., list(self.order)]

    def restore(self, predicted: np.ndarray) -> np.ndarray:
        """[..., units] as predicted -> [..., units] in natural order."""
        self._check(predicted)
        natural = np.empty_like(predicted)
        natural[..., list(self.order)] = predicted
        return natural

    def _check(self, values: np.ndarray) -> None:
        if values.shape[-1] != len(self.order):
            raise ValueError(f"expected {len(self.order)} units, found {values.shape[-1]}")


ROOM = -1
"""Stands where a token would be inserted in front of a sentence that has none."""


@dataclass(frozen=True)
class Insert:
    """Puts one token of each sentence in front of it, between two marks; `restore` takes all
    three away.

    With a slot the token leaves its place, where the slot stands for it: a true reordering, in
    which no token is written twice. `restore` then puts it back.

    Attributes:
        opening, closing: token ids of the marks, which no text contains.
        blank: token id that is inserted instead of a sentence's own; None for its own.
        slot: token id that stands for a token that left, which no text contains; None where it
            stays.
    """

    opening: int
    closing: int
    blank: int | None = None
    slot: int | None = None
    inserted = 3
    """Tokens that a sentence is longer by; an empty one stays empty."""

    def lengths(self, sentences: Documents) -> np.ndarray:
        """[sentences] tokens of each once its token is inserted."""
        return sentences.lengths + self.inserted * (sentences.lengths > 0)

    def apply(self, sentences: Documents, chosen: np.ndarray) -> Documents:
        """Sentences with their tokens at positions `chosen` in front of them.

        Args:
            sentences: natural text.
            chosen: [sentences] positions in `sentences.tokens`; -1 for a sentence that stays as it
                is, behind :data:`ROOM` in place of each token that would be inserted. Not used for
                empty sentences.
        """
        offsets = np.concatenate([[0], np.cumsum(self.lengths(sentences))])
        some = np.flatnonzero(sentences.lengths)
        tokens = np.empty(offsets[-1], dtype=np.int32)
        text = np.ones(len(tokens), dtype=bool)
        content = sentences.tokens[chosen[some]] if self.blank is None else self.blank
        stays = chosen[some] < 0
        for place, value in enumerate((self.opening, content, self.closing)):
            tokens[offsets[some] + place] = np.where(stays, ROOM, value)
            text[offsets[some] + place] = False
        tokens[text] = sentences.tokens
        if self.slot is not None:
            left = some[~stays]
            within = chosen[left] - sentences.offsets[left]
            tokens[offsets[left] + self.inserted + within] = self.slot
        return Documents(tokens, offsets)

    def restore(self, tokens: np.ndarray) -> np.ndarray:
        """[n] tokens -> [m] without what was inserted.

        A mark that stands alone, as a model may write it, is taken away alone. An inserted token
        goes to the first slot behind it, before the next one; other slots are taken away, as is a
        token without a slot.
        """
        opens, closes = tokens == self.opening, tokens == self.closing
        taken = opens
        if self.slot is not None:
            slots = tokens == self.slot
            plans = np.flatnonzero(opens[:-2] & closes[2:]) + 1
            found = np.flatnonzero(slots)
            at = np.searchsorted(found, plans, side="right")
            ends = np.append(plans[1:], len(tokens))
            filled = np.append(found, len(tokens))[at]
            filled, plans = filled[filled < ends], plans[filled < ends]
            tokens = tokens.copy()
            tokens[filled] = tokens[plans]
            slots[filled] = False
            taken = opens | slots
        kept = ~(taken | closes)
        kept[np.flatnonzero(opens[:-2] & closes[2:]) + 1] = False
        return np.asarray(tokens[kept])


class Keep:
    """Leaves sentences as they are, where :class:`Insert` would insert."""

    inserted = 0

    def lengths(self, sentences: Documents) -> np.ndarray:
        """[sentences] tokens of each."""
        return sentences.lengths

    def apply(self, sentences: Documents, chosen: np.ndarray) -> Documents:
        """The sentences themselves."""
        return sentences

    def restore(self, tokens: np.ndarray) -> np.ndarray:
        """[n] tokens -> the same."""
        return tokens

"""Scores of a language model of text with inserted tokens, from sums that add up over ranks.

Every label of the packed text is of one kind: an inserted token, a mark beside it, the slot that
stands where it left its place, an original token that equals the one inserted before its sentence,
any other original token, or the end of a document. The negative log-likelihood of all of them,
divided by the number of original tokens, bounds that of the text from above, since the text can be
told in this one way at least. What is said of original tokens alone takes the inserted ones as
given, each of which is a word of the answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretrain.ragged import Documents
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.tasks.base import Metric
from pretrain.tasks.text.bounds import Bounds
from pretrain.tasks.text.rouge import rouge

PLAN, MARK, SLOT, PLANNED, OTHER, END = range(6)
"""Kinds of labels; -1 is none, and counts nowhere."""
KINDS = 6


def kinds_of(planned: Documents, transform: Insert | Keep, end_id: int) -> np.ndarray:
    """[n] kind of each token of laid-out sentences (:func:`pretrain.tasks.text.data.lay_out`)."""
    tokens = planned.tokens
    kinds = np.full(len(tokens), OTHER, dtype=np.int64)
    if isinstance(transform, Insert):
        plan = np.flatnonzero(tokens == transform.opening) + 1
        sentence = np.repeat(np.arange(len(planned)), planned.lengths)
        inserted = np.full(len(planned), -1, dtype=np.int64)
        inserted[sentence[plan]] = tokens[plan]
        kinds[tokens == inserted[sentence]] = PLANNED
        if transform.slot is not None:
            kinds[tokens == transform.slot] = SLOT
        kinds[plan - 1] = kinds[plan + 1] = MARK
        kinds[plan] = PLAN
    kinds[tokens == end_id] = END
    return kinds


def sums_by_kind(nats: Tensor, kinds: Tensor) -> Tensor:
    """[2, KINDS] float64 summed nats and number of the labels of each kind; sums of several parts
    of a text add up.

    Args:
        nats: negative log-likelihood of each label.
        kinds: int64 of the same shape; -1 counts nowhere.
    """
    kind = kinds.flatten() + 1
    total = torch.bincount(kind, nats.double().flatten(), minlength=KINDS + 1)
    counts = torch.bincount(kind, minlength=KINDS + 1).double()
    return torch.stack((total, counts))[:, 1:]


@dataclass(frozen=True)
class LikelihoodSums:
    """Sums over labels by kind.

    Attributes:
        nats: [KINDS] float64 negative log-likelihood.
        counts: [KINDS] int64 labels.
        draws: how often the text is in the sums, each time with other plans.
    """

    nats: np.ndarray
    counts: np.ndarray
    draws: int = 1

    @classmethod
    def of(cls, sums: Tensor) -> LikelihoodSums:
        """From [2, KINDS], as :func:`sums_by_kind` gives them."""
        nats, counts = sums.cpu().numpy()
        return cls(nats, counts.astype(np.int64))

    @classmethod
    def total(cls, parts: Sequence[LikelihoodSums]) -> LikelihoodSums:
        """Of several parts of a text."""
        nats = np.sum([part.nats for part in parts], axis=0)
        return cls(nats, np.sum([part.counts for part in parts], axis=0), parts[0].draws)

    @classmethod
    def drawn(cls, draws: Sequence[LikelihoodSums]) -> LikelihoodSums:
        """Of one text with the plans of several draws."""
        total = cls.total(draws)
        return cls(total.nats, total.counts, len(draws))

    def mean(self, *kinds: int) -> float:
        """Nats per label of these kinds; nan where there is none."""
        count = self.count(*kinds)
        return float(self.nats[list(kinds)].sum()) / count if count else math.nan

    def count(self, *kinds: int) -> int:
        """Labels of these kinds."""
        return int(self.counts[list(kinds)].sum())

    @property
    def original_tokens(self) -> int:
        """Tokens of the text itself; a slot stands for one of them."""
        return self.count(SLOT, PLANNED, OTHER) // self.draws

    @property
    def bits(self) -> float:
        """Of all labels of the text, the mean over draws."""
        return float(self.nats.sum()) / self.draws / math.log(2)


@dataclass(frozen=True)
class Scored:
    """Scores of a text.

    Attributes:
        planned: sums with what is inserted.
        plain: sums with nothing inserted.
        bounds: of the text's likelihood; None where nothing is inserted.
        unmarked: sums with nothing inserted by a model that may not write a mark; None where each
            sentence of training has one.
    """

    planned: LikelihoodSums
    plain: LikelihoodSums
    bounds: Bounds | None = None
    unmarked: LikelihoodSums | None = None

    @classmethod
    def total(cls, parts: Sequence[Scored]) -> Scored:
        """Of several parts of a text, all with the same fields."""
        bounds = [part.bounds for part in parts if part.bounds is not None]
        unmarked = [part.unmarked for part in parts if part.unmarked is not None]
        return cls(
            LikelihoodSums.total([part.planned for part in parts]),
            LikelihoodSums.total([part.plain for part in parts]),
            Bounds.total(bounds) if bounds else None,
            LikelihoodSums.total(unmarked) if unmarked else None,
        )


def likelihood_metrics(planned: LikelihoodSums, plain: LikelihoodSums) -> tuple[Metric, ...]:
    """Scores of a text of at least one token; nan, all of them, of a model that gives no numbers.

    joint_bits_per_token: bits of everything (inserted tokens, marks, text, ends) divided by the
        number of original tokens.
    conditional_perplexity: of original tokens, the inserted ones given: it leaks a word of each
        sentence.
    conditional_perplexity_without_plan: the same, without tokens that equal the inserted one.
    plain_perplexity: of original tokens of the text with nothing inserted.
    plan_bits, mark_bits, slot_bits: bits per inserted token, per mark and per slot.
    What there are no such tokens for is left out.

    Args:
        planned: of the text with what is inserted.
        plain: of the same text with nothing inserted.
    """
    joint = planned.bits / planned.original_tokens
    metrics = [Metric("joint_bits_per_token", joint, "lower", "bits")]
    # What inserted tokens cost, or give away, differs by strategy.
    for name, sums, kinds, comparable in (
        ("conditional_perplexity", planned, (PLANNED, OTHER), False),
        ("conditional_perplexity_without_plan", planned, (OTHER,), False),
        ("plain_perplexity", plain, (PLANNED, OTHER), True),
    ):
        if sums.count(*kinds):
            value = perplexity(sums.mean(*kinds))
            metrics.append(Metric(name, value, "lower", "perplexity", comparable))
    for name, kind in (("plan_bits", PLAN), ("mark_bits", MARK), ("slot_bits", SLOT)):
        if planned.count(kind):
            bits = planned.mean(kind) / math.log(2)
            metrics.append(Metric(name, bits, "lower", "bits", comparable=False))
    return tuple(metrics)


def bytes_metrics(planned: LikelihoodSums, sizes: Sequence[int | None]) -> tuple[Metric, ...]:
    """bits_per_byte: bits of everything divided by the bytes of the text, which no tokenizer
    changes; left out where they are not known, or the tokens do not tell the whole text.

    Args:
        planned: of the text with what is inserted.
        sizes: bytes of its parts in UTF-8.
    """
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or not sum(known):
        return ()
    return (Metric("bits_per_byte", planned.bits / sum(known), "lower", "bits"),)


def bound_metrics(scored: Scored, sizes: Sequence[int | None]) -> tuple[Metric, ...]:
    """Bounds of the bits of a text, each above the truth, per original token and, where
    :func:`bytes_metrics` has it, per byte; nothing where nothing is inserted.

    elbo, iw_K, chain, exact: see :mod:`pretrain.tasks.text.bounds`.
    plain: with nothing inserted.
    unmarked: with nothing inserted, by a model that may not write a mark.

    Args:
        scored: of a text of at least one token.
        sizes: bytes of its parts in UTF-8.
    """
    if scored.bounds is None:
        return ()
    bits = {name: nats / math.log(2) for name, nats in scored.bounds.named.items()}
    bits["plain"] = scored.plain.bits
    if scored.unmarked is not None:
        bits["unmarked"] = scored.unmarked.bits
    per = {"token": scored.plain.original_tokens}
    if bytes_metrics(scored.planned, sizes):
        per["byte"] = sum(size for size in sizes if size is not None)
    return tuple(
        Metric(f"{name}_bits_per_{unit}", value / count, "lower", "bits")
        for unit, count in per.items()
        for name, value in bits.items()
    )


def perplexity(nats: float) -> float:
    """exp(nats per token); infinite where it is beyond what a float holds."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def distinct(texts: Sequence[Sequence[int]], n: int) -> float:
    """Distinct n-grams of all texts divided by their number (Li et al., 2016); 0 without any."""
    grams = Counter(gram for text in texts for gram in _grams(text, n))
    return len(grams) / grams.total() if grams else 0.0


def repetition(texts: Sequence[Sequence[int]], n: int = 4) -> float:
    """Share of n-grams that stood in the same text before; 0 without any."""
    total = sum(len(_grams(text, n)) for text in texts)
    new = sum(len(set(_grams(text, n))) for text in texts)
    return (total - new) / total if total else 0.0


def _grams(text: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def generation_metrics(
    generated: Sequence[Sequence[int]], pairs: Sequence[tuple[str, str]]
) -> tuple[Metric, ...]:
    """ROUGE against the true continuations, and how varied generated texts are.

    Args:
        generated: tokens of each restored text.
        pairs: the true continuation and the restored text of each.
    """
    return (
        *(Metric(name, value, "higher", "share") for name, value in rouge(pairs).items()),
        Metric("distinct_1", distinct(generated, 1), None, "share"),
        Metric("distinct_2", distinct(generated, 2), None, "share"),
        Metric("repetition_4", repetition(generated, 4), None, "share"),
    )

"""Scores of a language model of text with inserted tokens, from sums that add up over ranks.

Every label of the packed text is of one kind: an inserted token, a mark beside it, an original
token that equals the one inserted before its sentence, any other original token, or the end of a
document. The negative log-likelihood of all of them, divided by the number of original tokens,
bounds that of the text from above, since the text can be told in this one way at least. What is
said of original tokens alone takes the inserted ones as given, each of which is a word of the
answer.
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
from pretrain.tasks.text.rouge import rouge

PLAN, MARK, PLANNED, OTHER, END = range(5)
"""Kinds of labels; -1 is none, and counts nowhere."""
KINDS = 5


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
    """

    nats: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, sums: Tensor) -> LikelihoodSums:
        """From [2, KINDS], as :func:`sums_by_kind` gives them."""
        nats, counts = sums.cpu().numpy()
        return cls(nats, counts.astype(np.int64))

    @classmethod
    def total(cls, parts: Sequence[LikelihoodSums]) -> LikelihoodSums:
        """Of several parts of a text."""
        nats = np.sum([part.nats for part in parts], axis=0)
        return cls(nats, np.sum([part.counts for part in parts], axis=0))

    def mean(self, *kinds: int) -> float:
        """Nats per label of these kinds; nan where there is none."""
        count = self.count(*kinds)
        return float(self.nats[list(kinds)].sum()) / count if count else math.nan

    def count(self, *kinds: int) -> int:
        """Labels of these kinds."""
        return int(self.counts[list(kinds)].sum())

    @property
    def original_tokens(self) -> int:
        """Tokens of the text itself."""
        return int(self.counts[PLANNED] + self.counts[OTHER])


def likelihood_metrics(planned: LikelihoodSums, plain: LikelihoodSums) -> tuple[Metric, ...]:
    """Scores of a text of at least one token; nan, all of them, of a model that gives no numbers.

    joint_bits_per_token: bits of everything (inserted tokens, marks, text, ends) divided by the
        number of original tokens.
    conditional_perplexity: of original tokens, the inserted ones given: it leaks a word of each
        sentence.
    conditional_perplexity_without_plan: the same, without tokens that equal the inserted one.
    plain_perplexity: of original tokens of the text with nothing inserted.
    plan_bits, mark_bits: bits per inserted token, and per mark.
    What there are no such tokens for is left out.

    Args:
        planned: of the text with what is inserted.
        plain: of the same text with nothing inserted.
    """
    joint = float(planned.nats.sum()) / planned.original_tokens / math.log(2)
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
    for name, kind in (("plan_bits", PLAN), ("mark_bits", MARK)):
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
    bits = float(planned.nats.sum()) / sum(known) / math.log(2)
    return (Metric("bits_per_byte", bits, "lower", "bits"),)


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

"""Which token of a sentence is put in front of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pretrain.config import FITTED_STRATEGIES, SelectionConfig
from pretrain.data.tokenizers import Tokenizer
from pretrain.ragged import Documents, Examples
from pretrain.selection.estimators.pointwise import Scorer
from pretrain.selection.fitter import pointwise_of
from pretrain.selection.orders.plans import Plans, best_candidates, shares_of, uniform_numbers
from pretrain.selection.orders.strategies import choose_at_random, choose_candidates
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.selection.selector import Selection
from pretrain.selection.table.collectives import world
from pretrain.selection.table.counts import Pairs, Progress, ShardedCounts, count_pairs, window
from pretrain.selection.table.positions import Content
from pretrain.tasks.text.data import Sentences

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist


def transform_of(strategy: str, tokenizer: Tokenizer, slot: bool = False) -> Insert | Keep:
    """What a strategy does to a sentence once its token is selected; with `slot`, <blank> stands
    where the token leaves."""
    if strategy == "ntp":
        return Keep()
    opening, closing = tokenizer.special("<plan>"), tokenizer.special("</plan>")
    blank = tokenizer.special("<blank>")
    return Insert(opening, closing, blank if strategy == "blank" else None, blank if slot else None)


@dataclass(frozen=True)
class Chooser:
    """Which token of each sentence is put in front of it.

    A choice depends on the sentence, what stands before it in its document, and the table: never
    on what comes later, on other documents, or on who asks. Where the table knows no pair of a
    sentence (all scores are 0, as without a context), its tokens are scored by their
    self-information -log2 p(t) instead.

    Attributes:
        selection: by which strategy, on what evidence; what ntp and blank choose is not used.
        scorer: of max_mi and min_mi; all readers call it together.
        window: tokens before the sentence that it is scored by; None for its own other tokens.
        tie_bits: see :func:`pretrain.selection.orders.strategies.choose_candidates`.
        seed: of random, and of what is drawn.
        longest: tokens of a sentence that are looked at; None for all.
        candidates: of how many best tokens one is drawn; 1 takes the best.
        temperature: of the draw; None for all alike.
        by_place: whether two places with the same token are two choices, as where the token leaves
            its place.
        share: of the sentences that have a token in front of them in training.
    """

    selection: Selection
    scorer: Scorer | None = None
    window: int | None = None
    tie_bits: float = 0.005
    seed: int = 0
    longest: int | None = None
    candidates: int = 1
    temperature: float | None = None
    by_place: bool = False
    share: float = 1.0

    @property
    def drawn(self) -> bool:
        """Whether a choice depends on the epoch."""
        return self.candidates > 1 or self.share < 1.0

    def __call__(
        self, text: Sentences, numbers: np.ndarray, epochs: np.ndarray | None = None
    ) -> np.ndarray:
        """[n] place in its sentence of what is chosen for each of these sentences; -1 where the
        sentence is empty, or stays as it is.

        Args:
            epochs: [n] how often each was read before: what is drawn is a pure function of seed,
                sentence and epoch. 0 if not given.

        Raises:
            ValueError: max_mi or min_mi without a scorer, as on a rank that reads no data.
        """
        if not self.drawn:
            return self.best(text, numbers)
        if epochs is None:
            epochs = np.zeros(len(numbers), dtype=np.int64)
        draws = np.empty((len(numbers), 2))
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            draws[here] = uniform_numbers((self.seed, epoch), numbers[here], 2)
        if self.candidates == 1:
            places = self.best(text, numbers)
        else:
            shares, sentences = self.shares(text, numbers)
            plans = Plans.of(shares, sentences.offsets)
            places = plans.at(plans.drawn(draws[:, 0]))
        return np.where(draws[:, 1] < self.share, places, -1)

    def shares(self, text: Sentences, numbers: np.ndarray) -> tuple[np.ndarray, Documents]:
        """q(z | sentence): ([tokens] float64 how likely each token of these sentences is to be
        chosen, the sentences).

        Unless choices are by place, all of a token's share is at one of its places, since the text
        that comes of it is the same. Strategy random has every token of a sentence.

        Raises:
            ValueError: as of a call.
        """
        whole = text.take(numbers)
        sentences = self._looked_at(whole)
        shares = np.zeros(len(whole.tokens))
        at = _places(whole, sentences)
        if self.selection.strategy == "random":
            each = 1.0 / np.repeat(sentences.lengths, sentences.lengths)
            shares[at] = each if self.by_place else _at_last(sentences, each)
            return shares, whole
        if self.candidates == 1:
            best = self.best(text, numbers)
            some = np.flatnonzero(best >= 0)
            shares[whole.offsets[some] + best[some]] = 1.0
            return shares, whole
        bits = self._bits(text, numbers, sentences)
        largest = self.selection.strategy == "max_mi"
        best = best_candidates(
            bits, sentences.tokens, sentences.offsets, self.candidates, self.tie_bits, largest
        )
        signed = bits if largest else -bits
        padded = np.where(best < 0, -np.inf, np.append(signed, 0.0)[best])
        there = best >= 0
        shares[at[best[there]]] = shares_of(padded, self.temperature)[there]
        return shares, whole

    def _looked_at(self, sentences: Documents) -> Documents:
        return sentences if self.longest is None else sentences.cut_off(self.longest)

    def best(self, text: Sentences, numbers: np.ndarray) -> np.ndarray:
        """[n] place in its sentence of the best token of each of these sentences, or of the one
        that the strategy takes without scores; -1 where the sentence is empty.

        Raises:
            ValueError: as of a call.
        """
        strategy = self.selection.strategy
        sentences = self._looked_at(text.take(numbers))
        if strategy in FITTED_STRATEGIES:
            bits = self._bits(text, numbers, sentences)
            best = choose_candidates(bits, sentences.offsets, self.tie_bits, strategy == "max_mi")
            return np.where(best < 0, -1, best - sentences.offsets[:-1])
        if strategy == "random":
            return choose_at_random(sentences.lengths, numbers, self.seed)
        return np.where(sentences.lengths, 0, -1)

    def _bits(self, text: Sentences, numbers: np.ndarray, sentences: Documents) -> np.ndarray:
        scorer = self.scorer
        if scorer is None:
            raise ValueError(f"strategy {self.selection.strategy} needs a scorer")
        if self.window is None:
            bits = scorer(sentences)
        else:
            bits = scorer(text.before(numbers, self.window), sentences)
        some = np.flatnonzero(sentences.lengths)
        silent = np.zeros(len(sentences), dtype=bool)
        if len(some):
            starts = sentences.offsets[:-1][some]
            silent[some] = ~np.logical_or.reduceat(bits != 0.0, starts)
        surprise = scorer.log_total - scorer.column_terms[sentences.tokens]
        return np.where(np.repeat(silent, sentences.lengths), surprise, bits)


@dataclass(frozen=True)
class SentenceRule:
    """Counts which tokens stand together: in a sentence, or a token with those before it in its
    document, up to the length of a sequence.

    Attributes:
        settings: `selection` of the configuration.
        text: the training text.
        vocabulary: ids of its tokens are below it.
        sequence_length: positions of the model.
    """

    settings: SelectionConfig
    text: Sentences
    vocabulary: int
    sequence_length: int
    counted = "tokens by tokens"
    unit_names = ()

    @property
    def window(self) -> int | None:
        """Tokens before a sentence by which it is scored; None for its own."""
        return self.sequence_length if self.settings.features == "before" else None

    @property
    def checksum(self) -> str:
        """Of the training text."""
        return self.text.checksum

    @property
    def details(self) -> dict[str, Any]:
        """Which tokens are features of which; both estimators share a table."""
        return {"features": self.settings.features, "window": self.window}

    @property
    def tokens(self) -> int:
        """Each token is counted twice."""
        return 2 * self.text.counted_tokens

    def uncounted(self, group: dist.ProcessGroup | None, progress: Progress) -> Selection:
        """What the strategy alone decides."""
        return Selection(self.settings.strategy)

    def count(
        self,
        group: dist.ProcessGroup | None,
        budget: int,
        progress: Progress,
        device: torch.device | None,
    ) -> ShardedCounts:
        """See :class:`pretrain.selection.fitter.Rule`."""
        whole = self.window is not None
        return count_pairs(
            self.text.counted(whole, *world(group), self.settings.chunk_tokens),
            self.vocabulary,
            self.vocabulary,
            Pairs() if self.window is None else window(self.window, "left"),
            group,
            budget,
            progress=progress,
            device=device,
        )

    def fits(self, table: Content) -> bool:
        """Whether it is a table of pairs of tokens."""
        return isinstance(table, ShardedCounts) and not table.pairs.presence

    def rank(self, table: Content) -> None:
        """Nothing: each sentence has its own choice."""

    def stream(self, table: Content, indices: np.ndarray) -> Iterable[Examples]:
        """Nothing: a table of PMI stays as it was fitted (`selection.refresh_every` is refused)."""
        return ()

    def selector(self, selection: Selection, table: Content | None) -> Chooser:
        """By this table, where the strategy needs one."""
        settings = self.settings
        scorer = None
        if isinstance(table, ShardedCounts):
            scorer = Scorer(table, pointwise_of(settings))
        return Chooser(
            selection,
            scorer,
            self.window,
            settings.tie_bits,
            settings.seed,
            self.text.longest,
            settings.plan_candidates,
            settings.plan_temperature,
            settings.plan_slot,
            settings.plan_share,
        )


def _places(whole: Documents, cut_off: Documents) -> np.ndarray:
    """[n] position in whole sentences of each token of the same, cut off."""
    within = np.arange(len(cut_off.tokens)) - np.repeat(cut_off.offsets[:-1], cut_off.lengths)
    return np.repeat(whole.offsets[:-1], cut_off.lengths) + within


def _at_last(sentences: Documents, shares: np.ndarray) -> np.ndarray:
    """Shares of the tokens of sentences, those of equal tokens summed at the last of them."""
    sentence = np.repeat(np.arange(len(sentences)), sentences.lengths)
    order = np.lexsort((np.arange(len(shares)), sentences.tokens, sentence))
    same = np.stack((sentence[order], sentences.tokens[order]))
    last = np.append((same[:, 1:] != same[:, :-1]).any(axis=0), True)[: len(shares)]
    group = np.cumsum(last) - last
    summed = np.zeros(len(shares))
    summed[order[last]] = np.bincount(group, shares[order], minlength=int(last.sum()))
    return summed

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


def transform_of(strategy: str, tokenizer: Tokenizer) -> Insert | Keep:
    """What a strategy does to a sentence once its token is selected."""
    if strategy == "ntp":
        return Keep()
    opening, closing = tokenizer.special("<plan>"), tokenizer.special("</plan>")
    return Insert(opening, closing, tokenizer.special("<blank>") if strategy == "blank" else None)


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
        seed: of random.
        longest: tokens of a sentence that are looked at; None for all.
    """

    selection: Selection
    scorer: Scorer | None = None
    window: int | None = None
    tie_bits: float = 0.005
    seed: int = 0
    longest: int | None = None

    def __call__(self, text: Sentences, numbers: np.ndarray) -> np.ndarray:
        """[n] place in its sentence of what is chosen for each of these sentences; -1 where the
        sentence is empty.

        Raises:
            ValueError: max_mi or min_mi without a scorer, as on a rank that reads no data.
        """
        strategy = self.selection.strategy
        sentences = text.take(numbers)
        if self.longest is not None:
            sentences = sentences.cut_off(self.longest)
        if strategy in FITTED_STRATEGIES:
            if self.scorer is None:
                raise ValueError(f"strategy {strategy} needs a scorer")
            bits = self._scores(self.scorer, text, numbers, sentences)
            best = choose_candidates(bits, sentences.offsets, self.tie_bits, strategy == "max_mi")
            return np.where(best < 0, -1, best - sentences.offsets[:-1])
        if strategy == "random":
            return choose_at_random(sentences.lengths, numbers, self.seed)
        return np.where(sentences.lengths, 0, -1)

    def _scores(
        self, scorer: Scorer, text: Sentences, numbers: np.ndarray, sentences: Documents
    ) -> np.ndarray:
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
            selection, scorer, self.window, settings.tie_bits, settings.seed, self.text.longest
        )

"""Text as packed sequences, with one selected token in front of each sentence.

The packed text is one stream: each document begins with `<end>`, which is also what ends the one
before it, and each of its sentences stands behind its selected token:

    <end> <plan> t </plan> First sentence. <plan> u </plan> Second sentence. <end> <plan> ...

Sequences are cut from it one after the other. Every label belongs to the document of its input, so
attention never has to leave a document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretrain.config import FITTED_STRATEGIES, DataConfig
from pretrain.data.batches import Sampler
from pretrain.data.held_out import hold_out, text_tokenizer
from pretrain.data.jsonl import read_texts
from pretrain.data.sentences import split_sentences
from pretrain.data.tokenizers import Tokenizer
from pretrain.selection.documents import Documents
from pretrain.selection.pointwise import Scorer
from pretrain.selection.strategies import choose_at_random, choose_candidates
from pretrain.selection.transforms import Insert, Keep

END = "<end>"


@dataclass(frozen=True)
class Text:
    """Documents made of sentences.

    Attributes:
        sentences: tokens of each, document after document; some may be empty.
        firsts: [documents + 1] int64 sentence with which each document begins, and their number.
    """

    sentences: Documents
    firsts: np.ndarray

    @classmethod
    def encoded(cls, documents: Iterable[str], tokenizer: Tokenizer) -> Text:
        """Split documents into sentences, each tokenized by itself."""
        pieces = [split_sentences(document) for document in documents]
        encode = tokenizer.encode
        sentences = Documents.of([encode(piece) for document in pieces for piece in document])
        return cls(sentences, np.cumsum([0, *map(len, pieces)]))

    def __len__(self) -> int:
        return len(self.firsts) - 1

    @property
    def tokens(self) -> int:
        """Tokens of all sentences."""
        return len(self.sentences.tokens)

    @property
    def documents(self) -> Documents:
        """The documents as such."""
        return Documents(self.sentences.tokens, self.sentences.offsets[self.firsts])

    @property
    def checksum(self) -> str:
        """SHA-256 over tokens, sentences and documents."""
        digest = hashlib.sha256(b"text")
        for part in (self.sentences.tokens, self.sentences.offsets, self.firsts):
            digest.update(np.ascontiguousarray(part, dtype=np.int64).tobytes())
        return digest.hexdigest()

    def head(self, documents: int | None) -> Text:
        """The first documents, or all."""
        firsts = self.firsts if documents is None else self.firsts[: documents + 1]
        return Text(self.sentences.between(0, int(firsts[-1])), firsts)

    def take(self, numbers: np.ndarray) -> Documents:
        """Sentences of these numbers, in their order."""
        return self.sentences.take(numbers)

    def opens(self, numbers: np.ndarray) -> np.ndarray:
        """[n] bool, whether each of these sentences begins a document."""
        return self.firsts[np.searchsorted(self.firsts, numbers)] == numbers

    def before(self, numbers: np.ndarray, window: int) -> Documents:
        """What stands before each of these sentences in its document, `window` tokens at most."""
        offsets = self.sentences.offsets
        document = np.searchsorted(self.firsts, numbers, side="right") - 1
        ends = offsets[numbers]
        begins = np.maximum(offsets[self.firsts[document]], ends - window)
        return Documents.of_slices(self.sentences.tokens, begins, ends)


class Corpus:
    """The texts of a configuration, tokenized, a share of the documents held out.

    Args:
        config: says which texts, tokenizer and share.

    Attributes:
        tokenizer: of the model's tokens.
        train, test: the two sides.

    Raises:
        UserError: a file cannot be read or is malformed.
        ConfigError: no training document is left, or the vocabulary has no room.
    """

    def __init__(self, config: DataConfig) -> None:
        train, test = split(config)
        self.tokenizer = text_tokenizer(config, train)
        self.train = Text.encoded(train, self.tokenizer)
        self.test = Text.encoded(test, self.tokenizer)

    def __str__(self) -> str:
        sides = (("training", self.train), ("held out", self.test))
        return "; ".join(
            f"{name}: {len(side):,} documents, {len(side.sentences):,} sentences, "
            f"{side.tokens:,} tokens"
            for name, side in sides
        )


def split(config: DataConfig) -> tuple[list[str], list[str]]:
    """Training and held-out documents; errors: see :func:`pretrain.data.held_out.hold_out`."""
    return hold_out(
        config,
        lambda path: read_texts(path, config.document_gap),
        lambda document: document,
        "documents",
        "data.document_gap or data.test_fraction",
    )


@dataclass(frozen=True)
class Chooser:
    """Which token of each sentence is put in front of it.

    A choice depends on the sentence, what stands before it in its document, and the table: never
    on what comes later, on other documents, or on who asks. Where the table knows no pair of a
    sentence (all scores are 0, as without a context), its tokens are scored by their
    self-information -log2 p(t) instead.

    Attributes:
        strategy: max_mi, min_mi, random, first; what ntp and blank choose is not used.
        scorer: of max_mi and min_mi; all readers call it together.
        window: tokens before the sentence that it is scored by; None for its own other tokens.
        tie_bits: see :func:`pretrain.selection.strategies.choose_candidates`.
        seed: of random.
    """

    strategy: str
    scorer: Scorer | None = None
    window: int | None = None
    tie_bits: float = 0.005
    seed: int = 0

    def __call__(self, text: Text, numbers: np.ndarray) -> np.ndarray:
        """[n] place in its sentence of what is chosen for each of these sentences; -1 where the
        sentence is empty.

        Raises:
            ValueError: max_mi or min_mi without a scorer, as on a rank that reads no data.
        """
        sentences = text.take(numbers)
        if self.strategy in FITTED_STRATEGIES:
            if self.scorer is None:
                raise ValueError(f"strategy {self.strategy} needs a scorer")
            bits = self._scores(self.scorer, text, numbers, sentences)
            best = choose_candidates(
                bits, sentences.offsets, self.tie_bits, self.strategy == "max_mi"
            )
            return np.where(best < 0, -1, best - sentences.offsets[:-1])
        if self.strategy == "random":
            return choose_at_random(sentences.lengths, numbers, self.seed)
        return np.where(sentences.lengths, 0, -1)

    def _scores(
        self, scorer: Scorer, text: Text, numbers: np.ndarray, sentences: Documents
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


def lay_out(
    text: Text, numbers: np.ndarray, chosen: np.ndarray, transform: Insert | Keep, end_id: int
) -> Documents:
    """These sentences as they stand in the stream: with what is inserted, and behind `<end>` where
    they begin a document.

    Args:
        numbers: [n] of sentences.
        chosen: [n] place of the selected token in each.
    """
    sentences = text.take(numbers)
    planned = transform.apply(sentences, sentences.offsets[:-1] + chosen)
    opens = text.opens(numbers)
    tokens = np.insert(planned.tokens, planned.offsets[:-1][opens], end_id)
    return Documents(tokens, np.concatenate([[0], np.cumsum(planned.lengths + opens)]))


class PlannedText:
    """Sequences of consecutive sentences, each with its selected token in front of it. Every
    position counts in the loss.

    A sentence takes the same room whichever token is selected, so where a sequence begins is known
    without a score, and only the sentences of a step's own sequences are scored.

    Args:
        text: the training text; every reader has all of it.
        chooser: which token of a sentence is selected.
        transform: how it is inserted.
        end_id: parts documents.
        sampler: which sequences a step sees.
        selection_at: step -> selection; called on every rank for each step once, in order.
        rank, ranks: this reader among the readers.
        length: positions of the model.
    """

    def __init__(
        self,
        text: Text,
        chooser: Chooser,
        transform: Insert | Keep,
        end_id: int,
        sampler: Sampler,
        selection_at: Callable[[int], Any],
        rank: int,
        ranks: int,
        length: int,
    ) -> None:
        self.text = text
        self.chooser = chooser
        self.transform = transform
        self.end_id = end_id
        self.sampler = sampler
        self.selection_at = selection_at
        self.rank = rank
        self.ranks = ranks
        self.length = length
        self.starts = stream_starts(text, transform)

    def read(
        self, step: int, selection: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Tokens, labels, loss mask and starts of documents of this reader's share of a step, each
        [share, length]."""
        begins = self.sampler.indices(step, self.rank, self.ranks) * self.length
        first = np.searchsorted(self.starts, begins, side="right") - 1
        last = np.searchsorted(self.starts, begins + self.length + 1, side="left")
        numbers = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
        chosen = self.chooser(self.text, numbers)
        planned = lay_out(self.text, numbers, chosen, self.transform, self.end_id)
        sequence = np.cumsum([0, *(last - first)])[:-1]
        at = planned.offsets[sequence] + begins - self.starts[first]
        rows = planned.tokens[at[:, None] + np.arange(self.length + 1)].astype(np.int64)
        tokens, labels = rows[:, :-1], rows[:, 1:]
        return tokens, labels, np.ones(tokens.shape, dtype=np.float32), tokens == self.end_id


def stream_starts(text: Text, transform: Insert | Keep) -> np.ndarray:
    """[sentences + 1] where each sentence begins in the stream, and the length of the stream."""
    lengths = transform.lengths(text.sentences) + text.opens(np.arange(len(text.sentences)))
    return np.concatenate([[0], np.cumsum(lengths)])


def count_sequences(text: Text, transform: Insert | Keep, length: int) -> int:
    """Whole sequences of `length` positions and their labels that the stream has."""
    return max(0, (int(stream_starts(text, transform)[-1]) - 1) // length)

"""Text as packed sequences, with one selected token in front of each sentence.

The packed text is one stream: each document begins with `<end>`, which is also what ends the one
before it, and each of its sentences stands behind its selected token:

    <end> <plan> t </plan> First sentence. <plan> u </plan> Second sentence. <end> <plan> ...

Sequences are cut from it one after the other. Every label belongs to the document of its input, so
attention never has to leave a document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from pretrain.config import FITTED_STRATEGIES, DataConfig
from pretrain.data.batch import Rows, Sampler
from pretrain.data.held_out import hold_out, text_tokenizer
from pretrain.data.jsonl import read_texts
from pretrain.data.sentences import split_sentences
from pretrain.data.tokenizers import Tokenizer
from pretrain.ragged import Documents, Examples, Stream, concatenate, stream_of
from pretrain.selection.estimators.pointwise import Scorer
from pretrain.selection.orders.strategies import choose_at_random, choose_candidates
from pretrain.selection.orders.transforms import Insert, Keep

END = "<end>"


class Sentences(Protocol):
    """Documents made of sentences, wherever they are."""

    @property
    def longest(self) -> int | None:
        """Of a longer sentence only so many tokens are counted and scored; None for all."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens of all sentences."""
        ...

    @property
    def checksum(self) -> str:
        """Of everything that a table of counts depends on."""
        ...

    @property
    def counted_tokens(self) -> int:
        """Tokens that :meth:`counted` gives, over all ranks."""
        ...

    def counted(self, whole: bool, rank: int, ranks: int, chunk_tokens: int) -> Stream:
        """What a rank counts for the selection: `whole` documents, or their sentences one by one;
        every one on one rank only."""
        ...

    def take(self, numbers: np.ndarray) -> Documents:
        """Sentences of these numbers, in their order."""
        ...

    def opens(self, numbers: np.ndarray) -> np.ndarray:
        """[n] bool, whether each of these sentences begins a document."""
        ...

    def before(self, numbers: np.ndarray, window: int) -> Documents:
        """What stands before each of these sentences in its document, `window` tokens at most."""
        ...

    def packed(self, transform: Insert | Keep, length: int) -> Packed:
        """Where sentences stand in the stream that sequences of `length` are cut from."""
        ...


class Packed(Protocol):
    """The stream of a text: where its sentences stand, and sequences cut from it.

    Attributes:
        sequences: whole sequences, with the label of their last position.
        positions: of all sequences.
    """

    sequences: int
    positions: int

    def at(self, positions: np.ndarray) -> np.ndarray:
        """[n] sentence that each of these positions belongs to."""
        ...

    def starts(self, numbers: np.ndarray) -> np.ndarray:
        """[n] position with which each of these sentences begins, its `<end>` included."""
        ...

    def cut(self, begins: np.ndarray, width: int, end_id: int) -> np.ndarray:
        """[n, width] tokens from these positions on; of a stream with nothing inserted."""
        ...


@dataclass(frozen=True)
class Text:
    """Documents made of sentences.

    Attributes:
        sentences: tokens of each, document after document; some may be empty.
        firsts: [documents + 1] int64 sentence with which each document begins, and their number.
    """

    sentences: Documents
    firsts: np.ndarray

    longest: ClassVar[None] = None

    @classmethod
    def encoded(cls, documents: Iterable[str], tokenizer: Tokenizer) -> Text:
        """Split documents into sentences, each tokenized by itself."""
        pieces = [split_sentences(document) for document in documents]
        encode = tokenizer.encode
        sentences = Documents.of([encode(piece) for document in pieces for piece in document])
        return cls(sentences, np.cumsum([0, *map(len, pieces)]))

    @classmethod
    def joined(cls, texts: Sequence[Text]) -> Text:
        """The documents of all of these, in order."""
        if len(texts) == 1:
            return texts[0]
        documents = np.concatenate([np.diff(text.firsts) for text in texts])
        sentences = concatenate([text.sentences for text in texts])
        return cls(sentences, np.cumsum([0, *documents]))

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

    @property
    def counted_tokens(self) -> int:
        """All of them."""
        return self.tokens

    def counted(self, whole: bool, rank: int, ranks: int, chunk_tokens: int) -> Stream:
        """See :class:`Sentences`."""
        counted = self.documents if whole else self.sentences
        return stream_of(Examples(counted.share(rank, ranks)), chunk_tokens)

    def packed(self, transform: Insert | Keep, length: int) -> PackedText:
        """See :class:`Sentences`."""
        return PackedText(self, transform, length)

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
        tie_bits: see :func:`pretrain.selection.orders.strategies.choose_candidates`.
        seed: of random.
        longest: tokens of a sentence that are looked at; None for all.
    """

    strategy: str
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
        sentences = text.take(numbers)
        if self.longest is not None:
            sentences = sentences.cut_off(self.longest)
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


def lay_out(
    text: Sentences, numbers: np.ndarray, chosen: np.ndarray, transform: Insert | Keep, end_id: int
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
        document_mask: whether documents are kept apart.
    """

    fields = ()

    def __init__(
        self,
        text: Sentences,
        chooser: Chooser,
        transform: Insert | Keep,
        end_id: int,
        sampler: Sampler,
        selection_at: Callable[[int], Any],
        rank: int,
        ranks: int,
        length: int,
        document_mask: bool = True,
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
        self.document_mask = document_mask
        self.packed = text.packed(transform, length)

    def read(self, step: int, selection: Any) -> Rows:
        """Tokens, labels, loss mask and, with `document_mask`, starts of documents of this reader's
        share of a step, each [share, length]."""
        begins = self.sampler.indices(step, self.rank, self.ranks) * self.length
        rows = self._rows(begins).astype(np.int64)
        tokens, labels = rows[:, :-1], rows[:, 1:]
        mask = np.ones(tokens.shape, dtype=np.float32)
        return Rows(tokens, labels, mask, tokens == self.end_id if self.document_mask else None)

    def _rows(self, begins: np.ndarray) -> np.ndarray:
        """[n, length + 1] tokens of the stream from these positions on."""
        if isinstance(self.transform, Keep):
            return self.packed.cut(begins, self.length + 1, self.end_id)
        first = self.packed.at(begins)
        last = self.packed.at(begins + self.length) + 1
        numbers = ranges(first, last)
        chosen = self.chooser(self.text, numbers)
        planned = lay_out(self.text, numbers, chosen, self.transform, self.end_id)
        sequence = np.cumsum([0, *(last - first)])[:-1]
        at = planned.offsets[sequence] + begins - self.packed.starts(first)
        return planned.tokens[at[:, None] + np.arange(self.length + 1)]


class PackedText:
    """The stream of a text in memory; see :class:`Packed`."""

    def __init__(self, text: Text, transform: Insert | Keep, length: int) -> None:
        self.text = text
        numbers = np.arange(len(text.sentences))
        lengths = transform.lengths(text.sentences) + text.opens(numbers)
        self.all_starts = np.concatenate([[0], np.cumsum(lengths)])
        self.positions = int(self.all_starts[-1])
        self.sequences = max(0, (self.positions - 1) // length)
        self.document_content = text.sentences.offsets[text.firsts]
        self.document_starts = self.all_starts[text.firsts]

    def at(self, positions: np.ndarray) -> np.ndarray:
        """[n] sentence that each of these positions belongs to."""
        return np.searchsorted(self.all_starts, positions, side="right") - 1

    def starts(self, numbers: np.ndarray) -> np.ndarray:
        """[n] position with which each of these sentences begins."""
        return self.all_starts[numbers]

    def cut(self, begins: np.ndarray, width: int, end_id: int) -> np.ndarray:
        """[n, width] tokens from these positions on."""
        starts = self.document_starts
        first = np.searchsorted(starts, begins, side="right") - 1
        last = np.searchsorted(starts, begins + width, side="left")
        numbers = ranges(first, last)
        return cut_documents(
            self.text.sentences.tokens,
            self.document_content[numbers],
            (starts[numbers], starts[numbers + 1]),
            np.repeat(begins, last - first),
            width,
            end_id,
        )


def ranges(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """first[0] to last[0] - 1, then first[1] to last[1] - 1, and so on."""
    return np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])


def cut_documents(
    tokens: np.ndarray,
    content: np.ndarray,
    places: tuple[np.ndarray, np.ndarray],
    begins: np.ndarray,
    width: int,
    end_id: int,
) -> np.ndarray:
    """[rows, width] tokens of a stream of documents, each behind `<end>`, row after row.

    Args:
        tokens: of all documents.
        content: [n] where in `tokens` each document that a row touches begins.
        places: [n] positions of the stream at which it begins and ends.
        begins: [n] position at which its row begins.
    """
    starts, ends = places
    first = np.maximum(starts, begins)
    shift = content - starts - 1  # the first position of a document is that of its `<end>`
    parts = Documents.of_slices(tokens, first + shift, np.minimum(ends, begins + width) + shift)
    parts.tokens[parts.offsets[:-1][first == starts]] = end_id
    return parts.tokens.reshape(-1, width)

"""Text as packed sequences, with one selected token in front of each sentence.

The packed text is one stream: each document begins with `<end>`, which is also what ends the one
before it, and each of its sentences stands behind its selected token:

    <end> <plan> t </plan> First sentence. <plan> u </plan> Second sentence. <end> <plan> ...

Sequences are cut from it one after the other. Every label belongs to the document of its input, so
attention never has to leave a document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from pretrain.data.sentences import split_sentences
from pretrain.data.tokenizers import Tokenizer
from pretrain.ragged import Documents, Examples, Stream, concatenate, spread, stream_of
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
        sizes: [documents] int64 bytes of each document's text in UTF-8, where that is known.
    """

    sentences: Documents
    firsts: np.ndarray
    sizes: np.ndarray | None = None

    longest: ClassVar[None] = None

    @classmethod
    def encoded(cls, documents: Iterable[str], tokenizer: Tokenizer) -> Text:
        """Split documents into sentences, each tokenized by itself."""
        documents = list(documents)
        pieces = [split_sentences(document) for document in documents]
        encode = tokenizer.encode
        sentences = Documents.of([encode(piece) for document in pieces for piece in document])
        sizes = np.array([len(document.encode()) for document in documents], dtype=np.int64)
        return cls(sentences, np.cumsum([0, *map(len, pieces)]), sizes)

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

    @cached_property
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

    def spread(self, documents: int | None) -> Text:
        """So many documents, evenly spread over all of them; all if None."""
        numbers = spread(len(self), documents)
        begins, ends = self.firsts[numbers], self.firsts[numbers + 1]
        sizes = None if self.sizes is None else self.sizes[numbers]
        firsts = np.concatenate([[0], np.cumsum(ends - begins)])
        return Text(self.sentences.take(ranges(begins, ends)), firsts, sizes)

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


def lay_out(
    text: Sentences, numbers: np.ndarray, chosen: np.ndarray, transform: Insert | Keep, end_id: int
) -> Documents:
    """These sentences as they stand in the stream: with what is inserted, and behind `<end>` where
    they begin a document.

    Args:
        numbers: [n] of sentences.
        chosen: [n] place of the selected token in each; -1 for a sentence that stays as it is, see
            :meth:`pretrain.selection.orders.transforms.Insert.apply`.
    """
    sentences = text.take(numbers)
    planned = transform.apply(sentences, np.where(chosen < 0, -1, sentences.offsets[:-1] + chosen))
    opens = text.opens(numbers)
    tokens = np.insert(planned.tokens, planned.offsets[:-1][opens], end_id)
    return Documents(tokens, np.concatenate([[0], np.cumsum(planned.lengths + opens)]))


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

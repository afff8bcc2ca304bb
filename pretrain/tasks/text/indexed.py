"""Documents of an indexed corpus as a text of sentences, read where they lie.

Where a sentence or document stands in the packed stream follows from the index alone: the tokens
before it, and as many inserted ones and `<end>` as there are sentences and documents before it. So
what stands at a position is found by bisection in the mapped index, and nothing is computed,
cached or held when a corpus is opened, whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pretrain.data.indexed.format import IndexedCorpus, idx_path
from pretrain.errors import UserError
from pretrain.ragged import Documents, Examples, Stream, concatenate, spread
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.tasks.text.data import Text, cut_documents, ranges

SENTENCE = 1 << 10
"""Of a longer sentence, such as a table, only so many tokens are counted and scored: pairs grow
with the square of its length."""
BLOCK = 1 << 16
"""Tokens of a run of documents that is counted, or left out, together."""


def bisect(
    value_at: Callable[[np.ndarray], np.ndarray],
    targets: np.ndarray,
    low: np.ndarray | int,
    high: np.ndarray | int,
) -> np.ndarray:
    """[n] the last number from `low` to `high` - 1 whose value is at most the target; `low` where
    none is. Values rise with numbers."""
    low = np.broadcast_to(low, targets.shape)
    high = np.broadcast_to(high, targets.shape)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        below = value_at(middle) <= targets
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


class IndexedText:
    """Consecutive documents of a corpus, each sequence a sentence; implements
    :class:`pretrain.tasks.text.data.Sentences`. Documents and sentences are numbered from 0 here.

    Args:
        corpus: what they are of, without empty documents or sequences.
        first, last: its documents first to last - 1; at least one.
        ended: whether each document's last token is `<end>`, which is then no content.
        budget: most tokens to count for the selection, to within a block; None for all.
        checksum: of what is counted.
    """

    longest: int | None = SENTENCE

    def __init__(
        self,
        corpus: IndexedCorpus,
        first: int,
        last: int,
        ended: bool = False,
        budget: int | None = None,
        checksum: str = "",
    ) -> None:
        self.corpus = corpus
        self.first = first
        self.documents = last - first
        self.ended = int(ended)
        self.budget = budget
        self.checksum = checksum
        ends = corpus.boundaries[[first, last]].tolist()
        self.first_sequence = ends[0]
        self.sentences = ends[1] - ends[0]
        self.first_token, end = corpus.token_begins(np.array(ends)).tolist()
        self.tokens = end - self.first_token - self.ended * self.documents

    def __len__(self) -> int:
        return self.documents

    def firsts(self, documents: np.ndarray) -> np.ndarray:
        """[n] sentence with which each of these documents begins; the number of sentences for the
        number of documents."""
        return self.corpus.boundaries[self.first + documents] - self.first_sequence

    def token_begins(self, numbers: np.ndarray) -> np.ndarray:
        """[n] where in the `.bin` each of these sentences begins, in tokens."""
        return self.corpus.token_begins(self.first_sequence + numbers)

    def document_begins(self, documents: np.ndarray) -> np.ndarray:
        """[n] where in the `.bin` each of these documents begins, in tokens."""
        return self.token_begins(self.firsts(documents))

    def document_of(self, numbers: np.ndarray) -> np.ndarray:
        """[n] document of each of these sentences."""
        return bisect(self.firsts, numbers, 0, self.documents)

    def opens(self, numbers: np.ndarray) -> np.ndarray:
        """[n] bool, whether each of these sentences begins a document."""
        return np.asarray(self.firsts(self.document_of(numbers)) == numbers)

    def take(self, numbers: np.ndarray) -> Documents:
        """Sentences of these numbers, in their order.

        Raises:
            UserError: the index is damaged there.
        """
        begins = self.token_begins(numbers)
        ends = begins + self.corpus.lengths[self.first_sequence + numbers]
        if self.ended:
            ends -= self.firsts(self.document_of(numbers) + 1) == numbers + 1
        self._check(numbers, begins, ends)
        return Documents.of_slices(self.corpus.ids, begins, ends)

    def before(self, numbers: np.ndarray, window: int) -> Documents:
        """What stands before each of these sentences in its document, `window` tokens at most."""
        ends = self.token_begins(numbers)
        document = self.document_begins(self.document_of(numbers))
        begins = np.maximum(document, ends - window)
        self._check(numbers, begins, ends)
        return Documents.of_slices(self.corpus.ids, begins, ends)

    def _check(self, numbers: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> None:
        wrong = (begins < 0) | (ends < begins) | (ends > len(self.corpus.ids))
        if wrong.any():
            raise UserError(
                f"{idx_path(self.corpus.prefix)}: sequence "
                f"{self.first_sequence + int(numbers[wrong.argmax()])} reaches beyond the corpus; "
                "the index is damaged: copy or prepare it again"
            )

    def between(self, first: int, last: int) -> Text:
        """Documents first to last - 1, in memory."""
        firsts = self.firsts(np.arange(first, last + 1))
        return Text(self.take(np.arange(firsts[0], firsts[-1])), firsts - firsts[0])

    def spread(self, documents: int | None) -> Text:
        """So many documents, evenly spread over all of them; all if None; in memory."""
        numbers = spread(self.documents, documents)
        begins, ends = self.firsts(numbers), self.firsts(numbers + 1)
        firsts = np.concatenate([[0], np.cumsum(ends - begins)])
        return Text(self.take(ranges(begins, ends)), firsts)

    def packed(self, transform: Insert | Keep, length: int) -> PackedIndexedText:
        """Where sentences stand in the stream that sequences of `length` are cut from."""
        return PackedIndexedText(self, transform, length)

    @property
    def blocks(self) -> np.ndarray:
        """Numbers of the blocks that are counted: all, or evenly spread as many as the budget
        holds. A block is the documents that begin in its `BLOCK` tokens of the `.bin`."""
        there = -(-(self.tokens + self.ended * self.documents) // BLOCK)
        return spread(there, None if self.budget is None else -(-self.budget // BLOCK))

    @property
    def counted_tokens(self) -> int:
        """Tokens that are counted, to within a block."""
        return min(self.tokens, len(self.blocks) * BLOCK)

    def counted(self, whole: bool, rank: int, ranks: int, chunk_tokens: int) -> Stream:
        """A rank's share of the blocks: `whole` documents, or their sentences one by one, read as
        they are asked for."""
        blocks = self.blocks[rank::ranks]
        return lambda: self._chunks(blocks, whole, chunk_tokens)

    def _chunks(self, blocks: np.ndarray, whole: bool, chunk_tokens: int) -> Iterator[Examples]:
        parts: list[Documents] = []
        for block in blocks.tolist():
            text = self._block(block)
            if text is not None:
                parts.append(text.documents if whole else text.sentences.cut_off(SENTENCE))
            if sum(len(part.tokens) for part in parts) >= chunk_tokens:
                yield from Examples(concatenate(parts)).chunks(chunk_tokens)
                parts = []
        if parts:
            yield from Examples(concatenate(parts)).chunks(chunk_tokens)

    def _block(self, block: int) -> Text | None:
        """Documents that begin in a block, in memory; None where none does."""
        limits = self.first_token + BLOCK * np.array([block, block + 1])
        first, last = (bisect(self.document_begins, limits - 1, -1, self.documents) + 1).tolist()
        return self.between(first, last) if first < last else None


class PackedIndexedText:
    """The stream of an indexed text; implements :class:`pretrain.tasks.text.data.Packed`."""

    def __init__(self, text: IndexedText, transform: Insert | Keep, length: int) -> None:
        self.text = text
        self.inserted = transform.inserted
        self.positions = text.tokens + self.inserted * text.sentences + text.documents
        self.sequences = max(0, (self.positions - 1) // length)

    def _start(self, numbers: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """[n] position after all sentences before these, and all `<end>` before their documents."""
        text = self.text
        tokens = text.token_begins(numbers) - text.first_token
        return tokens + self.inserted * numbers + (1 - text.ended) * documents

    def document_starts(self, documents: np.ndarray) -> np.ndarray:
        """[n] position of the `<end>` with which each of these documents begins."""
        return self._start(self.text.firsts(documents), documents)

    def document_at(self, positions: np.ndarray) -> np.ndarray:
        """[n] document that each of these positions belongs to."""
        return bisect(self.document_starts, positions, 0, self.text.documents)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """[n] sentence that each of these positions belongs to."""
        document, firsts = self.document_at(positions), self.text.firsts
        # Behind the document's own `<end>`, which belongs to its first sentence.
        return bisect(
            lambda numbers: self._start(numbers, document) + 1,
            positions,
            firsts(document),
            firsts(document + 1),
        )

    def starts(self, numbers: np.ndarray) -> np.ndarray:
        """[n] position with which each of these sentences begins, its `<end>` included."""
        document = self.text.document_of(numbers)
        return self._start(numbers, document) + (numbers > self.text.firsts(document))

    def cut(self, begins: np.ndarray, width: int, end_id: int) -> np.ndarray:
        """[n, width] tokens from these positions on."""
        first, last = self.document_at(begins), self.document_at(begins + width - 1) + 1
        numbers = ranges(first, last)
        return cut_documents(
            self.text.corpus.ids,
            self.text.document_begins(numbers),
            (self.document_starts(numbers), self.document_starts(numbers + 1)),
            np.repeat(begins, last - first),
            width,
            end_id,
        )

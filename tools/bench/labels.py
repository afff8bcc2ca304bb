"""Words and labels of documents, counted by our own counter from the texts on."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice

import numpy as np
from scipy.sparse import csr_matrix

from pretrain.errors import UserError
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.table.counts import Pairs, ShardedCounts, count_pairs
from tools.bench.cooccurrence import count_vectorizer_labels
from tools.bench.two_ranks import CHUNK_TOKENS

WORD = re.compile(r"\b\w\w+\b")  # what CountVectorizer takes for a word
PARAGRAPH = re.compile(r"\n\s*\n")
LABELS = 50
LABEL_LETTERS = 5


def labelled_paragraphs(text: str, words: int) -> tuple[list[str], list[list[str]]]:
    """The paragraphs that start within the first `words` words of a text, and labels of each.

    A text without labels has to lend some: its 50 most frequent words of five letters or more
    stand in for them, and a paragraph carries those that occur in it.

    Raises:
        UserError: there are no such words.
    """
    texts: list[str] = []
    found: list[list[str]] = []
    for paragraph in PARAGRAPH.split(text):
        if words <= 0:
            break
        if inside := WORD.findall(paragraph.lower()):
            texts.append(paragraph)
            found.append(inside)
            words -= len(inside)
    frequencies = Counter(word for inside in found for word in inside)
    long = (word for word, _ in frequencies.most_common() if len(word) >= LABEL_LETTERS)
    labels = set(islice(long, LABELS))
    if not labels:
        raise UserError(
            f"the corpus has no word of {LABEL_LETTERS} letters; give another text with "
            "--corpus FILE"
        )
    return texts, [sorted(labels.intersection(inside)) for inside in found]


def count_labels(
    texts: list[str], labels: list[list[str]]
) -> tuple[ShardedCounts, list[str], list[str]]:
    """Count what :func:`tools.bench.cooccurrence.count_vectorizer_labels` counts, from the same
    start: documents that hold a word and carry a label, with words and labels in the order in
    which they first occur."""
    source, words = _numbered(WORD.findall(text.lower()) for text in texts)
    target, kinds = _numbered(labels)
    stream = stream_of(Examples(source, target), CHUNK_TOKENS)
    return count_pairs(stream, len(words), len(kinds), Pairs(presence=True)), words, kinds


def _numbered(documents: Iterable[list[str]]) -> tuple[Documents, list[str]]:
    ids: defaultdict[str, int] = defaultdict()
    ids.default_factory = ids.__len__
    flat: list[int] = []
    offsets = [0]
    for document in documents:
        flat += [ids[word] for word in document]
        offsets.append(len(flat))
    return Documents(np.array(flat, dtype=np.int32), np.array(offsets)), list(ids)


def check_labels(texts: list[str], labels: list[list[str]]) -> None:
    """Count once in both ways.

    Raises:
        UserError: the counts differ.
    """
    counts, words, kinds = count_labels(texts, labels)
    start, cols, values = counts.table.cells()
    ours = csr_matrix((values, cols, start), shape=(len(words), len(kinds)))
    theirs, their_words, their_kinds = count_vectorizer_labels(texts, labels)
    same = sorted(words) == their_words and sorted(kinds) == their_kinds
    if not same or (ours[np.argsort(words)][:, np.argsort(kinds)] != theirs).nnz:
        raise UserError("our counts of words and labels differ from scikit-learn's")

"""Texts with sets of labels as sequences: the text, a mark, its labels, an end.

    ascii art stereogram generator ... <plan> game::toys role::program <end>

Labels are tokens of their own, numbered after those of text, so no text is ever taken for one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pretrain.config import Config
from pretrain.data.held_out import hold_out, text_tokenizer
from pretrain.data.jsonl import LabelledText, read_labelled
from pretrain.data.tokenizers import LabelTokenizer
from pretrain.errors import ConfigError
from pretrain.ragged import Documents, spread
from pretrain.tasks.multilabel.config import MultilabelData

SEPARATOR, END = "<plan>", "<end>"
"""Stand before the first label and after the last."""
SHORTEST_TEXT = 8
"""Tokens of a text for which there must be room."""


@dataclass(frozen=True)
class LabelledExamples:
    """Tokenized texts and their labels.

    Attributes:
        source: tokens of each text, cut to what the model has room for.
        target: label numbers of each text, rising; none for a text without labels.
    """

    source: Documents
    target: Documents

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of all tokens and label numbers."""
        hashed = hashlib.sha256(b"labelled")
        for part in (self.source, self.target):
            hashed.update(part.offsets.tobytes())
            hashed.update(part.tokens.tobytes())
        return hashed.hexdigest()

    def take(self, indices: np.ndarray) -> LabelledExamples:
        """The examples of these indices, in their order."""
        return LabelledExamples(self.source.take(indices), self.target.take(indices))

    def shard(self, rank: int, ranks: int) -> LabelledExamples:
        """Every `ranks`-th example, from `rank` on."""
        return self.take(np.arange(rank, len(self), ranks))

    def spread(self, n: int | None) -> LabelledExamples:
        """n examples, evenly spread over all of them; all if None."""
        return self.take(spread(len(self), n))


class Multilabel:
    """Texts with sets of labels, a share of them held out; equal texts lie on one side.

    Labels are numbered alphabetically, which is their natural order. Only labels of at least
    `data.minimum_documents` distinct training texts are kept; others are not part of the task, on
    either side, and `coverage` says how much of the held-out texts' labels that leaves. A text that
    has none of them is kept: what follows it is the end.

    A text is cut to what the longest set of labels leaves of the sequence, whatever its own set, so
    that its length tells nothing about its labels.

    Args:
        config: `data` says which texts, `model.sequence_length` how long a sequence is.

    Attributes:
        tokenizer: of the model's tokens.
        label_names: in the order of their numbers.
        text_tokens: most tokens of a text that are kept.
        longest: labels of the largest set.
        coverage: share of the labels of held-out texts that are kept, in [0, 1].
        train, test: the two sides.

    Raises:
        UserError: a file cannot be read or is malformed.
        ConfigError: no text or no label is left, or a sequence has no room for them.
    """

    def __init__(self, config: Config) -> None:
        data = MultilabelData.of(config)
        train, test = split(data)
        documents = Counter(label for _, label in {(t.text, x) for t in train for x in t.labels})
        self.label_names = tuple(
            sorted(label for label, count in documents.items() if count >= data.minimum_documents)
        )
        if not self.label_names:
            most = max(documents.values(), default=0)
            raise ConfigError(
                f"data.minimum_documents {data.minimum_documents}: no label of {data.path} has as "
                f"many training texts, the most frequent has {most}; lower it"
            )
        self.labels_left_out = len(documents) - len(self.label_names)
        self.tokenizer = LabelTokenizer(
            text_tokenizer(data, (example.text for example in train)), self.label_names
        )
        targets = [self._targets(side) for side in (train, test)]
        self.longest = max(int(target.lengths.max()) for target in targets)
        self.text_tokens = config.model.sequence_length - self.longest - 1
        if self.text_tokens < SHORTEST_TEXT:
            raise ConfigError(
                f"model.sequence_length {config.model.sequence_length} leaves "
                f"{max(0, self.text_tokens)} tokens of a text beside {self.longest} labels, the "
                f"largest set; set it to {self.longest + 1 + SHORTEST_TEXT} or more"
            )
        sources = [self._sources(side) for side in (train, test)]
        self.train, self.test = (
            LabelledExamples(*side) for side in zip(sources, targets, strict=True)
        )
        there = sum(len(example.labels) for example in test)
        self.coverage = len(targets[1].tokens) / there if there else 1.0

    @property
    def first_label(self) -> int:
        """Token id of label 0."""
        return self.tokenizer.text.size

    def __str__(self) -> str:
        return (
            f"{len(self.train):,} training texts, {len(self.test):,} held out, of up to "
            f"{self.text_tokens} tokens; {len(self.label_names)} labels kept, "
            f"{self.labels_left_out} rarer ones left out, which leaves "
            f"{100 * self.coverage:.1f} % of the held-out texts' labels"
        )

    def prompts(self, source: Documents) -> tuple[np.ndarray, np.ndarray]:
        """Texts with the mark after them, from which a model goes on.

        Returns:
            [n, text_tokens + 1] int64, padded, and [n] int64 tokens of each.
        """
        rows = np.full((len(source), self.text_tokens + 1), self.tokenizer.pad_id, dtype=np.int64)
        fill(rows, source, np.zeros(len(source), np.int64))
        rows[np.arange(len(source)), source.lengths] = self.tokenizer.special(SEPARATOR)
        return rows, source.lengths + 1

    def sequences(
        self, source: Documents, target: Documents, length: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, labels and loss mask, each [n, length]; only label tokens and the end count.

        Args:
            source: texts.
            target: label numbers in the order in which they are predicted.
            length: positions of the model.
        """
        rows = np.full((len(source), length + 1), self.tokenizer.pad_id, dtype=np.int64)
        prompts, begins = self.prompts(source)
        rows[:, : prompts.shape[1]] = prompts
        tokens = Documents(target.tokens + np.int32(self.first_label), target.offsets)
        fill(rows, tokens, begins)
        ends = begins + target.lengths
        rows[np.arange(len(rows)), ends] = self.tokenizer.special(END)
        places = np.arange(length)
        mask = (places >= begins[:, None] - 1) & (places < ends[:, None])
        return rows[:, :-1], rows[:, 1:], mask.astype(np.float32)

    def _sources(self, side: Sequence[LabelledText]) -> Documents:
        encode, room = self.tokenizer.encode, self.text_tokens
        return Documents.of([encode(example.text)[:room] for example in side])

    def _targets(self, side: Sequence[LabelledText]) -> Documents:
        numbers = {name: number for number, name in enumerate(self.label_names)}
        return Documents.of(
            [sorted(numbers[x] for x in example.labels if x in numbers) for example in side]
        )


def split(config: MultilabelData) -> tuple[list[LabelledText], list[LabelledText]]:
    """Training and held-out texts; errors: see :func:`pretrain.data.held_out.hold_out`."""
    return hold_out(
        config,
        lambda path: read_labelled(path, config.field_names),
        lambda example: example.text,
        "texts",
        "data.test_fraction",
    )


def fill(rows: np.ndarray, documents: Documents, begins: np.ndarray) -> None:
    """Write each document into its row of [n, width], from position `begins` [n] on."""
    lengths = documents.lengths
    columns = np.arange(len(documents.tokens)) - np.repeat(documents.offsets[:-1] - begins, lengths)
    rows[np.repeat(np.arange(len(rows)), lengths), columns] = documents.tokens

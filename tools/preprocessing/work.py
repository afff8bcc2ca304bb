"""What a process does: tokenize a unit, or move one into the corpus."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pretrain.data.indexed import IndexLayout, token_type
from pretrain.data.sentences import split_sentences
from pretrain.data.tokenizers import load_tokenizer
from tools.preprocessing.chunks import Unit
from tools.preprocessing.documents import Bad, Reader, Rules
from tools.preprocessing.encoding import make_encoder
from tools.preprocessing.shards import (
    Counts,
    PartWriter,
    committed,
    copy_range,
    mark_merged,
    part_path,
)

BATCH_CHARACTERS = 2**19
ENTRIES = 2**20
"""Entries of an index that are written together."""
REPORT_SECONDS = 1.0
END = "<end>"


@dataclass(frozen=True)
class Amount:
    """How much was done."""

    bytes: int = 0
    documents: int = 0
    bad: int = 0
    records: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.bytes + other.bytes,
            self.documents + other.documents,
            self.bad + other.bad,
            self.records + other.records,
        )


Report = Callable[[Amount], None]


@dataclass(frozen=True)
class Settings:
    """What decides the corpus, besides the sources."""

    tokenizer: Path
    sentences: bool
    end: bool
    """A token after each document."""
    rules: Rules


class Workshop:
    """Where a process does its work.

    Args:
        folder: of the units' files.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.tokenizer = load_tokenizer(settings.tokenizer)
        self.dtype = token_type(self.tokenizer.size)
        self._end = (
            np.array(self.tokenizer.special(END), self.dtype).tobytes() if settings.end else b""
        )

    @cached_property
    def _encode(self) -> Callable[[list[str]], list[bytes]]:
        return make_encoder(self.tokenizer, self.dtype)

    def tokenize(self, unit: Unit, report: Report) -> Counts:
        """Write a unit's part, unless it is there.

        Raises:
            UserError: the source cannot be read.
            OSError: the part cannot be written.
        """
        if there := committed(self.folder, unit.number, self.folder / "bin"):
            report(Amount(unit.weight, there.documents, there.bad, there.records))
            return there
        reader = Reader(unit, self.settings.rules)
        text_bytes = blank = told = 0
        clock = time.monotonic()
        behind = Amount()
        with closing(PartWriter(self.folder, unit.number)) as part:
            for texts, bads in _batches(reader):
                for bad in bads:
                    part.add_bad(bad)
                documents = self._encoded(texts)
                part.add(documents, self.dtype.itemsize)
                text_bytes += sum(len(text.encode()) for text in texts)
                blank += len(texts) - len(documents)
                behind += Amount(0, len(documents), len(bads), len(texts) + len(bads))
                if time.monotonic() - clock >= REPORT_SECONDS:
                    report(behind + Amount(reader.position - told))
                    clock, told, behind = time.monotonic(), reader.position, Amount()
            counts = part.commit(
                text_bytes=text_bytes, blank=blank, lines=reader.lines, digests=reader.digests
            )
        report(behind + Amount(unit.weight - told))
        return counts

    def merge(self, counts: Counts, before: Counts, layout: IndexLayout, report: Report) -> None:
        """Put a unit into the corpus.

        Args:
            before: sums over all units before it.

        Raises:
            OSError: it cannot be written.
        """
        width = layout.dtype.itemsize
        if counts.merged_at is None:
            at = before.tokens * width
            size = counts.sizes["tokens"]
            with (self.folder / "bin").open("r+b") as file:
                copy_range(part_path(self.folder, counts.number, "tokens"), file.fileno(), at, size)
            mark_merged(self.folder, counts, at)
        with (self.folder / "idx").open("r+b") as file:
            index = file.fileno()
            lengths = part_path(self.folder, counts.number, "lengths")
            at = layout.lengths + 4 * before.sequences
            copy_range(lengths, index, at, counts.sizes["lengths"])
            begin, at = before.tokens * width, layout.pointers + 8 * before.sequences
            for block in _blocks(lengths, np.dtype("<i4")):
                sizes = block.astype("<i8") * width
                ends = begin + np.cumsum(sizes)
                at += _write(index, ends - sizes, at)
                begin = int(ends[-1])
            at = layout.boundaries + 8 * (before.documents + 1)
            ends_path = part_path(self.folder, counts.number, "documents")
            for block in _blocks(ends_path, np.dtype("<i8")):
                at += _write(index, block + before.sequences, at)
        report(Amount(counts.sizes["tokens"]))

    def _encoded(self, texts: list[str]) -> list[list[bytes]]:
        """The sequences of each document that has a token."""
        if not self.settings.sentences:
            documents = [[ids] for ids in self._encode(texts) if ids]
        else:
            pieces = [split_sentences(text) for text in texts]
            ids = iter(self._encode([piece for each in pieces for piece in each]))
            found = [[content for _ in each if (content := next(ids))] for each in pieces]
            documents = [document for document in found if document]
        if self._end:
            for document in documents:
                document[-1] += self._end
        return documents


def bad_lines(folder: Path, counts: Counts) -> Iterator[Bad]:
    """What a unit could not use; lines are counted from the unit's first."""
    with part_path(folder, counts.number, "bad").open() as file:
        for line in file:
            yield Bad(**json.loads(line))


def _batches(reader: Reader) -> Iterator[tuple[list[str], list[Bad]]]:
    texts: list[str] = []
    bads: list[Bad] = []
    size = 0
    for found in reader:
        if isinstance(found, Bad):
            bads.append(found)
            size += len(found.start)
        else:
            texts.append(found)
            size += len(found)
        if size >= BATCH_CHARACTERS:
            yield texts, bads
            texts, bads, size = [], [], 0
    yield texts, bads


def _blocks(path: Path, dtype: np.dtype) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        while content := file.read(ENTRIES * dtype.itemsize):
            yield np.frombuffer(content, dtype)


def _write(file: int, values: np.ndarray, at: int) -> int:
    content = memoryview(values.astype("<i8").tobytes())
    done = 0
    while done < len(content):
        done += os.pwrite(file, content[done:], at + done)
    return done

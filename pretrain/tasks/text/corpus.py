"""Corpora that were prepared by `tools.preprocess_data`, blended by weight.

A blend is one text to whoever reads it: the sentences of its sources are numbered one source after
the other, and so are the sequences that are cut from their streams. Which of them a step sees is
the sampler's business (:mod:`pretrain.data.blend`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, TypeVar

import numpy as np

from pretrain.config import Config
from pretrain.data.blend import BlendSampler, Source
from pretrain.data.indexed import IndexedCorpus, bin_path, check_tokenizer, idx_path, read_manifest
from pretrain.data.tokenizers import Tokenizer, load_tokenizer
from pretrain.errors import ConfigError, UserError
from pretrain.ragged import Documents, Stream, concatenate
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.tasks.text.config import BlendSource, CorpusData
from pretrain.tasks.text.data import Text
from pretrain.tasks.text.indexed import IndexedText, PackedIndexedText

SIDES = ("training", "validation", "test")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """A source of a blend.

    Attributes:
        name: short, for people and metrics.
        source: as configured.
        fingerprint: of its content, wherever it lies.
        train, held_out: documents of both sides.
    """

    name: str
    source: BlendSource
    fingerprint: str
    train: IndexedText
    held_out: IndexedText

    def __str__(self) -> str:
        return (
            f"{self.name}: {len(self.train):,} documents, {self.train.tokens:,} tokens, "
            f"{len(self.held_out):,} documents held out"
        )


class BlendedCorpus:
    """The corpora of a configuration, each split by documents.

    Args:
        config: `data` says which; `selection` what is counted of them and whether sentences are
            needed.

    Attributes:
        tokenizer: of the model's tokens.
        parts: of the blend.
        train: the training documents of all of them.

    Raises:
        UserError: a file is missing, damaged or made with another tokenizer, or a source is empty.
        ConfigError: a split leaves nothing, or there are no sentences to put tokens before.
    """

    def __init__(self, config: Config) -> None:
        data = CorpusData.of(config)
        assert data.blend is not None
        assert data.tokenizer is not None
        self.tokenizer: Tokenizer = load_tokenizer(data.tokenizer, any_digits=True)
        weights = sum(source.weight for source in data.blend)
        names = short_names([str(source.prefix) for source in data.blend])
        self.parts = tuple(
            self._opened(config, source, name, source.weight / weights)
            for source, name in zip(data.blend, names, strict=True)
        )
        known: dict[str, str] = {}
        for part in self.parts:
            if (twin := known.setdefault(part.fingerprint, part.name)) != part.name:
                raise ConfigError(
                    f"data.blend: {twin} and {part.name} hold the same corpus; name it once, with "
                    "the sum of the weights"
                )
        self.train = BlendedText([part.train for part in self.parts])

    def _opened(self, config: Config, source: BlendSource, name: str, share: float) -> Part:
        data, prefix = CorpusData.of(config), source.prefix
        corpus = IndexedCorpus(prefix)
        check_tokenizer(prefix, self.tokenizer)
        manifest = read_manifest(prefix)
        counted = {name: getattr(corpus, name) for name in ("documents", "sequences", "tokens")}
        for noun, count in counted.items():
            if manifest[noun] != count:
                raise UserError(
                    f"{idx_path(prefix)}: {count:,} {noun}, but the manifest says "
                    f"{manifest[noun]:,}; the files do not belong together: copy all again"
                )
        if not corpus.tokens:
            raise UserError(
                f"{bin_path(prefix)}: the corpus is empty; leave {prefix} out of data.blend, or "
                "prepare it from other sources"
            )
        if config.selection.strategy != "ntp" and not manifest["sentences"]:
            raise ConfigError(
                f"selection.strategy {config.selection.strategy} puts a token in front of each "
                f"sentence, and {prefix} was prepared without --sentences; prepare it with it, or "
                "use selection.strategy ntp"
            )
        fingerprint = fingerprint_of(manifest)
        cuts = split_documents(corpus.documents, data.split_shares)
        sides = dict(zip(SIDES, pairwise(cuts), strict=True))
        for side in ("training", data.evaluate_on):
            if sides[side][0] == sides[side][1]:
                raise ConfigError(
                    f"data.split {data.split}: of the {corpus.documents:,} documents of {prefix} "
                    f"none is left for {side}; give a source with more documents, or {side} a "
                    "larger share"
                )
        tokens = config.selection.fit_tokens
        budget = None if tokens is None else max(1, round(share * tokens))
        counts = json.dumps([fingerprint, sides["training"], budget])
        checksum = hashlib.sha256(counts.encode()).hexdigest()
        ended = manifest["end_of_document"]
        train, held_out = sides["training"], sides[data.evaluate_on]
        return Part(
            name,
            source,
            fingerprint,
            IndexedText(corpus, *train, ended, budget, checksum),
            IndexedText(corpus, *held_out, ended),
        )

    def sampler(
        self,
        packed: PackedBlend,
        config: Config,
        saved: Mapping[str, Any] | None = None,
        step: int = 0,
    ) -> BlendSampler:
        """Which sequences each step sees; `saved` and `step`: see :class:`BlendSampler`."""
        sources = [
            Source(str(part.source.prefix), part.fingerprint, part.source.weight, first, each)
            for part, first, each in zip(self.parts, packed.firsts, packed.each, strict=True)
        ]
        training = config.training
        return BlendSampler(sources, training.global_batch, training.seed, saved, step)

    def held_out(self, documents: int | None) -> dict[str, Text]:
        """So many held-out documents of each source, evenly spread, or all, in memory."""
        return {part.name: part.held_out.spread(documents) for part in self.parts}


class BlendedText:
    """Several indexed texts as one; implements :class:`pretrain.tasks.text.data.Sentences`."""

    longest = IndexedText.longest

    def __init__(self, parts: Sequence[IndexedText]) -> None:
        self.parts = tuple(parts)
        self.offsets = np.cumsum([0, *(part.sentences for part in parts)])
        """[parts + 1] number of each part's first sentence."""

    @property
    def tokens(self) -> int:
        """Tokens of all sentences."""
        return sum(part.tokens for part in self.parts)

    @property
    def checksum(self) -> str:
        """Of everything that a table of counts depends on, in whichever order the sources are."""
        parts = sorted(part.checksum for part in self.parts)
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    @property
    def counted_tokens(self) -> int:
        """Tokens that :meth:`counted` gives, over all ranks, to within a block of each part."""
        return sum(part.counted_tokens for part in self.parts)

    def counted(self, whole: bool, rank: int, ranks: int, chunk_tokens: int) -> Stream:
        """What a rank counts: its share of each part, one after the other."""
        streams = [part.counted(whole, rank, ranks, chunk_tokens) for part in self.parts]
        return lambda: chain.from_iterable(stream() for stream in streams)

    def take(self, numbers: np.ndarray) -> Documents:
        """Sentences of these numbers, in their order."""
        return self._documents(numbers, lambda part, own: part.take(own))

    def before(self, numbers: np.ndarray, window: int) -> Documents:
        """What stands before each of these sentences in its document, `window` tokens at most."""
        return self._documents(numbers, lambda part, own: part.before(own, window))

    def opens(self, numbers: np.ndarray) -> np.ndarray:
        """[n] bool, whether each of these sentences begins a document."""
        opens = np.zeros(len(numbers), dtype=bool)
        for part, here, own in dealt(numbers, self.parts, self.offsets):
            opens[here] = part.opens(own)
        return opens

    def packed(self, transform: Insert | Keep, length: int) -> PackedBlend:
        """Where sentences stand in the streams that sequences of `length` are cut from."""
        return PackedBlend(self, transform, length)

    def _documents(
        self, numbers: np.ndarray, read: Callable[[IndexedText, np.ndarray], Documents]
    ) -> Documents:
        found, places = [], []
        for part, here, own in dealt(numbers, self.parts, self.offsets):
            found.append(read(part, own))
            places.append(here)
        if len(found) == 1:
            return found[0]
        if not found:
            return Documents.of([])
        return concatenate(found).take(np.argsort(np.concatenate(places)))


class PackedBlend:
    """The streams of a blend, one after the other; implements
    :class:`pretrain.tasks.text.data.Packed`.

    Attributes:
        firsts: number of each part's first sequence.
        each: sequences of each part.
    """

    def __init__(self, text: BlendedText, transform: Insert | Keep, length: int) -> None:
        self.text = text
        self.parts: tuple[PackedIndexedText, ...] = tuple(
            part.packed(transform, length) for part in text.parts
        )
        self.each = [part.sequences for part in self.parts]
        self.sequences = sum(self.each)
        self.positions = sum(part.positions for part in self.parts)
        # A part's last label may lie beyond its last sequence.
        rooms = [part.positions // length + 1 for part in self.parts]
        self.firsts = np.cumsum([0, *rooms])[:-1].tolist()
        self.offsets = np.cumsum([0, *rooms]) * length
        """[parts + 1] position with which each part's stream begins."""

    def at(self, positions: np.ndarray) -> np.ndarray:
        """[n] sentence that each of these positions belongs to."""
        found = np.empty(len(positions), dtype=np.int64)
        parts = zip(self.parts, self.text.offsets, strict=False)
        for (part, first), here, own in dealt(positions, tuple(parts), self.offsets):
            found[here] = first + part.at(own)
        return found

    def starts(self, numbers: np.ndarray) -> np.ndarray:
        """[n] position with which each of these sentences begins, its `<end>` included."""
        found = np.empty(len(numbers), dtype=np.int64)
        parts = zip(self.parts, self.offsets, strict=False)
        for (part, first), here, own in dealt(numbers, tuple(parts), self.text.offsets):
            found[here] = first + part.starts(own)
        return found

    def cut(self, begins: np.ndarray, width: int, end_id: int) -> np.ndarray:
        """[n, width] tokens from these positions on."""
        rows = np.empty((len(begins), width), dtype=np.int32)
        for part, here, own in dealt(begins, self.parts, self.offsets):
            rows[here] = part.cut(own, width, end_id)
        return rows


def dealt(
    numbers: np.ndarray, parts: Sequence[Item], offsets: np.ndarray
) -> Iterable[tuple[Item, np.ndarray, np.ndarray]]:
    """Each part that has some of these numbers, with their places and as it numbers them."""
    part_of = np.searchsorted(offsets, numbers, side="right") - 1
    for number in np.unique(part_of).tolist():
        here = np.flatnonzero(part_of == number)
        yield parts[number], here, numbers[here] - offsets[number]


def split_documents(documents: int, shares: Sequence[float]) -> list[int]:
    """[shares + 1] document with which each side begins, and their number.

    Sides take consecutive documents, as Megatron-LM's `--split` has it.
    """
    ends = np.cumsum([0.0, *shares]) / sum(shares)
    return [round(documents * float(end)) for end in ends]


def fingerprint_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of what a corpus holds, by its manifest; the same wherever it and its sources lie."""
    counts = ("documents", "sequences", "tokens", "text_bytes", "sentences", "end_of_document")
    values = [
        [manifest[name] for name in counts],
        manifest["tokenizer"]["fingerprint"],
        [source["checksum"] for source in manifest["sources"]],
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def short_names(prefixes: Sequence[str]) -> list[str]:
    """The last parts of each prefix, as few as tell them apart."""
    parts = [prefix.strip("/").split("/") for prefix in prefixes]
    for kept in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-kept:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(prefixes)

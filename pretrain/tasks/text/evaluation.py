"""Held-out text: scored jointly with the tokens that are inserted, and continued."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.config import Config
from pretrain.data.batch import Batch, positions_of
from pretrain.data.tokenizers import Tokenizer
from pretrain.distributed.topology import Topology
from pretrain.inference.decoding import GreedyDecoder
from pretrain.inference.forward import Forward, token_nats
from pretrain.ragged import Documents
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.tasks.base import Evaluation, Metric
from pretrain.tasks.text.data import END, Text, lay_out
from pretrain.tasks.text.scores import (
    KINDS,
    LikelihoodSums,
    bytes_metrics,
    generation_metrics,
    kinds_of,
    likelihood_metrics,
    sums_by_kind,
)
from pretrain.tasks.text.selection import Chooser

PROMPTS = 8
"""Held-out documents that are continued."""
GENERATED = 32
"""Tokens of a continuation, inserted ones included; at most half of the sequence."""
SENTENCES_SHOWN = 8
BY_SOURCE = ("loss", "joint_bits_per_token", "bits_per_byte", "plain_perplexity")
"""Metrics of each source of a blend."""
TOGETHER = 16
"""Forward passes of an evaluation, for each stage, that go through the pipeline together."""
LOGITS_AT_ONCE = 1 << 24
"""Most logits of one forward pass of an evaluation on a rank."""


class TextEvaluator:
    """Scores held-out documents, packed as in training, each data-parallel rank a share of the
    sequences; and continues some of them.

    Tokens are selected once, when it is made: all ranks must make it together, before batches are
    read.

    Args:
        config: how many sequences at once, and how long they are.
        forward: runs the model.
        tokenizer: of its tokens.
        transform: how selected tokens are inserted.
        texts: held-out documents, by the name of the source that they are of.
        original_share: original tokens for each position that is trained.
        chooser: which token of a sentence is selected.
    """

    def __init__(
        self,
        config: Config,
        forward: Forward,
        tokenizer: Tokenizer,
        transform: Insert | Keep,
        texts: dict[str, Text],
        original_share: float,
        chooser: Chooser,
    ) -> None:
        self.config = config
        self.forward = forward
        self.topology = topology = forward.topology
        self.tokenizer = tokenizer
        self.transform = transform
        self.end_id = tokenizer.special(END)
        self.original_share = original_share
        self.text = Text.joined(list(texts.values()))
        ends = np.cumsum([len(text.sentences) for text in texts.values()]).tolist()
        places = np.concatenate([np.arange(len(text)) for text in texts.values()])
        self.turns = np.argsort(places, kind="stable").tolist()
        """Documents, the first of each source before the second of any."""
        self.spans = dict(zip(texts, pairwise([0, *ends]), strict=True))
        """First sentence of each source, and the one after its last."""
        self.bytes = {name: text_bytes(text, tokenizer) for name, text in texts.items()}
        self.chosen = choose_together(chooser, self.text, topology)
        self.decoder = GreedyDecoder(forward)

    def run(self, selector: Chooser) -> Evaluation:
        """Score, and add up over the data-parallel ranks.

        Args:
            selector: not asked again: which tokens are selected does not change.
        """
        started = time.perf_counter()
        sums = {name: self._both(*span) for name, span in self.spans.items()}
        planned, plain = (LikelihoodSums.total(each) for each in zip(*sums.values(), strict=True))
        generation, samples = self._generate()
        return Evaluation(
            headline="joint_bits_per_token",
            metrics=(
                *likelihood_metrics(planned, plain),
                *bytes_metrics(planned, list(self.bytes.values())),
                *self._by_source(sums),
                Metric("original_tokens_per_position", self.original_share, None, "ratio"),
                *generation,
            ),
            unit_accuracy=(),
            examples=len(self.text),
            seconds=time.perf_counter() - started,
            samples=(*samples, *self._sentences()),
        )

    def _laid_out(self, transform: Insert | Keep, first: int, last: int) -> Documents:
        """Sentences first to last - 1 of the held-out text as they stand in the stream."""
        numbers = np.arange(first, last)
        return lay_out(self.text, numbers, self.chosen[numbers], transform, self.end_id)

    def _both(self, first: int, last: int) -> tuple[LikelihoodSums, LikelihoodSums]:
        """Sums over these sentences as they are predicted, and with nothing inserted."""
        planned = self._likelihood(self.transform, first, last)
        if isinstance(self.transform, Keep):
            return planned, planned
        return planned, self._likelihood(Keep(), first, last)

    def _by_source(self, sums: dict[str, tuple[LikelihoodSums, LikelihoodSums]]) -> list[Metric]:
        """What is said of each source that has a name."""
        metrics: list[Metric] = []
        for name, (planned, plain) in sums.items():
            if name:
                found = {
                    metric.name: replace(metric, name=f"{metric.name}/{name}")
                    for metric in (
                        Metric("loss", planned.mean(*range(KINDS)), "lower", "nats"),
                        *likelihood_metrics(planned, plain),
                        *bytes_metrics(planned, [self.bytes[name]]),
                    )
                }
                metrics += [found[key] for key in BY_SOURCE if key in found]
        return metrics

    def _likelihood(
        self, transform: Insert | Keep, first: int = 0, last: int | None = None
    ) -> LikelihoodSums:
        """Sums over these sentences of the held-out text, the same on every rank."""
        planned = self._laid_out(transform, first, len(self.chosen) if last is None else last)
        kinds = kinds_of(planned, transform, self.end_id)
        # The last document ends, too; the first label is that of the first `<end>`.
        stream = np.append(planned.tokens, self.end_id).astype(np.int64)
        kinds = np.append(kinds[1:], kinds[0])
        length, data = self.config.model.sequence_length, self.topology.data
        count = -(-len(kinds) // length)
        tokens = _rows(stream[:-1], count, length, self.tokenizer.pad_id)
        labels = _rows(stream[1:], count, length, self.tokenizer.pad_id)
        kinds = _rows(kinds, count, length, -1)
        share = -(-count // data.size)
        mine = np.arange(data.rank, data.rank + share * data.size, data.size)
        kinds = np.where((mine < count)[:, None], kinds[mine % count], -1)
        local = self._forward(tokens[mine % count], labels[mine % count], kinds)
        return LikelihoodSums.of(self.topology.sum_of_last_stages(local))

    def _forward(self, tokens: np.ndarray, labels: np.ndarray, kinds: np.ndarray) -> Tensor:
        """[2, KINDS] float64 nats and counts of these sequences [n, s], on the last stage; every
        data-parallel rank has as many."""
        length, topology = self.config.model.sequence_length, self.topology
        most = LOGITS_AT_ONCE * topology.tensor.size // (length * self.forward.vocabulary)
        size = max(1, min(self.config.training.evaluation_batch, most, len(tokens)))
        parts = self.forward.parts
        batches = -(-len(tokens) // (size * parts)) * parts
        order = np.arange(batches * size)
        kinds = np.where((order < len(tokens))[:, None], kinds[order % len(tokens)], -1)
        total = torch.zeros(2, KINDS, dtype=torch.float64, device=topology.device)
        rows = order.reshape(batches, size)
        for first in range(0, batches, TOGETHER * parts):
            scored = [
                (self._batch(tokens[part % len(tokens)], labels[part % len(tokens)]), kinds[part])
                for part in rows[first : first + TOGETHER * parts]
            ]
            sums = self.forward.run(
                scored, (size, length), lambda chunk, part: token_nats(chunk, part[0]), _by_kind
            )
            if sums:
                total += torch.stack(sums).sum(dim=0)
        return total

    def _batch(self, tokens: np.ndarray, labels: np.ndarray) -> Batch:
        inputs = torch.from_numpy(tokens)
        return Batch(
            inputs,
            torch.from_numpy(labels),
            torch.ones(inputs.shape),
            inputs.numel(),
            positions_of(inputs == self.end_id) if self.config.data.packs_documents else None,
        ).to(self.topology.device)

    def _generate(self) -> tuple[tuple[Metric, ...], list[dict[str, Any]]]:
        """Continue the beginnings of held-out documents; every rank continues all of them."""
        units = min(GENERATED, self.config.model.sequence_length // 2)
        prompts = list(self._prompts(self.config.model.sequence_length - units))
        if not prompts:
            return (), []
        tokenizer, restore = self.tokenizer, self.transform.restore
        shown = partial(tokenizer.decode, specials=True)
        lengths = np.array([len(tokens) for _, tokens in prompts])
        source = np.full((len(prompts), lengths.max()), tokenizer.pad_id, dtype=np.int64)
        for row, (_, tokens) in zip(source, prompts, strict=True):
            row[: len(tokens)] = tokens
        written = self.decoder.generate(source, units, tokenizer.pad_id, lengths)
        generated, pairs, samples = [], [], []
        for (begin, prompt), raw in zip(prompts, written, strict=True):
            raw = self._finished(raw)
            restored = restore(raw)
            # As many tokens as were generated, once those that were inserted are gone.
            true = self._true(begin, max(1, len(restored)))
            generated.append(restored.tolist())
            pairs.append((tokenizer.decode(true), tokenizer.decode(restored)))
            samples.append(
                {
                    "kind": "generation",
                    "source": shown(restore(prompt[prompt != self.end_id])),
                    "target": shown(true),
                    "prediction": shown(restored),
                    "raw": shown(raw),
                    "selected": [shown([token]) for token in self._plans(raw)],
                }
            )
        return generation_metrics(generated, pairs), samples

    def _finished(self, raw: np.ndarray) -> np.ndarray:
        """Written tokens up to the end, without a token whose closing mark was cut off."""
        ended = np.flatnonzero(raw == self.end_id)
        raw = raw[: ended[0]] if len(ended) else raw
        transform = self.transform
        cut_off = isinstance(transform, Insert) and transform.opening in raw[-2:-1]
        return raw[:-2] if cut_off else raw

    def _prompts(self, room: int) -> Iterator[tuple[int, np.ndarray]]:
        """(sentence from which to go on, tokens before it) of documents whose first sentences fit
        `room`; half of the document's sentences at most."""
        found = 0
        for first, last in (self.text.firsts[turn : turn + 2] for turn in self.turns):
            laid = self._laid_out(self.transform, int(first), int(last))
            fitting = int(np.searchsorted(laid.offsets, room, side="right")) - 1
            sentences = min(fitting, (last - first) // 2)
            if sentences < 1 or self._true(int(first) + sentences, 1).size == 0:
                continue
            yield int(first) + sentences, laid.tokens[: laid.offsets[sentences]]
            found += 1
            if found == PROMPTS:
                return

    def _true(self, sentence: int, tokens: int) -> np.ndarray:
        """Original tokens from this sentence on, within its document."""
        firsts, offsets = self.text.firsts, self.text.sentences.offsets
        end = offsets[firsts[np.searchsorted(firsts, sentence, side="right")]]
        begin = offsets[sentence]
        return self.text.sentences.tokens[begin : min(begin + tokens, end)]

    def _plans(self, raw: np.ndarray) -> list[int]:
        """Tokens between two marks."""
        transform = self.transform
        if isinstance(transform, Keep):
            return []
        opens = (raw[:-2] == transform.opening) & (raw[2:] == transform.closing)
        return [int(token) for token in raw[1:-1][opens]]

    def _sentences(self) -> list[dict[str, Any]]:
        """The first held-out sentences with the place of the token that is selected in each."""
        if self.config.selection.strategy in ("ntp", "blank"):
            return []
        shown, sentences = partial(self.tokenizer.decode, specials=True), self.text.sentences
        several = np.flatnonzero(sentences.lengths > 1)[:SENTENCES_SHOWN]
        samples = []
        for number in several.tolist():
            tokens = sentences.between(number, number + 1).tokens
            place = int(self.chosen[number])
            samples.append(
                {
                    "kind": "sentence",
                    "text": shown(tokens),
                    "tokens": [shown([token]) for token in tokens],
                    "position": place,
                    "selected": shown([tokens[place]]),
                }
            )
        return samples


def choose_together(chooser: Chooser, text: Text, topology: Topology) -> np.ndarray:
    """[sentences] int64 place of the token selected in each, the same on every rank.

    Readers choose for a share each, and tell the other ranks of their model copy.
    """
    count = len(text.sentences)
    chosen = torch.zeros(count, dtype=torch.int64)
    readers, feed = topology.readers, topology.feed
    if readers is not None:
        mine = np.arange(readers.rank, count, readers.size)
        chosen[torch.from_numpy(mine)] = torch.from_numpy(chooser(text, mine))
        if readers.size > 1:
            dist.all_reduce(chosen, group=readers.group)
    if feed.size > 1:
        dist.broadcast(chosen, dist.get_global_rank(feed.group, 0), group=feed.group)
    return chosen.numpy()


def text_bytes(text: Text, tokenizer: Tokenizer) -> int | None:
    """Bytes of a text in UTF-8; None where its tokens do not tell the text: a tokenizer that loses
    some of it would need fewer bits for as many bytes, and <unk> can be anything."""
    if not tokenizer.lossless or tokenizer.unknown_id in text.sentences.tokens:
        return None
    documents = text.documents
    size = sum(
        len(tokenizer.decode(documents.between(number, number + 1).tokens).encode())
        for number in range(len(documents))
    )
    return size if text.sizes is None or size == text.sizes.sum() else None


def _rows(values: np.ndarray, count: int, length: int, fill: int) -> np.ndarray:
    """[n] cut into [count, length], the rest filled."""
    rows = np.full(count * length, fill, dtype=np.int64)
    rows[: len(values)] = values
    return rows.reshape(count, length)


def _by_kind(losses_bs: Tensor, part: tuple[Batch, np.ndarray]) -> Tensor:
    """Sums of the losses of each kind of label."""
    return sums_by_kind(losses_bs, torch.from_numpy(part[1]).to(losses_bs.device))

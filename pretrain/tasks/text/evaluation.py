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
from pretrain.selection.orders.plans import Plans, uniform_numbers
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.tasks.base import Evaluation, Metric
from pretrain.tasks.text.bounds import bounds_of, shared
from pretrain.tasks.text.data import END, Text, lay_out, ranges
from pretrain.tasks.text.scores import (
    KINDS,
    LikelihoodSums,
    Scored,
    bound_metrics,
    bytes_metrics,
    generation_metrics,
    kinds_of,
    likelihood_metrics,
)
from pretrain.tasks.text.selection import Chooser
from pretrain.tasks.text.windows import Windows

PROMPTS = 8
"""Held-out documents that are continued."""
GENERATED = 32
"""Tokens of a continuation, inserted ones included; at most half of the sequence."""
SENTENCES_SHOWN = 8
DRAWN, CHAINED = 1 << 20, 2 << 20
"""Parts of the keys of what evaluations draw, apart from the epochs of training."""
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
        self.plans = plans_together(chooser, self.text, topology)
        selection = config.selection
        several = self.plans.counts.max(initial=0) > 1
        draws = selection.plan_draws if several else 1
        numbers = np.arange(len(self.text.sentences))
        self.columns = np.stack(
            [
                self.plans.drawn(uniform_numbers((selection.seed, DRAWN, k), numbers, 1)[:, 0])
                for k in range(draws)
            ]
        )
        """[draws, sentences] which of its plans each sentence has in each draw."""
        self.chosen = self.plans.at(self.columns[0])
        """[sentences] place of the token that is selected in each by the first draw."""
        self.decoder = GreedyDecoder(forward)

    def run(self, selector: Chooser) -> Evaluation:
        """Score, and add up over the data-parallel ranks.

        Args:
            selector: not asked again: which tokens are selected does not change.
        """
        started = time.perf_counter()
        scored = {name: self._scored(*span) for name, span in self.spans.items()}
        whole = Scored.total(list(scored.values()))
        planned, plain = whole.planned, whole.plain
        generation, samples = self._generate()
        return Evaluation(
            headline="joint_bits_per_token",
            metrics=(
                *likelihood_metrics(planned, plain),
                *bytes_metrics(planned, list(self.bytes.values())),
                *bound_metrics(whole, list(self.bytes.values())),
                *self._by_source(scored),
                Metric("original_tokens_per_position", self.original_share, None, "ratio"),
                *generation,
            ),
            unit_accuracy=(),
            examples=len(self.text),
            seconds=time.perf_counter() - started,
            samples=(*samples, *self._sentences()),
        )

    def _laid_out(
        self, transform: Insert | Keep, first: int, last: int, chosen: np.ndarray | None = None
    ) -> Documents:
        """Sentences first to last - 1 of the held-out text as they stand in the stream."""
        numbers, chosen = np.arange(first, last), self.chosen if chosen is None else chosen
        return lay_out(self.text, numbers, chosen[numbers], transform, self.end_id)

    def _scored(self, first: int, last: int) -> Scored:
        """Scores of these sentences."""
        plain_windows = self._windows(Keep(), self.chosen, first, last)
        plain, _ = self._score(plain_windows)
        if isinstance(self.transform, Keep):
            return Scored(plain, plain)
        plans = self.plans.between(first, last)
        windows = self._windows(self.transform, self.chosen, first, last)
        columns = shared(self.columns[:, first:last], windows)

        def score(chosen: np.ndarray) -> tuple[LikelihoodSums, np.ndarray]:
            places = self.chosen.copy()
            places[first:last] = plans.at(chosen)
            return self._score(self._windows(self.transform, places, first, last))

        sums, cells = zip(*map(score, columns), strict=True)
        selection = self.config.selection
        numbers = None
        if selection.plan_chain:
            key = (selection.seed, CHAINED, 0)
            numbers = uniform_numbers(key, np.arange(first, last), 1)[:, 0]
        bounds = bounds_of(
            plans,
            windows,
            columns,
            np.stack(cells),
            lambda chosen: score(chosen)[1],
            selection.plan_draws,
            numbers,
        )
        unmarked = None
        if selection.plan_share < 1.0:
            unmarked, _ = self._score(plain_windows, self.transform.opening)
        return Scored(LikelihoodSums.drawn(sums), plain, bounds, unmarked)

    def _by_source(self, scored: dict[str, Scored]) -> list[Metric]:
        """What is said of each source that has a name."""
        metrics: list[Metric] = []
        for name, each in scored.items():
            planned, plain = each.planned, each.plain
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

    def _windows(
        self, transform: Insert | Keep, chosen: np.ndarray, first: int, last: int
    ) -> Windows:
        """Sentences first to last - 1 of the held-out text, cut into windows."""
        planned = self._laid_out(transform, first, last, chosen)
        documents = np.searchsorted(self.text.firsts, np.arange(first, last), side="right")
        return Windows.of(
            planned,
            kinds_of(planned, transform, self.end_id),
            documents,
            self.config.model.sequence_length,
            self.end_id,
            self.tokenizer.pad_id,
            self.config.data.packs_documents,
        )

    def _score(
        self, windows: Windows, without: int | None = None
    ) -> tuple[LikelihoodSums, np.ndarray]:
        """Sums by kind, and [cells] nats, the same on every rank.

        Args:
            without: a token that the model is not allowed to write: the others have all of the
                probability.
        """
        data, count = self.topology.data, len(windows.tokens)
        mine = np.arange(data.rank, data.rank + -(-count // data.size) * data.size, data.size)
        rows = mine % count
        nats = self._nats(windows.tokens[rows], windows.labels[rows])
        if without is not None:
            # -log of what a token has of all but one: their difference from 1 - p of that one. What
            # is less than one float is taken for one, which only makes the nats more.
            labels = np.full_like(windows.labels[rows], without)
            avoided = self._nats(windows.tokens[rows], labels).clamp(min=2.0**-20)
            nats = nats + torch.log1p(-torch.exp(-avoided))
        local = nats.new_zeros(KINDS + len(windows.cell_units))
        if self.topology.is_last_stage:
            counted = torch.from_numpy(mine < count)
            kinds, cells = (
                torch.where(counted[:, None], torch.from_numpy(each[rows]), -1).flatten() + 1
                for each in (windows.kinds, windows.cells)
            )
            for part, numbers in zip(
                local.split([KINDS, len(local) - KINDS]), (kinds, cells), strict=True
            ):
                there = numbers.to(nats.device)
                summed = torch.bincount(there, nats.flatten(), minlength=len(part) + 1)
                part += summed[1:]
        total = self.topology.sum_of_last_stages(local).cpu().numpy()
        counts = np.bincount(windows.kinds.flatten() + 1, minlength=KINDS + 1)[1:]
        return LikelihoodSums(total[:KINDS], counts), total[KINDS:]

    def _nats(self, tokens: np.ndarray, labels: np.ndarray) -> Tensor:
        """[n, s] float64 nats of the labels of these sequences, on the last stage; every
        data-parallel rank has as many. Zeros elsewhere."""
        length, topology = self.config.model.sequence_length, self.topology
        most = LOGITS_AT_ONCE * topology.tensor.size // (length * self.forward.vocabulary)
        size = max(1, min(self.config.training.evaluation_batch, most, len(tokens)))
        parts = self.forward.parts
        batches = -(-len(tokens) // (size * parts)) * parts
        rows = (np.arange(batches * size) % len(tokens)).reshape(batches, size)
        found: list[Tensor] = []
        for first in range(0, batches, TOGETHER * parts):
            scored = [
                self._batch(tokens[part], labels[part])
                for part in rows[first : first + TOGETHER * parts]
            ]
            found += self.forward.run(
                scored, (size, length), token_nats, lambda nats, _: nats.double()
            )
        if not found:
            return torch.zeros(tokens.shape, dtype=torch.float64, device=topology.device)
        return torch.cat(found)[: len(tokens)]

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


def plans_together(chooser: Chooser, text: Text, topology: Topology) -> Plans:
    """q(z | sentence) of each sentence, the same on every rank.

    Readers choose for a share each, and tell the other ranks of their model copy.
    """
    count = len(text.sentences)
    shares = torch.zeros(len(text.sentences.tokens), dtype=torch.float64)
    readers, feed = topology.readers, topology.feed
    if readers is not None:
        mine = np.arange(readers.rank, count, readers.size)
        own, sentences = chooser.shares(text, mine)
        places = ranges(text.sentences.offsets[mine], text.sentences.offsets[mine + 1])
        assert len(own) == len(sentences.tokens) == len(places)
        shares[torch.from_numpy(places)] = torch.from_numpy(own)
        if readers.size > 1:
            dist.all_reduce(shares, group=readers.group)
    if feed.size > 1:
        dist.broadcast(shares, dist.get_global_rank(feed.group, 0), group=feed.group)
    return Plans.of(shares.numpy(), text.sentences.offsets)


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

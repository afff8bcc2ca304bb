"""Text in a training job: a selected token in front of each sentence, scored jointly with it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.config import FITTED_STRATEGIES, Config
from pretrain.data.batch import Batch, Sampler, positions_of
from pretrain.data.tokenizers import Tokenizer, WordTokenizer
from pretrain.distributed.topology import Topology
from pretrain.errors import ConfigError, UserError
from pretrain.ragged import Documents, Examples
from pretrain.selection.estimators.pointwise import Scorer
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.selection.schedule import Fitter, SelectionSchedule, evidence, origin, pointwise_of
from pretrain.selection.selector import Selection, counting_device
from pretrain.selection.table.collectives import world
from pretrain.selection.table.counts import Pairs, Progress, ShardedCounts, count_pairs, window
from pretrain.selection.table.store import Content
from pretrain.tasks.base import Evaluation, FixedExamples
from pretrain.tasks.text.data import (
    END,
    Chooser,
    Corpus,
    Packed,
    PlannedText,
    Sentences,
    Text,
    lay_out,
)
from pretrain.tasks.text.scores import (
    KINDS,
    LikelihoodSums,
    bytes_metrics,
    generation_metrics,
    kinds_of,
    likelihood_metrics,
    sums_by_kind,
)

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


def transform_of(strategy: str, tokenizer: Tokenizer) -> Insert | Keep:
    """What a strategy does to a sentence once its token is selected."""
    if strategy == "ntp":
        return Keep()
    opening, closing = tokenizer.special("<plan>"), tokenizer.special("</plan>")
    return Insert(opening, closing, tokenizer.special("<blank>") if strategy == "blank" else None)


class TextFitter:
    """Counts which tokens stand together: in a sentence, or a token with those before it in its
    document, up to the length of a sequence.

    Args:
        config: `selection` says how.
        text: the training text.
        tokenizer: of its tokens.
    """

    def __init__(self, config: Config, text: Sentences, tokenizer: Tokenizer) -> None:
        self.config = config
        self.text = text
        self.tokenizer = tokenizer

    @property
    def window(self) -> int | None:
        """Tokens before a sentence by which it is scored; None for its own."""
        before = self.config.selection.features == "before"
        return self.config.model.sequence_length if before else None

    @property
    def made_from(self) -> dict[str, Any]:
        """What a table depends on."""
        features = self.config.selection.features
        return origin(
            self.config, self.text.checksum, self.tokenizer, features=features, window=self.window
        )

    @property
    def tokens(self) -> int:
        """Each token is counted twice."""
        return 2 * self.text.counted_tokens

    def fit(
        self, group: dist.ProcessGroup | None, progress: Progress
    ) -> tuple[Selection, ShardedCounts | None]:
        """Count this reader's share of the training documents, together with the others."""
        settings = self.config.selection
        if settings.strategy not in FITTED_STRATEGIES:
            return Selection(settings.strategy, (), ()), None
        started = time.perf_counter()
        size = self.tokenizer.size
        table = count_pairs(
            self.text.counted(self.window is not None, *world(group), settings.chunk_tokens),
            size,
            size,
            Pairs() if self.window is None else window(self.window, "left"),
            group,
            settings.memory_bytes,
            progress=progress,
            device=counting_device(settings),
        )
        return self._selected(table, time.perf_counter() - started), table

    def select(self, table: Content) -> Selection:
        """Each sentence's own choice, by this table."""
        if not isinstance(table, ShardedCounts):
            raise UserError(
                f"the table holds positions, not the tokens that data.task "
                f"{self.config.data.task} asks for"
            )
        return self._selected(table, 0.0)

    def _selected(self, table: ShardedCounts, seconds: float) -> Selection:
        return Selection(
            self.config.selection.strategy,
            order=(),
            unit_names=(),
            estimator=self.config.selection.estimator,
            examples=table.marginals.documents,
            rows=sum(table.rows_per_rank),
            rows_per_rank=table.rows_per_rank,
            seconds=seconds,
            evidence=evidence(table, self.config.selection),
        )

    def chooser(self, table: Content | None) -> Chooser:
        """Which token of a sentence is selected, by this table where the strategy needs one."""
        settings = self.config.selection
        scorer = None
        if table is not None:
            assert isinstance(table, ShardedCounts)
            scorer = Scorer(table, pointwise_of(settings))
        return Chooser(
            settings.strategy,
            scorer,
            self.window,
            settings.tie_bits,
            settings.seed,
            self.text.longest,
        )

    def stream(self, table: Content, indices: np.ndarray) -> Iterable[Examples]:
        """Nothing: a table of PMI stays as it was fitted (`selection.refresh_every` is refused)."""
        return ()


class PackedWork:
    """Sequences cut from a stream of text, whether it lies in a file of text or is prepared.

    Args:
        config: of the run.
        text: the training text.
        tokenizer: of its tokens.
        summary: how much there is of it, for people.

    Raises:
        ConfigError: the text is shorter than a sequence.
    """

    def __init__(self, config: Config, text: Sentences, tokenizer: Tokenizer, summary: str) -> None:
        self.config = config
        self.text = text
        self.tokenizer = tokenizer
        self.summary = summary
        self.transform = transform_of(config.selection.strategy, tokenizer)
        self.end_id = tokenizer.special(END)
        self.text_fitter = TextFitter(config, text, tokenizer)
        self.fitter: Fitter = self.text_fitter
        self.facts: dict[str, Any] = {}
        self.packed: Packed = text.packed(self.transform, config.model.sequence_length)
        self.examples = self.packed.sequences

    def source(
        self, schedule: SelectionSchedule, sampler: Sampler, topology: Topology
    ) -> PlannedText:
        """Batches of this rank."""
        return PlannedText(
            self.text,
            self.text_fitter.chooser(schedule.table),
            self.transform,
            self.end_id,
            sampler,
            schedule,
            topology.reader_rank,
            topology.data.size,
            self.config.model.sequence_length,
            self.config.data.document_mask,
        )

    @property
    def fingerprints(self) -> dict[str, str]:
        """Nothing, where the sampler knows its sources again by itself."""
        return {}

    @property
    def original_share(self) -> float:
        """Original tokens for each position that is trained."""
        return self.text.tokens / self.packed.positions

    def held_out(self) -> dict[str, Text]:
        """Held-out documents to score, by the name of the source that they are of."""
        raise NotImplementedError

    def evaluator(
        self, topology: Topology, module: Any, schedule: SelectionSchedule
    ) -> TextEvaluator:
        """Scores the model chunks in `module`."""
        return TextEvaluator(self, topology, module, self.text_fitter.chooser(schedule.table))


class TextWork(PackedWork, FixedExamples):
    """Text as a training job sees it.

    Raises:
        UserError: a file cannot be read or is malformed.
        ConfigError: the text is shorter than a sequence.
    """

    def __init__(self, config: Config) -> None:
        self.corpus = corpus = Corpus(config.data)
        super().__init__(config, corpus.train, corpus.tokenizer, str(corpus))
        if not self.examples:
            raise ConfigError(
                f"data.path {config.data.path}: {corpus.train.tokens} training tokens are too few "
                f"for one sequence of model.sequence_length {config.model.sequence_length}; lower "
                "it, or give more text"
            )

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of both sides."""
        return {"training": self.corpus.train.checksum, "held_out": self.corpus.test.checksum}

    def held_out(self) -> dict[str, Text]:
        """Held-out documents to score."""
        test = self.corpus.test.head(self.config.training.evaluation_examples)
        if not test.tokens:
            raise ConfigError("the held-out documents have no token; set data.test_fraction higher")
        return {"": test}


class TextEvaluator:
    """Scores held-out documents, packed as in training, each data-parallel rank a share of the
    sequences; and continues some of them.

    Tokens are selected once, when it is made: all ranks must make it together, before batches are
    read.
    """

    def __init__(self, work: PackedWork, topology: Topology, module: Any, chooser: Chooser) -> None:
        from pretrain.inference.decoding import GreedyDecoder  # loads Megatron-Core

        self.work = work
        self.config = work.config
        self.topology = topology
        self.module = module
        self.chunks = list(module)
        texts = work.held_out()
        self.text = Text.joined(list(texts.values()))
        ends = np.cumsum([len(text.sentences) for text in texts.values()]).tolist()
        places = np.concatenate([np.arange(len(text)) for text in texts.values()])
        self.turns = np.argsort(places, kind="stable").tolist()
        """Documents, the first of each source before the second of any."""
        self.spans = dict(zip(texts, pairwise([0, *ends]), strict=True))
        """First sentence of each source, and the one after its last."""
        self.bytes = {name: text_bytes(text, work.tokenizer) for name, text in texts.items()}
        self.chosen = choose_together(chooser, self.text, topology)
        self.decoder = GreedyDecoder(self.config, topology, self.chunks)

    def run(self, selection: Selection) -> Evaluation:
        """Score, and add up over the data-parallel ranks."""
        started = time.perf_counter()
        self.module.eval()
        sums = {name: self._both(*span) for name, span in self.spans.items()}
        planned, plain = (LikelihoodSums.total(each) for each in zip(*sums.values(), strict=True))
        generation, samples = self._generate()
        metrics = {
            **likelihood_metrics(planned, plain),
            **bytes_metrics(planned, list(self.bytes.values())),
            **self._by_source(sums),
            "original_tokens_per_position": self.work.original_share,
            **generation,
        }
        return Evaluation(
            headline="joint_bits_per_token",
            higher_is_better=False,
            metrics=metrics,
            unit_accuracy=(),
            examples=len(self.text),
            seconds=time.perf_counter() - started,
            samples=(*samples, *self._sentences()),
        )

    def _laid_out(self, transform: Insert | Keep, first: int, last: int) -> Documents:
        """Sentences first to last - 1 of the held-out text as they stand in the stream."""
        numbers = np.arange(first, last)
        return lay_out(self.text, numbers, self.chosen[numbers], transform, self.work.end_id)

    def _both(self, first: int, last: int) -> tuple[LikelihoodSums, LikelihoodSums]:
        """Sums over these sentences as they are predicted, and with nothing inserted."""
        planned = self._likelihood(self.work.transform, first, last)
        if isinstance(self.work.transform, Keep):
            return planned, planned
        return planned, self._likelihood(Keep(), first, last)

    def _by_source(
        self, sums: dict[str, tuple[LikelihoodSums, LikelihoodSums]]
    ) -> dict[str, float]:
        """What is said of each source that has a name."""
        metrics: dict[str, float] = {}
        for name, (planned, plain) in sums.items():
            if name:
                told = {
                    "loss": planned.mean(*range(KINDS)),
                    **likelihood_metrics(planned, plain),
                    **bytes_metrics(planned, [self.bytes[name]]),
                }
                metrics |= {f"{key}/{name}": told[key] for key in BY_SOURCE if key in told}
        return metrics

    @torch.no_grad()
    def _likelihood(
        self, transform: Insert | Keep, first: int = 0, last: int | None = None
    ) -> LikelihoodSums:
        """Sums over these sentences of the held-out text, the same on every rank."""
        planned = self._laid_out(transform, first, len(self.chosen) if last is None else last)
        kinds = kinds_of(planned, transform, self.work.end_id)
        # The last document ends, too; the first label is that of the first `<end>`.
        stream = np.append(planned.tokens, self.work.end_id).astype(np.int64)
        kinds = np.append(kinds[1:], kinds[0])
        length, data = self.config.model.sequence_length, self.topology.data
        count = -(-len(kinds) // length)
        tokens = _rows(stream[:-1], count, length, self.work.tokenizer.pad_id)
        labels = _rows(stream[1:], count, length, self.work.tokenizer.pad_id)
        kinds = _rows(kinds, count, length, -1)
        share = -(-count // data.size)
        mine = np.arange(data.rank, data.rank + share * data.size, data.size)
        kinds = np.where((mine < count)[:, None], kinds[mine % count], -1)
        local = self._forward(tokens[mine % count], labels[mine % count], kinds)
        return LikelihoodSums.of(self.topology.sum_of_last_stages(local))

    def _forward(self, tokens: np.ndarray, labels: np.ndarray, kinds: np.ndarray) -> Tensor:
        """[2, KINDS] float64 nats and counts of these sequences [n, s], on the last stage; every
        data-parallel rank has as many."""
        from megatron.core.pipeline_parallel import get_forward_backward_func

        length, topology = self.config.model.sequence_length, self.topology
        vocabulary = self.config.vocabulary_size(self.work.tokenizer.size)
        most = LOGITS_AT_ONCE * topology.tensor.size // (length * vocabulary)
        size = max(1, min(self.config.training.evaluation_batch, most, len(tokens)))
        parts = self.decoder.parts
        batches = -(-len(tokens) // (size * parts)) * parts
        order = np.arange(batches * size)
        kinds = np.where((order < len(tokens))[:, None], kinds[order % len(tokens)], -1)
        total = torch.zeros(2, KINDS, dtype=torch.float64, device=topology.device)
        rows = order.reshape(batches, size)
        for first in range(0, batches, TOGETHER * parts):
            self.decoder.check()
            scored = [
                (self._batch(tokens[part % len(tokens)], labels[part % len(tokens)]), kinds[part])
                for part in rows[first : first + TOGETHER * parts]
            ]
            sums = get_forward_backward_func()(
                forward_step_func=_score,
                data_iterator=[iter(scored) for _ in self.chunks],
                model=self.chunks,
                num_microbatches=len(scored),
                seq_length=length,
                micro_batch_size=size,
                forward_only=True,
                collect_non_loss_data=True,
            )
            if topology.is_last_stage:
                total += torch.stack(sums).sum(dim=0)
        return total

    def _batch(self, tokens: np.ndarray, labels: np.ndarray) -> Batch:
        inputs = torch.from_numpy(tokens)
        return Batch(
            inputs,
            torch.from_numpy(labels),
            torch.ones(inputs.shape),
            inputs.numel(),
            positions_of(inputs == self.work.end_id) if self.config.data.document_mask else None,
        ).to(self.topology.device)

    def _generate(self) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Continue the beginnings of held-out documents; every rank continues all of them."""
        units = min(GENERATED, self.config.model.sequence_length // 2)
        prompts = list(self._prompts(self.config.model.sequence_length - units))
        if not prompts:
            return {}, []
        tokenizer, restore = self.work.tokenizer, self.work.transform.restore
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
                    "source": shown(restore(prompt[prompt != self.work.end_id])),
                    "target": shown(true),
                    "prediction": shown(restored),
                    "raw": shown(raw),
                    "selected": [shown([token]) for token in self._plans(raw)],
                }
            )
        return generation_metrics(generated, pairs), samples

    def _finished(self, raw: np.ndarray) -> np.ndarray:
        """Written tokens up to the end, without a token whose closing mark was cut off."""
        ended = np.flatnonzero(raw == self.work.end_id)
        raw = raw[: ended[0]] if len(ended) else raw
        transform = self.work.transform
        cut_off = isinstance(transform, Insert) and transform.opening in raw[-2:-1]
        return raw[:-2] if cut_off else raw

    def _prompts(self, room: int) -> Iterator[tuple[int, np.ndarray]]:
        """(sentence from which to go on, tokens before it) of documents whose first sentences fit
        `room`; half of the document's sentences at most."""
        found = 0
        for first, last in (self.text.firsts[turn : turn + 2] for turn in self.turns):
            laid = self._laid_out(self.work.transform, int(first), int(last))
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
        transform = self.work.transform
        if isinstance(transform, Keep):
            return []
        opens = (raw[:-2] == transform.opening) & (raw[2:] == transform.closing)
        return [int(token) for token in raw[1:-1][opens]]

    def _sentences(self) -> list[dict[str, Any]]:
        """The first held-out sentences with the place of the token that is selected in each."""
        if self.config.selection.strategy in ("ntp", "blank"):
            return []
        shown, sentences = partial(self.work.tokenizer.decode, specials=True), self.text.sentences
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
    """Bytes of a text in UTF-8; None where its tokens do not tell: words leave out what is between
    them, and <unk> can be anything."""
    if isinstance(tokenizer, WordTokenizer) or tokenizer.unknown_id in text.sentences.tokens:
        return None
    documents = text.documents
    return sum(
        len(tokenizer.decode(documents.between(number, number + 1).tokens).encode())
        for number in range(len(documents))
    )


def _rows(values: np.ndarray, count: int, length: int, fill: int) -> np.ndarray:
    """[n] cut into [count, length], the rest filled."""
    rows = np.full(count * length, fill, dtype=np.int64)
    rows[: len(values)] = values
    return rows.reshape(count, length)


def _score(batches: Iterator[tuple[Batch, np.ndarray]], chunk: Any) -> tuple[Tensor, Any]:
    """Megatron's forward step: output of the chunk, and sums over its labels by kind."""
    from pretrain.model.gpt import document_inputs

    batch, kinds = next(batches)
    output = chunk(
        input_ids=batch.tokens,
        **document_inputs(batch.tokens, batch.positions),
        labels=batch.labels,
    )

    def sums(losses_bs: Tensor, non_loss_data: bool) -> Tensor:
        return sums_by_kind(losses_bs, torch.from_numpy(kinds).to(losses_bs.device))

    return output, sums

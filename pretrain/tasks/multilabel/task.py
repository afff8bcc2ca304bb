"""Multi-label classification in a training job: sets of labels as sequences.

A model writes the labels of a text one by one and then the end; the selection says in which order
it learns to. Sets are put back into natural order before anything is scored.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.config import FITTED_STRATEGIES, Config
from pretrain.data.batch import Batch, Rows, Sampler
from pretrain.data.tokenizers import Tokenizer
from pretrain.distributed.topology import Topology
from pretrain.errors import ConfigError, UserError
from pretrain.ragged import Documents, Examples, stream_of
from pretrain.selection.estimators.information import presence_information
from pretrain.selection.estimators.pointwise import Scorer
from pretrain.selection.orders.labels import SortLabels, natural_order, order_labels, sort_by_scores
from pretrain.selection.schedule import Fitter, SelectionSchedule, evidence, origin, pointwise_of
from pretrain.selection.selector import Selection, counting_device
from pretrain.selection.table.collectives import world
from pretrain.selection.table.counts import Pairs, Progress, ShardedCounts, count_pairs
from pretrain.selection.table.store import Content
from pretrain.tasks.base import SAMPLES, Evaluation, FixedExamples, equal_batches
from pretrain.tasks.multilabel.data import END, LabelledExamples, Multilabel
from pretrain.tasks.multilabel.scores import LabelCounts, count_labels

if TYPE_CHECKING:
    from pretrain.inference.forward import Forward

SAMPLE_TOKENS = 40
"""Tokens of a text that a sample shows."""
MANY = 3
"""Texts with as many labels are scored apart: with one or two, there is little to order."""
PRESENCE: dict[str, Literal["sum", "top"]] = {"presence": "sum", "presence_top": "top"}


class LabelFitter:
    """Orders labels: all sets alike, or each by what the words of its text tell.

    Args:
        config: `selection` says how.
        task: where examples come from.
    """

    def __init__(self, config: Config, task: Multilabel) -> None:
        self.config = config
        self.task = task

    @property
    def made_from(self) -> dict[str, Any]:
        """What a table depends on."""
        task, estimator = self.task, self.config.selection.estimator
        return origin(self.config, task.train.checksum, task.tokenizer, estimator=estimator)

    @property
    def tokens(self) -> int:
        """Each token of a text and each label is counted twice."""
        train = self.task.train
        return 2 * (len(train.source.tokens) + len(train.target.tokens))

    def fit(
        self, group: dist.ProcessGroup | None, progress: Progress
    ) -> tuple[Selection, ShardedCounts | None]:
        """Fit on this reader's share of the training split, together with the others.

        Raises:
            UserError: the table does not fit `selection.memory_gb`, or another reader died.
        """
        settings, names = self.config.selection, self.task.label_names
        if settings.strategy not in FITTED_STRATEGIES:
            target = self.task.train.target.tokens
            documents = np.bincount(target, minlength=len(names))
            order = order_labels(
                settings.strategy, len(names), documents, seed=settings.seed, fixed=settings.fixed
            )
            return Selection(settings.strategy, tuple(order.tolist()), names), None
        started = time.perf_counter()
        mine = self.task.train.shard(*world(group))
        try:
            table = count_pairs(
                stream_of(Examples(mine.source, mine.target), settings.chunk_tokens),
                self.task.tokenizer.text.size,
                len(names),
                Pairs(presence=True),
                group,
                settings.memory_bytes,
                progress=progress,
                device=counting_device(settings),
            )
            return self._selection(table, time.perf_counter() - started), table
        except ValueError as error:
            raise UserError(f"selection.memory_gb {settings.memory_gb}: {error}") from error

    def select(self, table: Content) -> Selection:
        """The order that a table implies; every reader calls it."""
        if not isinstance(table, ShardedCounts) or not table.pairs.presence:
            raise UserError("the table holds no words by labels, which data.task multilabel asks")
        return self._selection(table, 0.0)

    def _selection(self, table: ShardedCounts, seconds: float) -> Selection:
        settings, names = self.config.selection, self.task.label_names
        order: tuple[int, ...] = ()
        bits = None
        if settings.estimator in PRESENCE:
            told = presence_information(table, PRESENCE[settings.estimator])
            order = tuple(order_labels(settings.strategy, len(names), bits=told).tolist())
            bits = tuple(told.tolist())
        own = None if order else evidence(table, settings)
        return Selection(
            strategy=settings.strategy,
            order=order,
            unit_names=names,
            estimator=settings.estimator,
            bits=bits,
            examples=table.marginals.documents,
            rows=sum(table.rows_per_rank),
            rows_per_rank=table.rows_per_rank,
            seconds=seconds,
            evidence=own,
        )

    def stream(self, table: Content, indices: np.ndarray) -> Iterable[Examples]:
        """Training examples of these indices as rows and columns of the table."""
        chosen = self.task.train.take(indices)
        return Examples(chosen.source, chosen.target).chunks(self.config.selection.chunk_tokens)


class Ordering:
    """Puts sets of labels into the order in which they are predicted.

    Args:
        config: `selection` says how labels of one text are scored.
        schedule: holds the table that they are scored by.
    """

    def __init__(self, config: Config, schedule: SelectionSchedule) -> None:
        self.settings = config.selection
        self.schedule = schedule

    @cached_property
    def scorer(self) -> Scorer:
        """Scores the labels of a text by its words."""
        table = self.schedule.table
        assert isinstance(table, ShardedCounts)
        return Scorer(table, pointwise_of(self.settings))

    def __call__(self, examples: LabelledExamples, selection: Selection) -> Documents:
        """Label numbers of each example as predicted; every reader calls it alike.

        Args:
            examples: of this reader.
            selection: the order of all labels, or none where each text has its own.

        Raises:
            UserError: another reader died.
        """
        if selection.order:
            return SortLabels(np.array(selection.order)).apply(examples.target)
        scores = self.scorer(examples.source, examples.target)
        return sort_by_scores(examples.target, scores, selection.strategy == "max_mi")


class LabelSource:
    """Batches of texts with their labels in the order of the selection.

    Args:
        task: where examples come from.
        sampler: which examples a step sees.
        schedule: step -> selection; called on every rank for each step once, in order.
        ordering: puts labels into that order.
        rank, ranks: this reader among the readers; what others pass here is not used.
        length: positions of the model.
    """

    fields = ()

    def __init__(
        self,
        task: Multilabel,
        sampler: Sampler,
        schedule: SelectionSchedule,
        ordering: Ordering,
        rank: int,
        ranks: int,
        length: int,
    ) -> None:
        self.task = task
        self.sampler = sampler
        self.selection_at = schedule
        self.ordering = ordering
        self.rank = rank
        self.ranks = ranks
        self.length = length

    def read(self, step: int, selection: Selection) -> Rows:
        """Tokens, labels and loss mask of this reader's share of a step, each [share, length]."""
        examples = self.task.train.take(self.sampler.indices(step, self.rank, self.ranks))
        target = self.ordering(examples, selection)
        return Rows(*self.task.sequences(examples.source, target, self.length))


class MultilabelWork(FixedExamples):
    """Multi-label classification as a training job sees it.

    Raises:
        ConfigError: see :class:`pretrain.tasks.multilabel.data.Multilabel`, or
            `selection.fixed` does not fit the labels.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.task = task = Multilabel(config)
        fixed, labels = config.selection.fixed, len(task.label_names)
        if config.selection.strategy == "fixed" and fixed is not None and len(fixed) != labels:
            raise ConfigError(
                f"selection.fixed orders {len(fixed)} labels, but {labels} are kept; name each of "
                f"0 to {labels - 1} once, numbered alphabetically"
            )
        self.tokenizer: Tokenizer = task.tokenizer
        self.examples = len(task.train)
        self.summary = str(self.task)
        self.fitter: Fitter = LabelFitter(config, task)
        self.facts: dict[str, Any] = {"longest": task.longest}

    def source(
        self, schedule: SelectionSchedule, sampler: Sampler, topology: Topology
    ) -> LabelSource:
        """Batches of this rank."""
        return LabelSource(
            self.task,
            sampler,
            schedule,
            Ordering(self.config, schedule),
            topology.reader_rank,
            topology.data.size,
            self.config.model.sequence_length,
        )

    def evaluator(self, forward: Forward, schedule: SelectionSchedule) -> LabelEvaluator:
        """Scores the model that `forward` runs."""
        ordering = Ordering(self.config, schedule)
        return LabelEvaluator(self.config, forward, self.task, ordering, schedule.current)


class DistinctLabels:
    """Allows labels that are not written yet, and the end.

    Args:
        first: token id of label 0.
        labels: number of labels.
        end_id: token id of the end; after it, only it is allowed.
        vocabulary: rows of the model's embedding.
        counts: [rows] labels that each row has to write, if that is known; the end is allowed after
            them and nothing else.
    """

    def __init__(
        self, first: int, labels: int, end_id: int, vocabulary: int, counts: Tensor | None = None
    ) -> None:
        self.labels = slice(first, first + labels)
        self.end_id = end_id
        self.vocabulary = vocabulary
        self.counts = counts

    def allowed(self, rows: Tensor, written_rn: Tensor) -> Tensor:
        """[r, vocabulary] bool tokens that may come next; see
        :class:`pretrain.inference.decoding.Constraint`."""
        ended = (written_rn == self.end_id).any(dim=1)
        more = ~ended
        end = torch.ones_like(ended)
        if self.counts is not None:
            more &= self.counts[rows] > written_rn.size(1)
            end = ~more
        allowed = torch.zeros(len(rows), self.vocabulary, dtype=torch.bool, device=rows.device)
        allowed[:, self.labels] = more[:, None]
        allowed.scatter_(1, written_rn, False)
        allowed[:, self.end_id] = end
        return allowed


class LabelEvaluator:
    """Writes the labels of held-out texts, each data-parallel rank its share, and scores the sets.

    Labels that were written are not written again. Scores are of the labels that the task has; see
    :class:`pretrain.tasks.multilabel.data.Multilabel`. Metrics:

    - `micro_f1`, `macro_f1`, `subset_accuracy`, `predicted_length` and `actual_length` (labels per
      text): see :mod:`pretrain.tasks.multilabel.scores`.
    - the same with `_3plus`: of the texts that have three labels or more.
    - `micro_f1_at_true_length`, also with `_3plus`: each text gets as many labels as it has, so
      that how many a model writes does not count.
    - `loss`: nats per label or end, in the order of the selection, each after those before it.
    - `label_coverage`: share of the held-out texts' labels that the task has.
    """

    def __init__(
        self,
        config: Config,
        forward: Forward,
        task: Multilabel,
        ordering: Ordering,
        selection: Selection,
    ) -> None:
        from pretrain.inference.decoding import GreedyDecoder  # loads Megatron-Core

        self.config = config
        self.forward = forward
        self.topology = topology = forward.topology
        self.task = task
        held_out = task.test.head(config.training.evaluation_examples)
        self.examples = len(held_out)
        self.share = -(-self.examples // topology.data.size)
        self.mine = held_out.shard(topology.data.rank, topology.data.size)
        # Before batches are read: readers cannot score for both at once.
        self.own_orders = None
        if not selection.order:
            self.own_orders = order_together(ordering, self.mine, selection, topology)
        self.end_id = task.tokenizer.special(END)
        self.decoder = GreedyDecoder(forward)

    def run(self, selection: Selection) -> Evaluation:
        """Write, restore, score, and add up over the data-parallel ranks.

        Args:
            selection: how labels are predicted now; sets need none to be restored.
        """
        started = time.perf_counter()
        mine = self.mine
        raw = self.write(mine.source)
        forced = self.write(mine.source, mine.target.lengths)
        metrics = self._scores(natural_order(raw), natural_order(forced), mine.target)
        metrics["loss"] = self._loss(self._ordered(selection))
        metrics["label_coverage"] = self.task.coverage
        return Evaluation(
            headline="micro_f1",
            higher_is_better=True,
            metrics=metrics,
            unit_accuracy=(),
            examples=self.examples,
            seconds=time.perf_counter() - started,
            samples=tuple(self._samples(mine, raw)),
        )

    def write(self, source: Documents, counts: np.ndarray | None = None) -> Documents:
        """Label numbers that the model writes for each text, in its order.

        Args:
            source: this rank's texts, no more than its share.
            counts: [texts] labels to write for each; until the model ends if not given.
        """
        real = len(source)
        if real == 0:  # a rank without texts keeps the others company
            source, counts = Documents.of([[]]), None if counts is None else np.zeros(1, np.int64)
        prompts, lengths = self.task.prompts(source)
        written: list[np.ndarray] = []
        for rows in equal_batches(self.share, self.config.training.evaluation_batch):
            chosen = rows % len(source)
            tokens = self.decoder.generate(
                prompts[chosen],
                self.task.longest,
                self.task.tokenizer.pad_id,
                lengths[chosen],
                self._constraint(None if counts is None else counts[chosen]),
            )
            written += list(tokens)
        return self._numbers(written[:real])

    def _ordered(self, selection: Selection) -> Documents:
        if self.own_orders is not None:
            return self.own_orders
        return SortLabels(np.array(selection.order)).apply(self.mine.target)

    def _loss(self, target: Documents) -> float:
        """Nats per target token over all data-parallel ranks."""
        real, length = len(target), self.config.model.sequence_length
        source = self.mine.source
        if real == 0:
            source = target = Documents.of([[]])
        tokens, labels, mask = self.task.sequences(source, target, length)
        sums = torch.zeros(2, dtype=torch.float64)
        for rows in equal_batches(self.share, self.config.training.evaluation_batch):
            chosen = rows % len(source)
            counted = mask[chosen] * (rows < real)[:, None]
            sums[0] += self._nats(tokens[chosen], labels[chosen], counted)
            sums[1] += float(counted.sum())
        sums = self.topology.sum_of_last_stages(sums.to(self.topology.device))
        return float(sums[0] / sums[1])

    def _nats(self, tokens: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> float:
        """Summed loss of sequences [n, s] on the last stage, 0 on others."""
        from pretrain.inference.forward import summed_nats

        parts = self.forward.parts
        more = ((0, -len(tokens) % parts), (0, 0))
        inputs, wanted, counted = (
            torch.from_numpy(np.pad(array, more)) for array in (tokens, labels, mask)
        )
        size = len(inputs) // parts
        batch = Batch(inputs, wanted, counted, int(mask.sum())).to(self.topology.device)
        sums = self.forward.run(
            list(batch.micro_batches(size)),
            (size, tokens.shape[1]),
            summed_nats,
            lambda nats, _: nats,
        )
        return float(torch.stack(sums).sum()) if sums else 0.0

    def _constraint(self, counts: np.ndarray | None) -> DistinctLabels:
        task, device = self.task, self.topology.device
        return DistinctLabels(
            task.first_label,
            len(task.label_names),
            self.end_id,
            self.forward.vocabulary,
            None if counts is None else torch.from_numpy(counts).to(device),
        )

    def _numbers(self, written: list[np.ndarray]) -> Documents:
        """Label numbers up to the end; a token that is no label becomes -1, which is no label."""
        sets = []
        for tokens in written:
            ends = np.flatnonzero(np.isin(tokens, (self.end_id, self.task.tokenizer.pad_id)))
            numbers = tokens[: ends[0] if len(ends) else None] - self.task.first_label
            sets.append(np.maximum(numbers, -1))
        return Documents.of(sets)

    def _scores(self, free: Documents, forced: Documents, actual: Documents) -> dict[str, float]:
        """Metrics over all data-parallel ranks, of this rank's sets."""
        numbers = np.stack(
            [
                count_labels(
                    predicted.take(chosen), actual.take(chosen), len(self.task.label_names)
                ).to_numbers()
                for chosen in (np.arange(len(actual)), np.flatnonzero(actual.lengths >= MANY))
                for predicted in (free, forced)
            ]
        )
        totals = torch.from_numpy(numbers).to(self.topology.device)
        if self.topology.data.size > 1:
            dist.all_reduce(totals, group=self.topology.data.group)
        of_all, of_all_forced, of_many, of_many_forced = (
            LabelCounts.from_numbers(row) for row in totals.cpu().numpy()
        )
        return {
            **of_all.metrics(),
            "micro_f1_at_true_length": of_all_forced.micro_f1,
            **{f"{name}_3plus": value for name, value in of_many.metrics().items()},
            "micro_f1_at_true_length_3plus": of_many_forced.micro_f1,
        }

    def _samples(self, examples: LabelledExamples, raw: Documents) -> list[dict[str, Any]]:
        count = min(SAMPLES, len(examples))
        return [
            self._sample(examples.take(np.array([i])), raw.between(i, i + 1)) for i in range(count)
        ]

    def _sample(self, example: LabelledExamples, raw: Documents) -> dict[str, Any]:
        text = example.source.tokens
        cut = " ..." if len(text) > SAMPLE_TOKENS else ""
        natural = natural_order(raw)
        return {
            "source": self.task.tokenizer.decode(text[:SAMPLE_TOKENS], specials=True) + cut,
            "target": self._names(example.target),
            "prediction": self._names(natural),
            "raw": self._names(raw),
            "correct": natural.tokens.tolist() == example.target.tokens.tolist(),
        }

    def _names(self, labels: Documents) -> str:
        return self.task.tokenizer.decode(labels.tokens + np.int32(self.task.first_label), True)


def order_together(
    ordering: Ordering, examples: LabelledExamples, selection: Selection, topology: Topology
) -> Documents:
    """Labels of a data-parallel rank's examples as predicted, the same on every rank of its copy
    of the model: its reader finds the order and tells the others."""
    tokens = torch.from_numpy(examples.target.tokens.copy())
    if topology.readers is not None:
        tokens = torch.from_numpy(ordering(examples, selection).tokens)
    if topology.feed.size > 1:
        group = topology.feed.group
        dist.broadcast(tokens, dist.get_global_rank(group, 0), group=group)
    return Documents(tokens.numpy(), examples.target.offsets)
